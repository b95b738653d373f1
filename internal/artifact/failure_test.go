package artifact_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// later is what the poller looks for in an error.
type later interface{ RetryAfter() (time.Duration, bool) }

func TestFaultsOfTheRegistry(t *testing.T) {
	cases := []struct {
		name  string
		fault testenv.Fault
		kind  error
		want  string
		after time.Duration
	}{
		{"rate limited", testenv.Fault{Kind: testenv.FaultStatus, Status: 429, RetryAfter: 42 * time.Second}, artifact.ErrRateLimited, "429 Too Many Requests", 42 * time.Second},
		{"unavailable for a while", testenv.Fault{Kind: testenv.FaultStatus, Status: 503, RetryAfter: time.Minute}, artifact.ErrUnavailable, "503", time.Minute},
		{"broken", testenv.Fault{Kind: testenv.FaultStatus, Status: 500}, artifact.ErrUnavailable, "500", 0},
		{"forbidden", testenv.Fault{Kind: testenv.FaultStatus, Status: 403}, artifact.ErrUnauthorized, "no credentials for 127.0.0.1", 0},
		{"gone", testenv.Fault{Kind: testenv.FaultStatus, Status: 404}, artifact.ErrNotFound, "404", 0},
		{"reset", testenv.Fault{Kind: testenv.FaultReset}, artifact.ErrNetwork, "network error", 0},
	}
	for _, c := range cases {
		for _, path := range []string{"/manifests/v1", "/manifests/sha256:", "/blobs/", "/tags/list"} {
			t.Run(c.name+" at "+path, func(t *testing.T) {
				r := testenv.NewRegistry(t)
				r.PushFiles("apps/web", "v1", files, nil)
				r.PushFiles("apps/web", "1.0.0", files, nil)
				cache := t.TempDir()
				s := newStore(t, func(o *artifact.Options) { o.CacheDir = cache })
				src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"})
				if path == "/tags/list" {
					src = source(r.URL("apps/web"), deploy.Ref{Semver: ">=1"})
				}
				c.fault.Path = path
				r.Fail(c.fault)
				pin, err := s.Resolve(t.Context(), src)
				if err == nil {
					_, err = s.Fetch(t.Context(), src, pin)
				}
				if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want %v and %q", err, c.kind, c.want)
				}
				var l later
				if errors.As(err, &l) {
					if after, _ := l.RetryAfter(); after != c.after {
						t.Errorf("retry after %v, want %v", after, c.after)
					}
				}
				hits := 0
				for _, q := range r.Requests() {
					if strings.Contains(q.Path, path) {
						hits++
					}
				}
				// A connection that is reset before a byte came may be tried anew by net/http itself.
				if hits != 1 && c.fault.Kind != testenv.FaultReset {
					t.Errorf("the failing path was asked %d times: %v", hits, asked(r))
				}
				nothingIn(t, cache)
				r.Heal()
				if rev := fetch(t, s, src); read(t, rev.Dir, "app/web.yaml") != files["app/web.yaml"] {
					t.Error("it did not recover")
				}
			})
		}
	}
}

func nothingIn(t testing.TB, dir string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 0 {
		t.Errorf("the cache holds %v", all)
	}
}

func TestARegistryThatLies(t *testing.T) {
	cases := []struct {
		name  string
		fault testenv.Fault
		want  string
	}{
		{"about the manifest", testenv.Fault{Kind: testenv.FaultCorrupt, Path: "/manifests/sha256:"}, "wrong digest"},
		{"about the layer", testenv.Fault{Kind: testenv.FaultCorrupt, Path: "/blobs/"}, "wrong digest"},
		{"by breaking off the manifest", testenv.Fault{Kind: testenv.FaultTruncate, Path: "/manifests/sha256:"}, "unexpected EOF"},
		{"by breaking off the layer", testenv.Fault{Kind: testenv.FaultTruncate, Path: "/blobs/"}, "unexpected EOF"},
		{"about the digest of a tag", testenv.Fault{Kind: testenv.FaultDigest, Method: http.MethodHead}, "404"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := testenv.NewRegistry(t)
			r.PushFiles("apps/web", "v1", files, nil)
			cache := t.TempDir()
			s := newStore(t, func(o *artifact.Options) { o.CacheDir = cache })
			src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"})
			r.Fail(c.fault)
			_, err := s.Fetch(t.Context(), src, resolve(t, s, src))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
			nothingIn(t, cache)
			r.Heal()
			fetch(t, s, src)
		})
	}
	t.Run("about the size of a layer", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		r.PushFiles("apps/web", "v1", files, nil)
		manifest := string(r.Manifest("apps/web", "v1"))
		_, rest, _ := strings.Cut(manifest, `"layers":`)
		_, rest, _ = strings.Cut(rest, `"size":`)
		size, _, _ := strings.Cut(rest, ",")
		for _, lie := range []string{"10", size + "0"} {
			r.PushManifest("apps/web", "lie", "application/vnd.oci.image.manifest.v1+json", []byte(strings.Replace(manifest, `"size":`+size+",", `"size":`+lie+",", 1)))
			src := source(r.URL("apps/web"), deploy.Ref{Tag: "lie"})
			s := newStore(t)
			if _, err := s.Fetch(t.Context(), src, resolve(t, s, src)); err == nil {
				t.Errorf("size %s in place of %s was taken", lie, size)
			}
		}
	})
}

