package artifact_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// reasonOf is the word of an error that the store gave.
func reasonOf(t testing.TB, err error) string {
	t.Helper()
	var f *deploy.Failure
	if !errors.As(err, &f) {
		t.Fatalf("error %v, want a *deploy.Failure", err)
	}
	return f.Reason
}

// cachedIn is what another process finds in the cache of a store.
func cachedIn(t testing.TB, dir string, src deploy.Source) (deploy.Pin, deploy.Revision, error) {
	t.Helper()
	return newStore(t, func(o *artifact.Options) { o.CacheDir = dir }).Cached(t.Context(), src)
}

func TestCached(t *testing.T) {
	r := testenv.NewRegistry(t)
	first := r.PushFiles("apps/web", "1.0.0", files, nil)
	dir := filepath.Join(t.TempDir(), "cache")
	s := newStore(t, func(o *artifact.Options) { o.CacheDir = dir })
	tagged := source(r.URL("apps/web"), deploy.Ref{Tag: "1.0.0"})
	ranged := source(r.URL("apps/web"), deploy.Ref{Semver: ">=1"})
	if _, _, err := s.Cached(t.Context(), tagged); err == nil {
		t.Fatal("there was something before anything was fetched")
	}
	fetch(t, s, tagged)
	fetch(t, s, ranged)
	r.Close()
	for name, src := range map[string]deploy.Source{"a tag": tagged, "a range": ranged} {
		t.Run("finds what "+name+" led to, in another process and without a registry", func(t *testing.T) {
			pin, rev, err := cachedIn(t, dir, src)
			if err != nil {
				t.Fatal(err)
			}
			if pin.Ref != "1.0.0" || pin.Digest != first || rev.Digest != first || read(t, rev.Dir, "app/web.yaml") != files["app/web.yaml"] {
				t.Errorf("pin %+v, revision %+v", pin, rev)
			}
		})
	}
	t.Run("finds nothing for another selection of the same artifact", func(t *testing.T) {
		for _, change := range []func(*deploy.SourceSpec){
			func(s *deploy.SourceSpec) { s.LayerSelector = &deploy.LayerSelector{Operation: deploy.OperationCopy} },
			func(s *deploy.SourceSpec) { s.Platform = "linux/arm/v7" },
			func(s *deploy.SourceSpec) { ignore := "*.md"; s.Ignore = &ignore },
		} {
			if _, _, err := cachedIn(t, dir, source(tagged.Spec.URL, *tagged.Spec.Ref, change)); err == nil {
				t.Error("found something")
			}
		}
	})
	t.Run("finds nothing where a signature is demanded and none was kept", func(t *testing.T) {
		key := filepath.Join(t.TempDir(), "a.pub")
		if err := os.WriteFile(key, publicKey(t), 0o600); err != nil {
			t.Fatal(err)
		}
		src := source(tagged.Spec.URL, *tagged.Spec.Ref, func(s *deploy.SourceSpec) { s.Verify = &deploy.Verify{Keys: []string{key}} })
		if _, _, err := cachedIn(t, dir, src); err == nil || reasonOf(t, err) != deploy.SourceUnsigned {
			t.Errorf("error %v", err)
		}
	})
	t.Run("forgets sources that are gone", func(t *testing.T) {
		if err := s.Forget([]deploy.Source{ranged}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := cachedIn(t, dir, tagged); err == nil {
			t.Error("the other one is still known")
		}
		if _, _, err := cachedIn(t, dir, ranged); err != nil {
			t.Errorf("the kept one: %v", err)
		}
	})
	t.Run("does not find what was damaged", func(t *testing.T) {
		all, err := filepath.Glob(filepath.Join(dir, "sha256-*", "layer*"))
		if err != nil || len(all) == 0 {
			t.Fatalf("layers: %v %v", all, err)
		}
		for _, layer := range all {
			if err := os.WriteFile(layer, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := cachedIn(t, dir, ranged); err == nil {
			t.Error("found it")
		}
	})
}

func TestDowngrade(t *testing.T) {
	r := testenv.NewRegistry(t)
	r.PushFiles("apps/web", "1.0.0", files, nil)
	r.PushFiles("apps/web", "1.2.0", map[string]string{"a.yaml": "a: 2"}, nil)
	dir := filepath.Join(t.TempDir(), "cache")
	src := source(r.URL("apps/web"), deploy.Ref{Semver: ">=1"})
	s := newStore(t, func(o *artifact.Options) { o.CacheDir = dir })
	if rev := fetch(t, s, src); rev.Ref != "1.2.0" {
		t.Fatalf("revision %s", rev)
	}
	r.Delete("apps/web", "1.2.0")
	again := func() (deploy.Pin, error) {
		return newStore(t, func(o *artifact.Options) { o.CacheDir = dir }).Resolve(t.Context(), src)
	}
	t.Run("a lower version than before is refused, also after a restart", func(t *testing.T) {
		_, err := again()
		if err == nil || reasonOf(t, err) != deploy.SourceDowngrade || !strings.Contains(err.Error(), "1.2.0") || !strings.Contains(err.Error(), "allowDowngrade") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("another range may lead lower", func(t *testing.T) {
		if pin := resolve(t, s, source(r.URL("apps/web"), deploy.Ref{Semver: "~1.0"})); pin.Ref != "1.0.0" {
			t.Errorf("pin %+v", pin)
		}
	})
	t.Run("it is followed where that is allowed", func(t *testing.T) {
		src.Spec.AllowDowngrade = true
		if pin, err := again(); err != nil || pin.Ref != "1.0.0" {
			t.Errorf("pin %+v, %v", pin, err)
		}
	})
}

func TestSourcesShareLookUps(t *testing.T) {
	r := testenv.NewRegistry(t)
	r.PushFiles("apps/web", "v1", files, nil)
	s := newStore(t)
	src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"})
	src.Interval = time.Hour
	resolve(t, s, src)
	heads := func() int { return r.Count("HEAD", "/manifests/") }
	t.Run("equal ones cost one request between them", func(t *testing.T) {
		r.Reset()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { resolve(t, s, src) })
		}
		wg.Wait()
		if heads() != 0 {
			t.Errorf("%d requests within the interval of the first", heads())
		}
	})
	t.Run("other references, credentials and impatient askers have their own", func(t *testing.T) {
		r.Reset()
		r.Tag("apps/web", "v1", "v2")
		resolve(t, s, source(r.URL("apps/web"), deploy.Ref{Tag: "v2"}))
		now := src
		now.Interval = 0
		resolve(t, s, now)
		if heads() != 2 {
			t.Errorf("%d requests, want 2: %v", heads(), asked(r))
		}
	})
	t.Run("a failure is shared with nobody", func(t *testing.T) {
		gone := source(r.URL("apps/gone"), deploy.Ref{Tag: "v1"})
		gone.Interval = time.Hour
		for range 2 {
			if _, err := s.Resolve(t.Context(), gone); !errors.Is(err, artifact.ErrNotFound) || reasonOf(t, err) != deploy.SourceNotFound {
				t.Errorf("error %v", err)
			}
		}
		r.PushFiles("apps/gone", "v1", files, nil)
		resolve(t, s, gone)
	})
}

// publicKey is a new public key in PEM.
func publicKey(t testing.TB) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
