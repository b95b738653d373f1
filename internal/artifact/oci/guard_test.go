package oci

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

func TestTokensAreRenewedBeforeTheyExpire(t *testing.T) {
	cases := []struct {
		name   string
		answer string
		wait   time.Duration
		tokens int
	}{
		{"long before", `{"token": "t%d", "expires_in": 300}`, 4 * time.Minute, 1},
		{"shortly before", `{"token": "t%d", "expires_in": 300}`, 271 * time.Second, 2},
		{"shortly before, the other field", `{"access_token": "t%d", "expires_in": 60}`, 55 * time.Second, 2},
		{"after", `{"token": "t%d", "expires_in": 60}`, time.Minute, 2},
		{"not for a life beyond all bounds", `{"token": "t%d", "expires_in": 18446744074}`, 50 * time.Minute, 1},
		{"not where the service does not say", `{"token": "t%d"}`, 50 * time.Minute, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				issued, last := 0, ""
				client := New(transportFunc(func(r *http.Request) (*http.Response, error) {
					res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}
					switch r.URL.Path {
					case "/token":
						issued++
						res.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(c.answer, issued)))
					case "/v2/":
						res.StatusCode = http.StatusUnauthorized
						res.Header.Set("WWW-Authenticate", `Bearer realm="https://registry.test/token",service="x"`)
					default:
						last = r.Header.Get("Authorization")
						res.Header.Set(headerDigest, "sha256:"+strings.Repeat("a", 64))
					}
					return res, nil
				}), "test")
				repo, err := name.NewRepository("registry.test/app")
				if err != nil {
					t.Fatal(err)
				}
				r := client.Repository(Access{Repo: repo, Login: func(context.Context) (authn.Authenticator, error) { return authn.Anonymous, nil }})
				for range 2 {
					if _, err := r.Digest(t.Context(), "v1"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(c.wait)
				}
				if want := fmt.Sprintf("Bearer t%d", c.tokens); issued != c.tokens || last != want {
					t.Errorf("%d tokens, the last request had %q, want %d and %q", issued, last, c.tokens, want)
				}
			})
		})
	}
}

func TestRoutesShareTransports(t *testing.T) {
	c := New(NewTransport(), "test")
	proxy := Route{Proxy: &url.URL{Scheme: "http", Host: "proxy.test:3128", User: url.UserPassword("u", "p")}}
	other := Route{Proxy: &url.URL{Scheme: "http", Host: "proxy.test:3128", User: url.UserPassword("u", "q")}}
	for _, r := range []Route{{}, proxy, proxy, other, {}} {
		if _, _, err := c.through(r); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.routes); n != 2 {
		t.Errorf("%d transports besides the given one, want 2", n)
	}
	own := c.routes[proxy.key()]
	if own == c.base || own.ResponseHeaderTimeout != answerTimeout || own.TLSClientConfig.MinVersion != tls.VersionTLS12 {
		t.Error("a route's transport is not made like the given one")
	}
	c.sessions[sessionKey{repo: "a"}] = &session{route: other.key()}
	c.closeUnused()
	if len(c.routes) != 1 || c.routes[other.key()] == nil {
		t.Errorf("%d transports are left, want the one in use", len(c.routes))
	}
	c.Close()
	if len(c.routes) != 0 {
		t.Errorf("%d transports are left after Close", len(c.routes))
	}
	for _, bad := range []string{"ftp://proxy.test", "http://"} {
		u, err := url.Parse(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.through(Route{Proxy: u}); err == nil || !strings.Contains(err.Error(), "proxy: ") {
			t.Errorf("%s: error %v", bad, err)
		}
	}
}

func TestMayLead(t *testing.T) {
	cases := []struct {
		from, to string
		ok       bool
	}{
		{"https://registry.test/a", "https://cdn.test/b", true},
		{"https://registry.test/a", "https://10.0.0.7:9000/b", true}, // a store in the same cellar
		{"https://registry.test/a", "http://169.254.169.254/latest", false},
		{"https://registry.test/a", "http://[fe80::1]/b", false},
		{"https://registry.test/a", "http://127.0.0.1:8080/b", false},
		{"https://registry.test/a", "http://localhost/b", false},
		{"https://registry.test/a", "http://0.0.0.0/b", false},
		{"https://registry.test/a", "https://registry.test:444/b", true},
		{"http://127.0.0.1:5000/a", "http://127.0.0.2/b", true},
		{"https://169.254.1.1/a", "https://169.254.1.1/b", true},
		{"https://registry.test/a", "https://[fe80::1%25eth0]/b", false},
		{"https://registry.test/a", "https://[::ffff:169.254.169.254]/b", false},
		{"https://registry.test/a", "https://[::1]/b", false},
		{"https://registry.test/a", "https://LocalHost./b", false},
		{"https://registry.test/a", "https://metadata.localhost/b", false},
		{"https://registry.test/a", "https://[2001:db8::1]:5000/b", true},
	}
	for _, c := range cases {
		t.Run(c.from+" to "+c.to, func(t *testing.T) {
			from, err := url.Parse(c.from)
			if err != nil {
				t.Fatal(err)
			}
			to, err := url.Parse(c.to)
			if err != nil {
				t.Fatal(err)
			}
			if err := mayLead(from, to); (err == nil) != c.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestSessionsThatNobodyUsesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(transportFunc(func(r *http.Request) (*http.Response, error) {
			res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}
			res.Header.Set(headerDigest, "sha256:"+strings.Repeat("a", 64))
			return res, nil
		}), "test")
		ask := func(repository string) {
			repo, err := name.NewRepository("registry.test/" + repository)
			if err != nil {
				t.Fatal(err)
			}
			login := func(context.Context) (authn.Authenticator, error) { return authn.Anonymous, nil }
			if _, err := c.Digest(t.Context(), Access{Repo: repo, Login: login}, "v1"); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 20 {
			ask("steady")
			ask(fmt.Sprint("app", i))
			time.Sleep(loginAge / 2)
		}
		if n, turns := len(c.sessions), len(c.turns); n > 7 || turns > 7 || c.sessions[sessionKey{repo: "registry.test/steady"}] == nil {
			t.Errorf("%d sessions and %d turns, want those of the last two hours and the steady one", n, turns)
		}
	})
}

func TestFailedLoginsKeepNoTransports(t *testing.T) {
	c := New(NewTransport(), "test")
	repo, err := name.NewRepository("registry.test/app")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		route := Route{Proxy: &url.URL{Scheme: "http", Host: "127.0.0.1:1", User: url.UserPassword("u", fmt.Sprint(i))}}
		_, err := c.Digest(t.Context(), Access{
			Repo: repo, Login: func(context.Context) (authn.Authenticator, error) { return authn.Anonymous, nil },
			Route: func(context.Context) (Route, error) { return route, nil },
		}, "v1")
		if err == nil {
			t.Fatal("nobody listens there")
		}
	}
	if n := len(c.routes); n != 0 {
		t.Errorf("%d transports are kept", n)
	}
}
