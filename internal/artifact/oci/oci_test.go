package oci

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

func TestDockerConfigKeychain(t *testing.T) {
	k, err := DockerConfigKeychain([]byte(`{"auths": {
		"ghcr.io": {"auth": "aG9zdDpob3N0cGFzcw=="},
		"https://ghcr.io/team": {"username": "team", "password": "teampass"},
		"ghcr.io/team/app/": {"auth": "YXBwOmFwcDpwYXNz"},
		"https://index.docker.io/v1/": {"username": "hub", "password": "hubpass"},
		"http://registry.test:5000/v2/": {"username": "<token>", "identitytoken": "abc"},
		"Upper.Test": {"username": "u", "password": "p"},
		"empty.test": {}
	}}`))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ repo, user, pass, token string }{
		{"ghcr.io/other/app", "host", "hostpass", ""},
		{"ghcr.io/team/web", "team", "teampass", ""},
		{"ghcr.io/teammate/web", "host", "hostpass", ""},
		{"ghcr.io/team/app", "app", "app:pass", ""},
		{"ghcr.io/team/app/charts", "app", "app:pass", ""},
		{"docker.io/library/nginx", "hub", "hubpass", ""},
		{"registry.test:5000/a", "<token>", "", "abc"},
		{"upper.test/a", "u", "p", ""},
		{"empty.test/a", "", "", ""},
		{"other.test/a", "", "", ""},
		{"ghcr.io.evil.test/a", "", "", ""},
	}
	for _, c := range cases {
		t.Run(c.repo, func(t *testing.T) {
			repo, err := name.NewRepository(c.repo)
			if err != nil {
				t.Fatal(err)
			}
			a, err := k.Resolve(repo)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.Authorization()
			if err != nil {
				t.Fatal(err)
			}
			if got.Username != c.user || got.Password != c.pass || got.IdentityToken != c.token {
				t.Errorf("got %q %q %q", got.Username, got.Password, got.IdentityToken)
			}
		})
	}
	for name, raw := range map[string]string{
		"no JSON": `hunter2`, "no auths": `{"ghcr.io": {"auth": "hunter2"}}`, "bad base64": `{"auths": {"ghcr.io": {"auth": "hunter2!"}}}`, "no object": `{"auths": {"ghcr.io": "hunter2"}}`,
	} {
		t.Run("refuses "+name+" without quoting it", func(t *testing.T) {
			if _, err := DockerConfigKeychain([]byte(raw)); err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for h, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999999999": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:03:05 GMT": 0,
	} {
		if got := retryAfter(h, now); got != want {
			t.Errorf("%q: %v, want %v", h, got, want)
		}
	}
}

// transportFunc is a transport that answers by itself.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPlainHTTPNeedsLeave(t *testing.T) {
	var sent []string
	down := errors.New("down")
	c := New(transportFunc(func(r *http.Request) (*http.Response, error) {
		sent = append(sent, r.URL.Scheme+"://"+r.URL.Host)
		return nil, down
	}), "test")
	ask := func(host string, insecure bool) error {
		sent = nil
		opts := []name.Option{}
		if insecure {
			opts = append(opts, name.Insecure)
		}
		repo, err := name.NewRepository(host+"/app", opts...)
		if err != nil {
			t.Fatal(err)
		}
		login := func(context.Context) (authn.Authenticator, error) { return authn.Anonymous, nil }
		_, err = c.Digest(t.Context(), Access{Repo: repo, Insecure: insecure, Login: login}, "v1")
		return err
	}
	t.Run("a private address is no leave", func(t *testing.T) {
		err := ask("10.1.2.3:5000", false)
		if d := cmp.Diff([]string{"https://10.1.2.3:5000"}, sent); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
		if err == nil || !strings.Contains(err.Error(), "down; plain HTTP to 10.1.2.3:5000 is refused: set insecure: true") {
			t.Errorf("error: %v", err)
		}
	})
	t.Run("insecure is", func(t *testing.T) {
		err := ask("10.1.2.3:5000", true)
		if d := cmp.Diff([]string{"https://10.1.2.3:5000", "http://10.1.2.3:5000"}, sent); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
		if !errors.Is(err, ErrNetwork) {
			t.Errorf("error: %v", err)
		}
	})
}

func TestErrorsHoldNoSignedURLs(t *testing.T) {
	err := classify(t.Context(), &url.Error{Op: "Get", URL: "https://user:hunter2@cdn.test/blob?X-Signature=hunter2", Err: errors.New("broken")}, &terms{}, true)
	if got, want := err.Error(), "network error: Get https://cdn.test/blob: broken"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	cases := []struct {
		name, path string
		status     int
		size       int64
		whole      bool
	}{
		{"a manifest that is just short enough", "/v2/app/manifests/v1", 200, maxDocument, true},
		{"a manifest that is too long", "/v2/app/manifests/v1", 200, maxDocument + 1, false},
		{"a long page of tags", "/v2/app/tags/list", 200, maxDocument + 1, true},
		{"a page of tags that is too long", "/v2/app/tags/list", 200, maxTags + 1, false},
		{"a long blob", "/v2/app/blobs/sha256:abc", 200, maxDocument + 1, true},
		{"an error of some length", "/v2/app/blobs/sha256:abc", 500, maxErrors, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := &gate{base: transportFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: c.status, Body: io.NopCloser(io.LimitReader(zeros{}, c.size))}, nil
			})}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://registry.test"+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := g.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			n, err := io.Copy(io.Discard, res.Body)
			if c.whole != (err == nil && n == c.size) || !c.whole && !errors.Is(err, errTooLong) {
				t.Errorf("read %d bytes, error %v", n, err)
			}
		})
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