func TestSlowRegistry(t *testing.T) {
	r := testenv.NewRegistry(t)
	r.PushFiles("apps/web", "v1", files, nil)
	s := newStore(t)
	r.Fail(testenv.Fault{Kind: testenv.FaultSlow, Delay: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Resolve(ctx, source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline", err)
	}
}

func TestFetchKeepsItsLimits(t *testing.T) {
	r := testenv.NewRegistry(t)
	r.PushFiles("apps/web", "v1", map[string]string{"zeros": strings.Repeat("0", 1<<20)}, nil)
	for name, limits := range map[string]artifact.Limits{"compressed": {Compressed: 100}, "unpacked": {Unpacked: 1 << 19}} {
		t.Run(name, func(t *testing.T) {
			r.Reset()
			s := newStore(t, func(o *artifact.Options) { o.Limits = limits })
			src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"})
			_, err := s.Fetch(t.Context(), src, resolve(t, s, src))
			var limit *artifact.LimitError
			if !errors.As(err, &limit) {
				t.Errorf("error: %v", err)
			}
			if n := r.Count("GET", "/blobs/"); name == "compressed" && n != 0 {
				t.Error("a layer that is too large was pulled")
			}
		})
	}
}

// secrets are Secrets of which each has the same docker config; it counts how often they were asked for.
type secrets struct {
	config string
	err    error
	asked  int
}

func (s *secrets) Secret(_ context.Context, namespace, name string) (map[string][]byte, error) {
	s.asked++
	if s.err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w", namespace, name, s.err)
	}
	return map[string][]byte{".dockerconfigjson": []byte(s.config)}, nil
}

func (s *secrets) PullSecrets(context.Context, string, string) ([]string, error) {
	return []string{"pull"}, nil
}

func dockerConfig(host, user, pass string) string {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + pass))
	return `{"auths":{"` + host + `":{"auth":"` + auth + `"}}}`
}

func TestCredentials(t *testing.T) {
	withSecret := func(s *deploy.SourceSpec) { s.SecretRef = &deploy.LocalRef{Name: "pull"} }
	for _, kind := range []string{"basic", "bearer"} {
		require := func(r *testenv.Registry, pass string) {
			if kind == "basic" {
				r.RequireAuth("robot", pass)
			} else {
				r.RequireToken("robot", pass)
			}
		}
		t.Run(kind+": an unchanged poll is one HEAD and no look at the secret", func(t *testing.T) {
			r := testenv.NewRegistry(t)
			r.PushFiles("apps/web", "v1", files, nil)
			require(r, "hunter2")
			sec := &secrets{config: dockerConfig("http://"+r.Host()+"/v1/", "robot", "hunter2")}
			s := newStore(t, func(o *artifact.Options) { o.Secrets = sec })
			src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}, withSecret)
			fetch(t, s, src)
			r.Reset()
			for range 5 {
				resolve(t, s, src)
			}
			if r.Count("", "") != 5 || r.Count("HEAD", "/manifests/v1") != 5 || sec.asked != 1 {
				t.Errorf("secret read %d times, requests %v", sec.asked, asked(r))
			}
		})
		t.Run(kind+": a changed password is found by itself", func(t *testing.T) {
			r := testenv.NewRegistry(t)
			r.PushFiles("apps/web", "v1", files, nil)
			require(r, "old")
			sec := &secrets{config: dockerConfig(r.Host(), "robot", "old")}
			s := newStore(t, func(o *artifact.Options) { o.Secrets = sec })
			src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}, withSecret)
			resolve(t, s, src)
			require(r, "new")
			r.ExpireTokens()
			sec.config = dockerConfig(r.Host(), "robot", "new")
			resolve(t, s, src)
		})
		t.Run(kind+": a refusal names the secret, not what is in it", func(t *testing.T) {
			r := testenv.NewRegistry(t)
			r.PushFiles("apps/web", "v1", files, nil)
			require(r, "right")
			sec := &secrets{config: dockerConfig(r.Host(), "robot", "hunter2")}
			s := newStore(t, func(o *artifact.Options) { o.Secrets = sec })
			_, err := s.Resolve(t.Context(), source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}, withSecret))
			if !errors.Is(err, artifact.ErrUnauthorized) || !strings.Contains(err.Error(), "secret apps/pull") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error: %v", err)
			}
			sec.config = dockerConfig("elsewhere.test", "robot", "right")
			_, err = s.Resolve(t.Context(), source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}, withSecret))
			if !errors.Is(err, artifact.ErrUnauthorized) || !strings.Contains(err.Error(), "secret apps/pull has no credentials for "+r.Host()) {
				t.Errorf("error: %v", err)
			}
			_, err = s.Resolve(t.Context(), source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}))
			if !errors.Is(err, artifact.ErrUnauthorized) || !strings.Contains(err.Error(), "set secretRef") {
				t.Errorf("error: %v", err)
			}
		})
		t.Run(kind+": the docker config serves sources without a secret", func(t *testing.T) {
			r := testenv.NewRegistry(t)
			r.PushFiles("apps/web", "v1", files, nil)
			require(r, "hunter2")
			home := t.TempDir()
			if err := os.WriteFile(filepath.Join(home, "config.json"), []byte(dockerConfig(r.Host(), "robot", "hunter2")), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("HOME", home)
			t.Setenv("DOCKER_CONFIG", home)
			s := newStore(t, func(o *artifact.Options) { o.Keychain = nil })
			fetch(t, s, source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}))
		})
	}
	t.Run("an expired token is renewed", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		r.PushFiles("apps/web", "v1", files, nil)
		r.RequireToken("robot", "hunter2")
		sec := &secrets{config: dockerConfig(r.Host(), "robot", "hunter2")}
		s := newStore(t, func(o *artifact.Options) { o.Secrets = sec })
		src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}, withSecret)
		resolve(t, s, src)
		r.ExpireTokens()
		r.Reset()
		resolve(t, s, src)
		if r.Count("GET", "/token") != 1 || r.Count("HEAD", "") != 2 || sec.asked != 1 {
			t.Errorf("secret read %d times, requests %v", sec.asked, asked(r))
		}
	})
	t.Run("a missing secret is named", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		sec := &secrets{err: errors.New("not found")}
		src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}, withSecret)
		_, err := newStore(t, func(o *artifact.Options) { o.Secrets = sec }).Resolve(t.Context(), src)
		if err == nil || !strings.Contains(err.Error(), "secret apps/pull: not found") {
			t.Errorf("error: %v", err)
		}
		_, err = newStore(t).Resolve(t.Context(), src)
		if err == nil || !strings.Contains(err.Error(), "secret apps/pull: there is no cluster") {
			t.Errorf("error: %v", err)
		}
	})
}

