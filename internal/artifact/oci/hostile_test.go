package oci_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/testenv/distribution"
)

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
		}, map[string]error{"Blob": oci.ErrDigest}},
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

func TestRegistriesThatRepeatWhatTheyWereSent(t *testing.T) {
	host := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Docker-Content-Digest", req.Header.Get("Authorization"))
		w.WriteHeader(http.StatusBadRequest)
		sent := req.Header.Get("Authorization")
		_, p, _ := req.BasicAuth()
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{
			"code": "X", "message": "Authorization: " + sent + "\u2028\u009b31m and " + strings.TrimPrefix(sent, "Basic ") + " and " + p + strings.Repeat(".", 275) + p,
		}}})
	})
	encoded := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	for _, ask := range calls() {
		t.Run(ask.name, func(t *testing.T) {
			err := ask.do(t.Context(), newClient(t).Repository(access(t, host, robot, oci.Route{})), thing{"v1", hashOf(nil).String(), []byte("layer")})
			if err == nil || strings.Contains(err.Error(), encoded) || strings.Contains(err.Error(), password[:4]) || strings.ContainsAny(err.Error(), "\u2028\u009b") {
				t.Errorf("error %q", err)
			}
		})
	}
	t.Run("in what is no HTTP", func(t *testing.T) {
		host := hostile(t, func(w http.ResponseWriter, req *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			must(t, err)
			_, _ = fmt.Fprintf(conn, "what is Authorization: %s?%s\r\n\r\n", req.Header.Get("Authorization"), strings.Repeat("x", 100_000))
			_ = conn.Close()
		})
		_, err := newClient(t).Repository(access(t, host, robot, oci.Route{})).Digest(t.Context(), "v1")
		expect(t, err, oci.ErrNetwork)
		if strings.Contains(err.Error(), encoded) {
			t.Errorf("error %q", err)
		}
	})
}

func TestAnErrorThatIsCutKeepsItsStatus(t *testing.T) {
	host := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"errors":`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, ask := range calls() {
		t.Run(ask.name, func(t *testing.T) {
			err := ask.do(t.Context(), newClient(t).Repository(access(t, host, robot, oci.Route{})), thing{"v1", hashOf(nil).String(), []byte("layer")})
			expect(t, err, oci.ErrRateLimited)
		})
	}
}

func TestAHostWithoutARegistryIsNoMissingArtifact(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	for _, ask := range calls() {
		t.Run(ask.name, func(t *testing.T) {
			r := newClient(t).Repository(access(t, strings.TrimPrefix(s.URL, "http://"), robot, oci.Route{}))
			err := ask.do(t.Context(), r, thing{"v1", hashOf(nil).String(), []byte("layer")})
			expect(t, err, oci.ErrUnavailable)
			if errors.Is(err, oci.ErrNotFound) {
				t.Errorf("error %v: somebody would take it for a missing signature", err)
			}
		})
	}
}

func TestPagesInManyForms(t *testing.T) {
	for name, link := range map[string]string{
		"a relative path":          `</v2/team/app/tags/list?last=v1&n=1>; rel="next"`,
		"a relative query":         `<?last=v1&n=1>; rel=next`,
		"without a relation":       `</v2/team/app/tags/list?last=v1&n=1>`,
		"among others":             `</v2/team/app/tags/list?first>; rel="first", </v2/team/app/tags/list?last=v1&n=1>; title="a, b"; REL="Next", <x>; rel="last"`,
		"of several relations":     `</v2/team/app/tags/list?last=v1&n=1>; rel="last next"`,
		"http before a TLS proxy":  `<http://HOST/v2/team/app/tags/list?last=v1&n=1>; rel="next"`,
		"https although it is not": `<https://HOST/v2/team/app/tags/list?last=v1&n=1>; rel="next"`,
	} {
		t.Run(name, func(t *testing.T) {
			host := hostile(t, func(w http.ResponseWriter, req *http.Request) {
				if req.FormValue("last") == "v1" {
					w.Header().Set("Link", `</v2/team/app/tags/list>; rel="prev"`)
					_, _ = io.WriteString(w, `{"tags": ["v2"]}`)
					return
				}
				w.Header().Set("Link", strings.ReplaceAll(link, "HOST", req.Host))
				_, _ = io.WriteString(w, `{"tags": ["v1"]}`)
			})
			tags, err := newClient(t).Repository(access(t, host, robot, oci.Route{})).Tags(t.Context())
			if d := cmp.Diff([]string{"v1", "v2"}, tags); d != "" || err != nil {
				t.Errorf("error %v; tags (-want +got):\n%s", err, d)
			}
		})
	}
}

func TestAReferrersPageThatIsGoneIsNoEnd(t *testing.T) {
	host := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.URL.Path, "/manifests/") || req.FormValue("page") == "2" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		w.Header().Set("Link", `<?page=2>; rel="next"`)
		_, _ = io.WriteString(w, `{"schemaVersion": 2, "manifests": []}`)
	})
	all, err := newClient(t).Repository(access(t, host, robot, oci.Route{})).Referrers(t.Context(), hashOf(nil).String())
	if err == nil {
		t.Errorf("referrers %v without an error", all)
	}
}

func TestABlobIsNotWrittenTwice(t *testing.T) {
	layer := bytes.Repeat([]byte("layer"), 100_000)
	var cut atomic.Bool
	reg := distribution.New(t, distribution.Options{ClientCA: true, Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") && cut.CompareAndSwap(true, false) {
				w.Header().Set("Content-Length", strconv.Itoa(len(layer)))
				_, _ = w.Write(layer[:len(layer)/2])
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, req)
		})
	}})
	route := oci.Route{CA: reg.CA, Cert: reg.Client, Key: reg.ClientKey}
	a := access(t, reg.Host(), authn.AuthConfig{}, oci.Route{})
	a.Route = func(context.Context) (oci.Route, error) { return route, nil }
	r := newClient(t).Repository(a)
	push(t, r, "v1", layer, nil)
	must(t, r.Blob(t.Context(), blobOf("", layer), io.Discard))
	cut.Store(true)
	route.CA = append(route.CA, '\n') // as after a rotation
	var got bytes.Buffer
	err := r.Blob(t.Context(), blobOf("", layer), &got)
	if err == nil && !bytes.Equal(got.Bytes(), layer) {
		t.Errorf("%d bytes were written without an error, the blob has %d", got.Len(), len(layer))
	}
}
