package oci_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/distribution"
)

var robot = authn.AuthConfig{Username: user, Password: password}

// call is one thing that can be asked of a repository.
type call struct {
	name string
	do   func(context.Context, *oci.Repository, thing) error
}

// thing is what is asked for.
type thing struct {
	tag    string
	digest string
	layer  []byte
}

func calls() []call {
	return []call{
		{"Digest", func(ctx context.Context, r *oci.Repository, th thing) error {
			_, err := r.Digest(ctx, th.tag)
			return err
		}},
		{"Tags", func(ctx context.Context, r *oci.Repository, _ thing) error { _, err := r.Tags(ctx); return err }},
		{"Manifest", func(ctx context.Context, r *oci.Repository, th thing) error {
			_, err := r.Manifest(ctx, th.digest)
			return err
		}},
		{"Blob", func(ctx context.Context, r *oci.Repository, th thing) error {
			return r.Blob(ctx, blobOf("", th.layer), io.Discard)
		}},
		{"Referrers", func(ctx context.Context, r *oci.Repository, th thing) error {
			_, err := r.Referrers(ctx, th.digest)
			return err
		}},
		{"PutBlob", func(ctx context.Context, r *oci.Repository, _ thing) error {
			fresh := []byte(time.Now().String())
			return r.PutBlob(ctx, blobOf("", fresh), opens(fresh))
		}},
		{"PutManifest", func(ctx context.Context, r *oci.Repository, _ thing) error {
			return r.PutManifest(ctx, "application/vnd.oci.image.index.v1+json", []byte(`{"schemaVersion":2,"manifests":[]}`), "v2")
		}},
	}
}

// expect checks an error's kind, and that it is one line without secrets.
func expect(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
	if err != nil && (strings.Contains(err.Error(), password) || strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 2000) {
		t.Errorf("the error holds a secret or is no line: %q", err)
	}
}

func TestFaults(t *testing.T) {
	status := func(code int, after time.Duration) testenv.Fault {
		return testenv.Fault{Kind: testenv.FaultStatus, Status: code, RetryAfter: after}
	}
	cases := []struct {
		name  string
		fault testenv.Fault
		want  error
		after time.Duration
		only  string // calls that the fault is for; empty: all
	}{
		{"too many requests", status(429, 7*time.Second), oci.ErrRateLimited, 7 * time.Second, ""},
		{"an internal error", status(500, 0), oci.ErrUnavailable, 0, ""},
		{"a bad gateway", status(502, 0), oci.ErrUnavailable, 0, ""},
		{"maintenance", status(503, time.Minute), oci.ErrUnavailable, time.Minute, ""},
		{"forbidden", status(403, 0), oci.ErrUnauthorized, 0, ""},
		{"a connection that is cut before the answer", testenv.Fault{Kind: testenv.FaultReset}, oci.ErrNetwork, 0, ""},
		{"a connection that is cut within the answer", testenv.Fault{Kind: testenv.FaultTruncate, Method: http.MethodGet}, oci.ErrNetwork, 0, "Tags Manifest Blob Referrers"},
		{"an answer with a byte changed", testenv.Fault{Kind: testenv.FaultCorrupt, Method: http.MethodGet}, oci.ErrDigest, 0, "Manifest Blob"},
		{"a wrong digest for what was stored", testenv.Fault{Kind: testenv.FaultDigest}, oci.ErrDigest, 0, "PutBlob PutManifest"},
		{"no answer in time", testenv.Fault{Kind: testenv.FaultSlow, Delay: time.Minute}, context.DeadlineExceeded, 0, ""},
	}
	for _, c := range cases {
		for _, ask := range calls() {
			if c.only != "" && !strings.Contains(" "+c.only+" ", " "+ask.name+" ") {
				continue
			}
			t.Run(c.name+": "+ask.name, func(t *testing.T) {
				reg := testenv.NewRegistry(t)
				reg.RequireAuth(user, password)
				r := newClient(t).Repository(access(t, reg.Host(), robot, oci.Route{}))
				layer := bytes.Repeat([]byte("layer"), 1000)
				m := push(t, r, "v1", layer, nil)
				th := thing{"v1", m.Digest.String(), layer}
				must(t, ask.do(t.Context(), r, th)) // the sessions are there
				reg.Reset()

				reg.Fail(c.fault)
				ctx := t.Context()
				if c.fault.Delay > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
					defer cancel()
				}
				err := ask.do(ctx, r, th)
				expect(t, err, c.want)
				var e *oci.Error
				if after := time.Duration(0); errors.As(err, &e) {
					if after, _ = e.RetryAfter(); after != c.after {
						t.Errorf("come back after %v, want %v", after, c.after)
					}
				}
				if n := reg.Count("", ""); n > 3 {
					t.Errorf("%d requests: it must not be tried again and again", n)
				}
				reg.Heal()
				must(t, ask.do(t.Context(), r, th)) // nothing is lost
			})
		}
	}
}

