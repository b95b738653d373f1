package oci_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/testenv"
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
		{
			"a connection that is cut within the answer", testenv.Fault{Kind: testenv.FaultTruncate, Method: http.MethodGet},
			oci.ErrNetwork, 0, "Tags Manifest Blob Referrers",
		},
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
				if errors.As(err, &e) {
					if after, _ := e.RetryAfter(); after != c.after {
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
		for _, fault := range []testenv.Fault{
			{Kind: testenv.FaultReset}, {Kind: testenv.FaultStatus, Status: 503}, {Kind: testenv.FaultStatus, Status: 401}, {Kind: testenv.FaultStatus, Status: 429},
		} {
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

func TestABlobThatIsCancelledMidway(t *testing.T) {
	var sent atomic.Int64
	host := hostile(t, func(w http.ResponseWriter, req *http.Request) { forever(w, req, "layer", &sent) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := newClient(t).Repository(access(t, host, robot, oci.Route{}))
	err := r.Blob(ctx, v1.Descriptor{Digest: hashOf(nil), Size: 1 << 40}, writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	}))
	expect(t, err, context.Canceled)
}

// writerFunc is a writer that is told what to do.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
