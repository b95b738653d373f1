package oci

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

func TestHosts(t *testing.T) {
	k, err := DockerConfigKeychain([]byte(`{"auths": {
		"https://index.docker.io/v1/": {"username": "hub", "password": "hub"}, "docker.io/team": {"username": "team", "password": "team"},
		"[::1]:5000": {"username": "six", "password": "six"}, "https://registry.test:443/v2/": {"username": "port", "password": "port"},
		"*.cloud.test": {"username": "glob", "password": "glob"}, "*.cloud.test/team": {"username": "globteam", "password": "globteam"},
		"eu*.cloud.test:5000": {"username": "globport", "password": "globport"}, "one.cloud.test": {"username": "exact", "password": "exact"}
	}}`))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ repository, url, user string }{
		{"nginx", "https://index.docker.io/v2/library/nginx/manifests/v1", "hub"},
		{"docker.io/team/app", "https://index.docker.io/v2/team/app/manifests/v1", "team"},
		{"index.docker.io/team/app", "https://index.docker.io/v2/team/app/manifests/v1", "team"},
		{"registry-1.docker.io/other/app", "https://registry-1.docker.io/v2/other/app/manifests/v1", "hub"},
		{"[::1]:5000/app", "https://[::1]:5000/v2/app/manifests/v1", "six"},
		{"[2001:db8::1]:5000/app", "https://[2001:db8::1]:5000/v2/app/manifests/v1", ""},
		{"registry.test:443/app", "https://registry.test:443/v2/app/manifests/v1", "port"},
		{"localhost:5000/app", "https://localhost:5000/v2/app/manifests/v1", ""},
		{"two.cloud.test/app", "https://two.cloud.test/v2/app/manifests/v1", "glob"},
		{"two.cloud.test/team/app", "https://two.cloud.test/v2/team/app/manifests/v1", "globteam"},
		{"one.cloud.test/team/app", "https://one.cloud.test/v2/team/app/manifests/v1", "globteam"},
		{"one.cloud.test/app", "https://one.cloud.test/v2/app/manifests/v1", "exact"},
		{"eu1.cloud.test:5000/app", "https://eu1.cloud.test:5000/v2/app/manifests/v1", "globport"},
		{"us1.cloud.test:5000/app", "https://us1.cloud.test:5000/v2/app/manifests/v1", ""},
		{"a.two.cloud.test/app", "https://a.two.cloud.test/v2/app/manifests/v1", ""},
		{"two.cloud.test.evil.test/app", "https://two.cloud.test.evil.test/v2/app/manifests/v1", ""},
	}
	for _, c := range cases {
		t.Run(c.repository, func(t *testing.T) {
			repo, err := name.NewRepository(c.repository)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			client := New(transportFunc(func(r *http.Request) (*http.Response, error) {
				res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}
				if r.URL.Path != "/v2/" {
					user, _, _ := r.BasicAuth()
					got = append(got, r.URL.String(), user)
				}
				res.Header.Set(headerDigest, "sha256:"+strings.Repeat("a", 64))
				return res, nil
			}), "test")
			login := func(ctx context.Context) (authn.Authenticator, error) { return authn.Resolve(ctx, k, repo) }
			if _, err := client.Digest(t.Context(), Access{Repo: repo, Login: login}, "v1"); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]string{c.url, c.user}, got); d != "" {
				t.Errorf("sent (-want +got):\n%s", d)
			}
		})
	}
}