func TestReferrersAreNeverTakenForNone(t *testing.T) {
	for _, path := range []string{"/referrers/", "/manifests/sha256-"} {
		for _, fault := range []testenv.Fault{{Kind: testenv.FaultStatus, Status: 503}, {Kind: testenv.FaultReset}, {Kind: testenv.FaultStatus, Status: 401}, {Kind: testenv.FaultStatus, Status: 429}} {
			t.Run(fmt.Sprintf("%s %d at %s", fault.Kind, fault.Status, path), func(t *testing.T) {
				reg := testenv.NewRegistry(t)
				r := newClient(t).Repository(access(t, reg.Host(), robot, oci.Route{}))
				m := push(t, r, "v1", []byte("layer"), nil)
				fault.Path = path
				reg.Fail(fault)
				reg.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 404, Path: "/referrers/"})
				if all, err := r.Referrers(t.Context(), m.Digest.String()); err == nil {
					t.Errorf("referrers %v without an error", all)
				}
			})
		}
	}
}

func TestAMissingTokenServiceIsNoMissingReferrer(t *testing.T) {
	reg := testenv.NewRegistry(t)
	reg.RequireToken(user, password)
	r := newClient(t).Repository(access(t, reg.Host(), robot, oci.Route{}))
	m := push(t, r, "v1", []byte("layer"), nil)
	if _, err := r.Referrers(t.Context(), m.Digest.String()); err != nil {
		t.Fatal(err)
	}
	reg.ExpireTokens()
	reg.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 404, Path: "/token"})
	_, err := r.Referrers(t.Context(), m.Digest.String())
	expect(t, err, oci.ErrUnavailable)
}

// hostile serves a registry that answers as the test likes. Answers count what was sent.
func hostile(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/v2/" {
			w.WriteHeader(http.StatusOK)
			return
		}
		answer(w, req)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// forever writes until the client has enough.
