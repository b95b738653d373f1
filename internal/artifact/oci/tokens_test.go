package oci_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/testenv"
)

func TestTokenServiceFaults(t *testing.T) {
	cases := []struct {
		name   string
		answer http.HandlerFunc
		want   error
		after  time.Duration
	}{
		{"too many requests", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "9")
			w.WriteHeader(http.StatusTooManyRequests)
		}, oci.ErrRateLimited, 9 * time.Second},
		{"down", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "11")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, oci.ErrUnavailable, 11 * time.Second},
		{"a page for people", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>"+password) }, oci.ErrUnavailable, 0},
		{"no token", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"refresh_token":"`+password+`"}`)
		}, oci.ErrUnavailable, 0},
		{"endless", func(w http.ResponseWriter, req *http.Request) { forever(w, req, `{"token":`, new(atomic.Int64)) }, oci.ErrUnavailable, 0},
		{"not there", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, oci.ErrUnavailable, 0},
		{"cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, oci.ErrNetwork, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var s *httptest.Server
			s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/token" {
					c.answer(w, req)
					return
				}
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.URL+`/token",service="x"`)
				w.WriteHeader(http.StatusUnauthorized)
			}))
			t.Cleanup(s.Close)
			_, err := newClient(t).Repository(access(t, strings.TrimPrefix(s.URL, "http://"), robot, oci.Route{})).Digest(t.Context(), "v1")
			expect(t, err, c.want)
			var e *oci.Error
			if !errors.As(err, &e) {
				t.Fatalf("error %T", err)
			}
			if after, _ := e.RetryAfter(); after != c.after {
				t.Errorf("come back after %v, want %v", after, c.after)
			}
		})
	}
}

// tokenRegistry wants tokens of the service at /token and lets through who has one; answers to everything else are the test's.
func tokenRegistry(t *testing.T, challenge func(url string) []string, token, answer http.HandlerFunc) string {
	t.Helper()
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == "/token":
			token(w, req)
		case strings.HasPrefix(req.Header.Get("Authorization"), "Bearer "):
			answer(w, req)
		default:
			w.Header()["Www-Authenticate"] = challenge(s.URL)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestChallenges(t *testing.T) {
	cases := []struct {
		name      string
		challenge func(url string) []string
	}{
		{"one", func(url string) []string { return []string{`Bearer realm="` + url + `/token",service="x"`} }},
		{"lower case, in another order, with spaces", func(url string) []string {
			return []string{`bearer service="x", realm="` + url + `/token" , scope="repository:team/app:pull"`}
		}},
		{"bearer after basic", func(url string) []string {
			return []string{`Basic realm="b"`, `Bearer realm="` + url + `/token",service="x"`}
		}},
		{"bearer before basic", func(url string) []string {
			return []string{`Bearer realm="` + url + `/token",service="x"`, `Basic realm="b"`}
		}},
		{"bearer after basic, in one line", func(url string) []string {
			return []string{`Basic realm="b", Bearer realm="` + url + `/token",service="x"`}
		}},
		{"bearer before basic, in one line", func(url string) []string {
			return []string{`Bearer realm="` + url + `/token",service="x", Basic realm="b"`}
		}},
		{"one that nobody knows, too", func(url string) []string {
			return []string{`Negotiate`, `Bearer realm="` + url + `/token",service="x"`}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			issued, refused := 0, ""
			host := tokenRegistry(t, c.challenge, func(w http.ResponseWriter, req *http.Request) {
				issued++
				u, p, _ := req.BasicAuth()
				if u != user || p != password || req.FormValue("service") != "x" || !strings.HasPrefix(req.FormValue("scope"), "repository:team/app:") {
					t.Errorf("the token service was asked by %q for %q at %q", u, req.FormValue("scope"), req.FormValue("service"))
				}
				_, _ = fmt.Fprintf(w, `{"token": "t%d"}`, issued)
			}, func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Authorization") == refused {
					w.Header()["Www-Authenticate"] = c.challenge("http://" + req.Host)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				w.Header().Set("Docker-Content-Digest", hashOf(nil).String())
			})
			r := newClient(t).Repository(access(t, host, robot, oci.Route{}))
			for _, refused = range []string{"", "Bearer t1"} {
				if _, err := r.Digest(t.Context(), "v1"); err != nil {
					t.Error(err)
				}
			}
			if issued != 2 {
				t.Errorf("%d tokens, want 2", issued)
			}
		})
	}
}

