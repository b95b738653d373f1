package login

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
)

// helpers puts real commands into $PATH.
func helpers(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\nread server\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestCredentialHelpers(t *testing.T) {
	helpers(t, map[string]string{
		"good":     `printf '{"Username": "%s", "Secret": "s"}' "$1:$server"`,
		"identity": `echo '{"Username": "<token>", "Secret": "id"}'`,
		"knowing":  `echo "credentials not found in native keychain"; exit 1`,
		"broken":   `echo canary-out; echo canary-err >&2; exit 3`,
		"babbling": `echo canary-out`,
		"silent":   `echo '{"Username": "u", "Secret": ""}'`,
	})
	const auths = `"auths": {"r.example.com": {"username": "inline", "password": "p"}}`
	inline := authn.AuthConfig{Username: "inline", Password: "p"}
	tests := map[string]struct {
		conf, repo string
		want       authn.AuthConfig
		err        string
	}{
		"a registry's helper is asked before the auths": {
			conf: `{"credHelpers": {"r.example.com": "good"}, ` + auths + `}`,
			want: authn.AuthConfig{Username: "get:r.example.com", Password: "s"},
		},
		"a helper may be named with a scheme": {
			conf: `{"credHelpers": {"https://R.example.com/v2/": "good"}}`,
			want: authn.AuthConfig{Username: "get:r.example.com", Password: "s"},
		},
		"the store is asked for what has no auths": {
			conf: `{"credsStore": "good", "auths": {"r.example.com": {}}}`,
			want: authn.AuthConfig{Username: "get:r.example.com", Password: "s"},
		},
		"auths come before the store":                    {conf: `{"credsStore": "good", ` + auths + `}`, want: inline},
		"a helper that knows nothing leaves it to auths": {conf: `{"credHelpers": {"r.example.com": "knowing"}, ` + auths + `}`, want: inline},
		"a store that knows nothing is anonymous":        {conf: `{"credsStore": "knowing"}`},
		"another registry's helper is not asked":         {conf: `{"credHelpers": {"other.example.com": "broken"}}`},
		"docker hub is asked for by its old name": {
			conf: `{"credHelpers": {"docker.io": "good"}}`, repo: "docker.io/team/app",
			want: authn.AuthConfig{Username: "get:https://index.docker.io/v1/", Password: "s"},
		},
		"an identity token is told by its user":  {conf: `{"credsStore": "identity"}`, want: authn.AuthConfig{IdentityToken: "id"}},
		"a failing helper is named, not quoted":  {conf: `{"credsStore": "broken"}`, err: "docker-credential-broken for r.example.com failed: exit status 3"},
		"a babbling helper is named, not quoted": {conf: `{"credsStore": "babbling"}`, err: "its answer is not JSON"},
		"no secret is an error":                  {conf: `{"credsStore": "silent"}`, err: "holds no secret"},
		"a helper that is not installed":         {conf: `{"credsStore": "absent"}`, err: "docker-credential-absent is not in the agent's $PATH"},
		"a helper's name is no path":             {conf: `{"credsStore": "../../bin/sh"}`, err: "not the ending of a command's name"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			repo := tt.repo
			if repo == "" {
				repo = "r.example.com/app"
			}
			got, err := resolve(t, Files(Paths{DockerConfig: write(t, "config.json", tt.conf)}), repo)
			if tt.err == "" {
				got.Auth = ""
				if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
					t.Errorf("%v\n%s", err, diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
}
