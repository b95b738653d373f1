package testenv

import (
	"errors"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func get(t *testing.T, url string) (int, http.Header, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, b, err
}

func TestRegistryServesWhatIsPushed(t *testing.T) {
	r := NewRegistry(t)
	files := map[string]string{"a.yaml": "a: 1\n", "dir/b.yaml": "b: 2\n"}
	first := r.PushFiles("apps/web", "v1", files, map[string]string{"org.opencontainers.image.revision": "main@sha1:abc"})
	if again := r.PushFiles("apps/web", "v2", files, map[string]string{"org.opencontainers.image.revision": "main@sha1:abc"}); again != first {
		t.Errorf("the same files have digests %s and %s", first, again)
	}
	r.Tag("apps/web", "v1", "latest")

	ref, err := name.ParseReference(r.Host() + "/apps/web:latest")
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if digest.String() != first {
		t.Errorf("latest is %s, want %s", digest, first)
	}
	if r.Count("GET", "/v2/apps/web/manifests/latest") != 1 {
		t.Errorf("requests: %+v", r.Requests())
	}
	r.Reset()
	r.Delete("apps/web", "latest")
	if n := r.Count("", ""); n != 0 {
		t.Errorf("the test's own hand was counted: %d requests", n)
	}
	if code, _, _, _ := get(t, "http://"+r.Host()+"/v2/apps/web/manifests/latest"); code != http.StatusNotFound {
		t.Errorf("deleted tag answers %d", code)
	}
}

func TestRegistryPagesTags(t *testing.T) {
	r := NewRegistry(t)
	want := []string{"1.0.0", "1.1.0", "1.2.0", "2.0.0", "2.1.0"}
	for _, tag := range want {
		r.PushChart("charts/app", tag, Chart("app", tag, nil))
	}
	r.PageSize(2)
	repo, err := name.NewRepository(r.Host() + "/charts/app")
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.List(repo)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("tags (-want +got):\n%s", d)
	}
	if n := r.Count("GET", "/tags/list"); n != 3 {
		t.Errorf("%d pages were asked for, want 3", n)
	}
}

func TestRegistryAsksForCredentials(t *testing.T) {
	for _, kind := range []string{"basic", "bearer"} {
		t.Run(kind, func(t *testing.T) {
			r := NewRegistry(t)
			r.PushFiles("apps/web", "v1", map[string]string{"a": "b"}, nil)
			if kind == "basic" {
				r.RequireAuth("user", "pass")
			} else {
				r.RequireToken("user", "pass")
			}
			ref, err := name.ParseReference(r.Host() + "/apps/web:v1")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := remote.Head(ref); err == nil {
				t.Error("an anonymous request was let in")
			}
			if _, err := remote.Head(ref, remote.WithAuth(&authn.Basic{Username: "user", Password: "pass"})); err != nil {
				t.Errorf("the right credentials were refused: %v", err)
			}
		})
	}
}

func TestRegistryFaults(t *testing.T) {
	r := NewRegistry(t)
	digest := r.PushFiles("apps/web", "v1", map[string]string{"a": "b"}, nil)
	url := "http://" + r.Host() + "/v2/apps/web/manifests/v1"
	_, _, whole, err := get(t, url)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		fault Fault
		check func(code int, h http.Header, body []byte, err error, took time.Duration) bool
	}{
		{"a status with Retry-After", Fault{Kind: FaultStatus, Status: 429, RetryAfter: 7 * time.Second}, func(
			code int, h http.Header, _ []byte, _ error, _ time.Duration,
		) bool {
			return code == 429 && h.Get("Retry-After") == "7"
		}},
		{"a reset connection", Fault{Kind: FaultReset}, func(_ int, _ http.Header, _ []byte, err error, _ time.Duration) bool {
			return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
		}},
		{"a truncated body", Fault{Kind: FaultTruncate}, func(_ int, _ http.Header, b []byte, err error, _ time.Duration) bool {
			return errors.Is(err, io.ErrUnexpectedEOF) && len(b) < len(whole)
		}},
		{"a corrupt body", Fault{Kind: FaultCorrupt}, func(code int, _ http.Header, b []byte, err error, _ time.Duration) bool {
			return code == 200 && err == nil && len(b) == len(whole) && string(b) != string(whole)
		}},
		{"a wrong digest", Fault{Kind: FaultDigest}, func(code int, h http.Header, _ []byte, _ error, _ time.Duration) bool {
			return code == 200 && h.Get("Docker-Content-Digest") != digest
		}},
		{"a slow answer", Fault{Kind: FaultSlow, Delay: 30 * time.Millisecond}, func(code int, _ http.Header, _ []byte, _ error, took time.Duration) bool {
			return code == 200 && took >= 30*time.Millisecond
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.fault.Path, c.fault.Times = "/manifests/", 1
			r.Fail(c.fault)
			start := time.Now()
			if code, h, b, err := get(t, url); !c.check(code, h, b, err, time.Since(start)) {
				t.Errorf("got %d %v %q %v", code, h, b, err)
			}
			if code, _, _, err := get(t, url); code != http.StatusOK || err != nil {
				t.Errorf("the fault was not gone after one request: %d %v", code, err)
			}
		})
	}
	t.Run("lasts until it is healed", func(t *testing.T) {
		r.Fail(Fault{Kind: FaultStatus, Status: 503})
		for range 3 {
			if code, _, _, _ := get(t, url); code != 503 {
				t.Errorf("got %d", code)
			}
		}
		r.Heal()
		if code, _, _, _ := get(t, url); code != 200 {
			t.Errorf("got %d after Heal", code)
		}
	})
}