func TestSourcesThatNameNoRepository(t *testing.T) {
	s := newStore(t)
	digest := "sha256:" + strings.Repeat("a", 64)
	cases := []struct {
		name, url string
		ref       deploy.Ref
		want      string
	}{
		{"another scheme", "https://ghcr.io/a/b", deploy.Ref{}, "must begin with oci://"},
		{"credentials", "oci://user:hunter2@ghcr.io/a/b", deploy.Ref{}, "use secretRef"},
		{"a digest", "oci://ghcr.io/a/b@" + digest, deploy.Ref{}, "use ref.digest"},
		{"a tag", "oci://ghcr.io/a/b:v1", deploy.Ref{}, "use ref.tag"},
		{"no repository", "oci://ghcr.io", deploy.Ref{}, "oci://host/repository"},
		{"no host", "oci://apps/web", deploy.Ref{}, "a dot or a port in the host"},
		{"upper case", "oci://ghcr.io/Apps/Web", deploy.Ref{}, "names no repository"},
		{"a bad tag", "oci://ghcr.io/a/b", deploy.Ref{Tag: "../../x"}, "is not a tag"},
		{"a bad digest", "oci://ghcr.io/a/b", deploy.Ref{Digest: "sha256:../.."}, "ref.digest"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.Resolve(t.Context(), source(c.url, c.ref))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
	t.Run("a pin is never a path", func(t *testing.T) {
		src := source("oci://ghcr.io/a/b", deploy.Ref{Tag: "v1"})
		if _, err := s.Fetch(t.Context(), src, deploy.Pin{Digest: "sha256:../../../etc"}); err == nil {
			t.Error("no error")
		}
	})
}

func TestPrune(t *testing.T) {
	r := testenv.NewRegistry(t)
	r.PushFiles("apps/web", "v1", files, nil)
	s := newStore(t)
	rev := fetch(t, s, source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}))
	if n, err := s.Prune(nil); n != 0 || err != nil {
		t.Errorf("removed %d, %v: it was fetched a moment ago", n, err)
	}
	read(t, rev.Dir, "app/web.yaml")
	dir := filepath.Dir(filepath.Dir(rev.Dir))
	second := newStore(t, func(o *artifact.Options) { o.CacheDir = dir })
	if _, err := second.Prune(nil); err == nil {
		t.Error("two agents evict from one folder")
	}
	s.Close()
	if n, err := second.Prune(nil); n != 0 || err != nil {
		t.Errorf("removed %d, %v: there is room for it", n, err)
	}
	second.Close()
	fresh := newStore(t, func(o *artifact.Options) { o.CacheDir, o.Limits.Cache = dir, 1 })
	if n, err := fresh.Prune([]deploy.Revision{rev}); n != 0 || err != nil {
		t.Errorf("removed %d, %v: it is to be kept", n, err)
	}
	long := time.Now().Add(-time.Hour) // ago it was used
	if err := os.Chtimes(filepath.Dir(rev.Dir), long, long); err != nil {
		t.Fatal(err)
	}
	if n, err := fresh.Prune(nil); n != 1 || err != nil {
		t.Errorf("removed %d, %v; want 1", n, err)
	}
}