func forever(w io.Writer, req *http.Request, what string, sent *atomic.Int64) {
	for chunk := []byte(strings.Repeat(what, 1000)); req.Method != http.MethodHead && req.Context().Err() == nil; {
		n, err := w.Write(chunk)
		if sent.Add(int64(n)); err != nil {
			return
		}
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	const page = `<html><body>Please log in: https://portal.test/?session=` + password + `</body></html>`
	th := thing{"v1", hashOf([]byte("a manifest")).String(), []byte("a layer")}
	var sent atomic.Int64
	cases := []struct {
		name   string
		answer http.HandlerFunc
		want   map[string]error // for the calls that are not ErrUnavailable; nil: not asked
	}{
		{"a page for people", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, page)
		}, map[string]error{"Blob": oci.ErrDigest, "PutManifest": oci.ErrDigest}},
		{"an endless body", func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			forever(w, req, `{"tags": [`, &sent)
		}, map[string]error{"Blob": oci.ErrDigest, "PutBlob": nil}},
		{"an endless error", func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			forever(w, req, password, &sent)
		}, nil},
		{"an error that quotes secrets", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"errors":[{"code":"X","message":"see\nhttps://robot:`+password+`@registry.test/?sig=`+password+`"}]}`)
		}, nil},
	}
	for _, c := range cases {
		for _, ask := range calls() {
			want, special := c.want[ask.name]
			if special && want == nil {
				continue
			}
			if !special {
				want = oci.ErrUnavailable
			}
			t.Run(c.name+": "+ask.name, func(t *testing.T) {
				sent.Store(0)
				r := newClient(t).Repository(access(t, hostile(t, c.answer), robot, oci.Route{}))
				expect(t, ask.do(t.Context(), r, th), want)
				if n := sent.Load(); n > 48<<20 {
					t.Errorf("%d bytes were taken", n)
				}
			})
		}
	}
}

func TestEndlessLists(t *testing.T) {
	var requests atomic.Int64
	list := func(link func(n int64, req *http.Request) string) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			n := requests.Add(1)
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			w.Header().Set("Link", "<"+link(n, req)+`>; rel="next"`)
			d := blobOf("application/vnd.oci.image.manifest.v1+json", strconv.AppendInt(nil, n, 10))
			_, _ = fmt.Fprintf(w, `{"tags": ["v%d"], "manifests": [{"mediaType": %q, "digest": %q, "size": 1}]}`, n, d.MediaType, d.Digest)
		}
	}
	elsewhere := hostile(t, func(http.ResponseWriter, *http.Request) { t.Error("the list was followed to another host") })
	cases := []struct {
		name string
		link func(int64, *http.Request) string
		most int64
	}{
		{"pages without end", func(n int64, req *http.Request) string { return fmt.Sprintf("%s?last=%d", req.URL.Path, n) }, 4096},
		{"a page that leads to itself", func(_ int64, req *http.Request) string { return req.URL.RequestURI() }, 1},
		{"a page that leads to another host", func(int64, *http.Request) string { return "http://" + elsewhere + "/v2/team/app/tags/list" }, 1},
	}
	for _, c := range cases {
		for _, ask := range calls() {
			if ask.name != "Tags" && ask.name != "Referrers" {
				continue
			}
			t.Run(c.name+": "+ask.name, func(t *testing.T) {
				requests.Store(0)
				r := newClient(t).Repository(access(t, hostile(t, list(c.link)), robot, oci.Route{}))
				err := ask.do(t.Context(), r, thing{digest: hashOf(nil).String()})
				if err == nil || !strings.Contains(err.Error(), "has more than 1024 referrers") {
					expect(t, err, oci.ErrUnavailable)
				}
				if n := requests.Load(); n > c.most {
					t.Errorf("%d requests, want at most %d", n, c.most)
				}
			})
		}
	}
}

func TestRedirects(t *testing.T) {
	layer := []byte("a layer that lies elsewhere")
	var refuse atomic.Bool
	var credentials atomic.Value
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		credentials.Store(req.Header.Get("Authorization") + req.Header.Get("Cookie"))
		if refuse.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write(layer)
	}))
	t.Cleanup(elsewhere.Close)
	var authorized atomic.Bool
	host := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		authorized.Store(req.Header.Get("Authorization") != "")
		http.Redirect(w, req, elsewhere.URL+"/blob?X-Signature="+password, http.StatusTemporaryRedirect)
	})
	r := newClient(t).Repository(access(t, host, robot, oci.Route{}))
	t.Run("a blob on another host is fetched without credentials", func(t *testing.T) {
		var got bytes.Buffer
		if err := r.Blob(t.Context(), blobOf("", layer), &got); err != nil || !bytes.Equal(got.Bytes(), layer) {
			t.Fatalf("blob %q, error %v", got.Bytes(), err)
		}
		if !authorized.Load() || credentials.Load() != "" {
			t.Errorf("the registry got credentials: %t; the other host got %q", authorized.Load(), credentials.Load())
		}
	})
	t.Run("its refusal does not tell the signed URL", func(t *testing.T) {
		refuse.Store(true)
		expect(t, r.Blob(t.Context(), blobOf("", layer), io.Discard), oci.ErrUnauthorized)
	})
	t.Run("another host that is gone does not tell it either", func(t *testing.T) {
		elsewhere.Close()
		expect(t, r.Blob(t.Context(), blobOf("", layer), io.Discard), oci.ErrNetwork)
	})
	t.Run("going round in circles ends", func(t *testing.T) {
		n := 0
		host := hostile(t, func(w http.ResponseWriter, req *http.Request) {
			n++
			http.Redirect(w, req, req.URL.Path+"?"+strconv.Itoa(n), http.StatusFound)
		})
		expect(t, newClient(t).Repository(access(t, host, robot, oci.Route{})).Blob(t.Context(), blobOf("", layer), io.Discard), oci.ErrNetwork)
		if n > 11 {
			t.Errorf("%d requests", n)
		}
	})
}

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

func TestUploadsThatCannotBeRead(t *testing.T) {
	reg := distribution.New(t, distribution.Options{})
	r := newClient(t).Repository(access(t, reg.Host(), authn.AuthConfig{}, oci.Route{}))
	broken := errors.New("the disk is broken")
	d := v1.Descriptor{Digest: hashOf([]byte("x")), Size: 1 << 20}
	for name, open := range map[string]func() (io.ReadCloser, error){
		"not opened": func() (io.ReadCloser, error) { return nil, broken },
		"not read on": func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("begin"), failing{broken})), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := r.PutBlob(t.Context(), d, open); !errors.Is(err, broken) || errors.Is(err, oci.ErrNetwork) {
				t.Errorf("error %v, want what the disk said", err)
			}
		})
	}
	t.Run("a manifest is not stored under a digest that it does not have", func(t *testing.T) {
		if err := r.PutManifest(t.Context(), "application/json", []byte("{}"), d.Digest.String()); err == nil {
			t.Error("no error")
		}
	})
}

// failing is a reader that does nothing else.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
