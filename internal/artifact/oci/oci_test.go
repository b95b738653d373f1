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
		"no JSON": `hunter2`, "no auths": `{"ghcr.io": {"auth": "hunter2"}}`,
		"bad base64": `{"auths": {"ghcr.io": {"auth": "hunter2!"}}}`, "no object": `{"auths": {"ghcr.io": "hunter2"}}`,
	} {
		t.Run("refuses "+name+" without quoting it", func(t *testing.T) {
			if _, err := DockerConfigKeychain([]byte(raw)); err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func TestOneOfSeveralNamesForAPlaceIsAlwaysTheSame(t *testing.T) {
	repo, err := name.NewRepository("ghcr.io/app")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		k, err := DockerConfigKeychain([]byte(`{"auths": {
			"https://ghcr.io": {"username": "b", "password": "b"}, "https://ghcr.io/v1/": {"username": "c", "password": "c"},
			"ghcr.io": {"username": "a", "password": "a"}, "GHCR.io": {}
		}}`))
		if err != nil {
			t.Fatal(err)
		}
		a, err := authn.Resolve(t.Context(), k, repo)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.Authorization(); err != nil || got.Username != "a" {
			t.Fatalf("got %q, error %v", got.Username, err)
		}
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

func TestSideAnswersAreBounded(t *testing.T) {
	cases := []struct {
		name, path string
		status     int
		size, want int64
	}{
		{"an error of some length", "/v2/app/blobs/sha256:abc", http.StatusInternalServerError, maxErrors, maxErrors},
		{"a long error", "/v2/app/blobs/sha256:abc", http.StatusInternalServerError, maxErrors + 1, maxErrors},
		{"a long word of welcome", "/v2/", http.StatusOK, maxErrors + 1, maxErrors},
		{"a long blob", "/v2/app/blobs/sha256:abc", http.StatusOK, maxDocument + 1, maxDocument + 1},
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
			if n, err := io.Copy(io.Discard, res.Body); err != nil || n != c.want {
				t.Errorf("read %d bytes, error %v, want %d", n, err, c.want)
			}
		})
	}
}

func TestDocumentsAreBounded(t *testing.T) {
	for size, want := range map[int64]error{maxDocument: nil, maxDocument + 1: errTooLong} {
		_, err := read(&http.Response{Body: io.NopCloser(io.LimitReader(zeros{}, size))}, maxDocument)
		if !errors.Is(err, want) {
			t.Errorf("%d bytes: error %v, want %v", size, err, want)
		}
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestProxiesThatCannotBeReadAreNotQuoted(t *testing.T) {
	base := NewTransport()
	inTheEnvironment := "http://robot:hun ter2@proxy.test:3128"
	base.Proxy = unquoted(func(*http.Request) (*url.URL, error) { return url.Parse(inTheEnvironment) })
	repo, err := name.NewRepository("registry.test/app")
	if err != nil {
		t.Fatal(err)
	}
	login := func(context.Context) (authn.Authenticator, error) { return authn.Anonymous, nil }
	_, err = New(base, "test").Digest(t.Context(), Access{Repo: repo, Login: login}, "v1")
	if !errors.Is(err, ErrRoute) || strings.Contains(err.Error(), "ter2") || !strings.Contains(err.Error(), "HTTPS_PROXY") {
		t.Errorf("error %v", err)
	}
}

func TestScrub(t *testing.T) {
	for text, want := range map[string]string{
		"see https://robot:hunter2@registry.test/a?sig=hunter2#hunter2": "see https://registry.test/a",
		`Location "/a%zz?sig=hunter2"`:                                  `Location "/a%zz"`,
		"sent Bearer hunter2hunter2.hunter2 to it":                      "sent Bearer (hidden) to it",
		"sent authorization: BASIC aHVudGVyMg==":                        "sent authorization: BASIC (hidden)",
		"Basic authentication is off; is it?":                           "Basic authentication is off; is it?",
		"two\r\nlines\x1b[31m\u2028\u202e":                              "two  lines [31m  ",
	} {
		if got := scrub(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