func TestIdentityTokens(t *testing.T) {
	identity := authn.AuthConfig{Username: "<token>", IdentityToken: password}
	bearer := func(url string) []string { return []string{`Bearer realm="` + url + `/token",service="x"`} }
	head := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Content-Digest", hashOf(nil).String())
	}
	t.Run("are exchanged by POST, and never in the URL", func(t *testing.T) {
		host := tokenRegistry(t, bearer, func(w http.ResponseWriter, req *http.Request) {
			form := req.PostFormValue("grant_type") + " " + req.PostFormValue("refresh_token") + " " + req.PostFormValue("service")
			if req.Method != http.MethodPost || form != "refresh_token "+password+" x" || req.URL.RawQuery != "" {
				t.Errorf("%s %s with %s", req.Method, req.URL, form)
			}
			_, _ = io.WriteString(w, `{"access_token": "t1", "expires_in": 60}`)
		}, head)
		_, err := newClient(t).Repository(access(t, host, identity, oci.Route{})).Digest(t.Context(), "v1")
		must(t, err)
	})
	t.Run("are in no error, although the service repeats them", func(t *testing.T) {
		host := tokenRegistry(t, bearer, func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, `{"errors": [{"code": "DENIED", "message": "no such token: %s"}]}`, req.PostFormValue("refresh_token"))
		}, head)
		_, err := newClient(t).Repository(access(t, host, identity, oci.Route{})).Digest(t.Context(), "v1")
		expect(t, err, oci.ErrUnauthorized)
		if !strings.Contains(err.Error(), "DENIED: no such token") {
			t.Errorf("error %v does not say what the service said", err)
		}
	})
}

func TestCredentialsGoToNoRealmWithoutTLS(t *testing.T) {
	realm := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the token service was asked") }))
	t.Cleanup(realm.Close)
	reg := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm.URL+`/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(reg.Close)
	route := oci.Route{CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: reg.Certificate().Raw})}
	_, err := newClient(t).Repository(access(t, strings.TrimPrefix(reg.URL, "https://"), robot, route)).Digest(t.Context(), "v1")
	expect(t, err, oci.ErrUnavailable)
	if err == nil || !strings.Contains(err.Error(), "use https") {
		t.Errorf("error %v does not say what is wrong", err)
	}
}

func TestManyCallersLogInOnce(t *testing.T) {
	reg := testenv.NewRegistry(t)
	reg.RequireToken(user, password)
	push(t, newClient(t).Repository(access(t, reg.Host(), robot, oci.Route{})), "v1", []byte("layer"), nil)
	reg.Reset()
	r := newClient(t).Repository(access(t, reg.Host(), robot, oci.Route{}))
	ask := func() {
		t.Helper()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if _, err := r.Digest(t.Context(), "v1"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	t.Run("at first", func(t *testing.T) {
		ask()
		if pings, tokens := reg.Count("", "/v2/")-reg.Count("", "/manifests/"), reg.Count("", "/token"); pings != 1 || tokens != 1 {
			t.Errorf("%d pings and %d tokens, want one each", pings, tokens)
		}
	})
	t.Run("after the tokens were refused", func(t *testing.T) {
		reg.ExpireTokens()
		reg.Reset()
		ask()
		if n := reg.Count("", "/token"); n != 1 {
			t.Errorf("%d tokens, want 1", n)
		}
	})
}

func TestWaitingForALoginEndsWithTheContext(t *testing.T) {
	reg := testenv.NewRegistry(t)
	reg.Fail(testenv.Fault{Kind: testenv.FaultSlow, Delay: time.Minute, Path: "/v2/"})
	r := newClient(t).Repository(access(t, reg.Host(), robot, oci.Route{}))
	first, leave := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.Digest(first, "v1")
		done <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := r.Digest(ctx, "v1")
	expect(t, err, context.DeadlineExceeded)
	leave()
	expect(t, <-done, context.Canceled)
}
