package artifact_test

import (
	"context"
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
	"github.com/towline/towline/internal/testenv/signing"
)

// named is a source under another name.
func named(src deploy.Source, name string) deploy.Source {
	src.Name.Name = name
	return src
}

func TestSourcesDoNotSpoilEachOther(t *testing.T) {
	key := signing.KeyPair(t)
	t.Run("one without signatures does not lead one with them to what nobody signed", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		good := r.PushFiles("apps/web", "1.0.0", files, nil)
		signing.Sign(t, key, r.Host()+"/apps/web@"+good)
		dir := filepath.Join(t.TempDir(), "cache")
		s := newStore(t, func(o *artifact.Options) { o.CacheDir = dir })
		careful, _ := signedBy(t, r.URL("apps/web"), deploy.Ref{Semver: ">=1"}, key.Public)
		careless := named(source(r.URL("apps/web"), deploy.Ref{Semver: ">=1"}), "careless")
		fetch(t, s, careful)
		r.PushFiles("apps/web", "9.9.9", map[string]string{"a.yaml": "evil"}, nil)
		fetch(t, s, careless)
		if _, err := s.Fetch(t.Context(), careful, resolve(t, s, careful)); err == nil || reasonOf(t, err) != deploy.SourceUnsigned {
			t.Fatalf("error %v", err)
		}
		if _, rev, err := cachedIn(t, dir, careful); err != nil || rev.Digest != good {
			t.Errorf("a start without a registry: %+v %v", rev, err)
		}
		r.Delete("apps/web", "9.9.9")
		if pin := resolve(t, s, careful); pin.Digest != good {
			t.Errorf("pin %+v", pin)
		}
	})
	t.Run("each finds its own signature without a registry", func(t *testing.T) {
		for name, sign := range map[string]func(testing.TB, signing.Pair, string){"bundles": signing.Sign, "sig tag": signing.SignLegacy} {
			t.Run(name, func(t *testing.T) {
				r := testenv.NewRegistry(t)
				other := signing.KeyPair(t)
				ref := r.Host() + "/apps/web@" + r.PushFiles("apps/web", "v1", files, nil)
				sign(t, key, ref)
				sign(t, other, ref)
				dir := filepath.Join(t.TempDir(), "cache")
				s := newStore(t, func(o *artifact.Options) { o.CacheDir = dir })
				one, _ := signedBy(t, r.URL("apps/web"), deploy.Ref{Tag: "v1"}, key.Public)
				two, _ := signedBy(t, r.URL("apps/web"), deploy.Ref{Tag: "v1"}, other.Public)
				two = named(two, "two")
				fetch(t, s, one)
				fetch(t, s, two)
				r.Close()
				for _, src := range []deploy.Source{one, two} {
					if _, _, err := cachedIn(t, dir, src); err != nil {
						t.Errorf("%s: %v", src.Name, err)
					}
				}
			})
		}
	})
	t.Run("a source that knows its revision is not led back by a mirror that another one asks", func(t *testing.T) {
		main, near := testenv.NewRegistry(t), testenv.NewRegistry(t)
		newest := main.PushFiles("apps/web", "v1", files, nil)
		near.PushFiles("mirror/web", "v1", map[string]string{"a.yaml": "a: stale"}, nil)
		s := newStore(t)
		old := source(main.URL("apps/web"), deploy.Ref{Tag: "v1"}, func(s *deploy.SourceSpec) { s.Mirrors = []string{near.URL("mirror/web")} })
		if rev := fetch(t, s, old); rev.Digest != newest {
			t.Fatalf("revision %+v", rev)
		}
		fresh := source(old.Spec.URL, *old.Spec.Ref, func(s *deploy.SourceSpec) {
			s.Mirrors, s.LayerSelector = old.Spec.Mirrors, &deploy.LayerSelector{Operation: deploy.OperationCopy}
		})
		fresh, old = named(fresh, "fresh"), named(old, old.Name.Name)
		fresh.Interval, old.Interval = time.Nanosecond, time.Nanosecond // no old answer will do, but one that is on its way
		main.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 503})
		near.Fail(testenv.Fault{Kind: testenv.FaultSlow, Delay: 300 * time.Millisecond})
		near.Reset()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.Resolve(t.Context(), fresh); err != nil {
				t.Errorf("the fresh one: %v", err)
			}
		})
		await(t, func() bool { return near.Count("", "") > 0 })
		if pin, err := s.Resolve(t.Context(), old); err == nil || reasonOf(t, err) != deploy.SourceUnavailable {
			t.Errorf("pin %+v, error %v", pin, err)
		}
		wg.Wait()
	})
	t.Run("nor where its cache was deleted", func(t *testing.T) {
		main, near := testenv.NewRegistry(t), testenv.NewRegistry(t)
		main.PushFiles("apps/web", "v1", files, nil)
		near.PushFiles("mirror/web", "v1", map[string]string{"a.yaml": "a: stale"}, nil)
		dir := filepath.Join(t.TempDir(), "cache")
		s := newStore(t, func(o *artifact.Options) { o.CacheDir = dir })
		src := source(main.URL("apps/web"), deploy.Ref{Tag: "v1"}, func(s *deploy.SourceSpec) { s.Mirrors = []string{near.URL("mirror/web")} })
		fetch(t, s, src)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		main.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 503})
		if pin, err := s.Resolve(t.Context(), src); err == nil {
			t.Errorf("pin %+v", pin)
		}
	})
}

func TestMirrorThatHangs(t *testing.T) {
	main, near := testenv.NewRegistry(t), testenv.NewRegistry(t)
	main.PushFiles("apps/web", "v1", files, nil)
	near.PushFiles("mirror/web", "v1", files, nil)
	near.Fail(testenv.Fault{Kind: testenv.FaultSlow, Delay: time.Minute})
	t.Cleanup(near.Heal)
	src := source(main.URL("apps/web"), deploy.Ref{Tag: "v1"}, func(s *deploy.SourceSpec) { s.Mirrors = []string{near.URL("mirror/web")} })
	s := newStore(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	rev, err := s.Fetch(ctx, src, resolve(t, s, src))
	if err != nil || read(t, rev.Dir, "app/web.yaml") != files["app/web.yaml"] {
		t.Errorf("revision %+v, error %v", rev, err)
	}
}

func TestPolicyMaterial(t *testing.T) {
	r := testenv.NewRegistry(t)
	r.PushFiles("apps/web", "v1", files, nil)
	key := signing.KeyPair(t)
	reasonFor := func(t *testing.T, s *artifact.Store, src deploy.Source) string {
		t.Helper()
		_, err := s.Resolve(t.Context(), src)
		if err == nil {
			return ""
		}
		return reasonOf(t, err)
	}
	t.Run("a file that is gone or no good is another thing than one that cannot be read", func(t *testing.T) {
		src, keys := signedBy(t, r.URL("apps/web"), deploy.Ref{Tag: "v1"}, key.Public)
		s := newStore(t)
		resolve(t, s, src)
		for name, spoil := range map[string]func(path string) error{
			"empty":    func(p string) error { return os.WriteFile(p, nil, 0o600) },
			"no key":   func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) },
			"a folder": func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
			"gone":     os.Remove,
		} {
			if err := spoil(keys[0]); err != nil {
				t.Fatal(err)
			}
			if got := reasonFor(t, s, src); got != deploy.SourceNoPolicy {
				t.Errorf("%s: %s", name, got)
			}
			_ = os.RemoveAll(keys[0])
			writeFile(t, keys[0], key.Public)
		}
		if err := errors.Join(os.Remove(keys[0]), os.Symlink(keys[0], keys[0])); err != nil { // to itself: cannot be opened, also not by root
			t.Fatal(err)
		}
		if got := reasonFor(t, s, src); got != deploy.SourceNoCredentials {
			t.Errorf("unreadable: %s", got)
		}
	})
	t.Run("a secret that lacks its key, or is gone, is no policy; one that cannot be read says nothing", func(t *testing.T) {
		data := map[string]map[string][]byte{"apps/root": {"trusted_root.json": signing.NewSigstore(t).TrustedRootJSON(t)}}
		down := &broken{cluster: cluster{secrets: data}}
		s := newStore(t, func(o *artifact.Options) { o.Secrets = down })
		src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}, func(s *deploy.SourceSpec) {
			s.Verify = &deploy.Verify{TrustedRootSecretRef: &deploy.LocalRef{Name: "root"}, MatchOIDCIdentity: []deploy.OIDCIdentity{{Issuer: "a", Subject: "b"}}}
		})
		good := resolve(t, s, src)
		down.err = errors.New("connection refused")
		if got := reasonFor(t, s, src); got != deploy.SourceNoCredentials {
			t.Errorf("unreadable: %s", got)
		}
		down.err = nil
		data["apps/root"] = map[string][]byte{"trusted-root.json": []byte("{}")}
		if got := reasonFor(t, s, src); got != deploy.SourceNoPolicy {
			t.Errorf("without the key: %s", got)
		}
		delete(data, "apps/root")
		if got := reasonFor(t, s, src); got != deploy.SourceNoPolicy {
			t.Errorf("gone: %s", got)
		}
		if good.Policy == "" {
			t.Error("the policy has no hash")
		}
	})
	t.Run("is told although the registry does not answer", func(t *testing.T) {
		src, keys := signedBy(t, r.URL("apps/web"), deploy.Ref{Tag: "v1"}, key.Public)
		s := newStore(t)
		before := resolve(t, s, src)
		r.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 503})
		defer r.Heal()
		pin, err := s.Resolve(t.Context(), src)
		if err == nil || pin.Policy != before.Policy || pin.Digest != "" {
			t.Errorf("pin %+v, error %v", pin, err)
		}
		writeFile(t, keys[0], signing.KeyPair(t).Public)
		if pin, err = s.Resolve(t.Context(), src); err == nil || pin.Policy == before.Policy || pin.Policy == "" {
			t.Errorf("pin %+v, error %v", pin, err)
		}
	})
	t.Run("a revision tells the policy that it was verified with, not the one that was resolved", func(t *testing.T) {
		other := signing.KeyPair(t)
		src, keys := signedBy(t, r.URL("apps/web"), deploy.Ref{Tag: "v1"}, other.Public)
		s := newStore(t)
		pin := resolve(t, s, src)
		signing.Sign(t, key, r.Host()+"/apps/web@"+pin.Digest)
		writeFile(t, keys[0], key.Public) // between the two calls
		rev, err := s.Fetch(t.Context(), src, pin)
		if err != nil || rev.Policy == pin.Policy || rev.Policy != resolve(t, s, src).Policy {
			t.Errorf("revision %+v, error %v", rev, err)
		}
	})
}

// broken is a cluster that may fail to answer.
type broken struct {
	cluster
	err error
}

func (b *broken) Secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.cluster.Secret(ctx, namespace, name)
}

func TestCredentialsAreNotTakenFromALookAlike(t *testing.T) {
	main, near := testenv.NewRegistry(t), testenv.NewRegistry(t)
	main.PushFiles("apps/web", "v1", files, nil)
	near.PushFiles("apps/web", "v1", files, nil)
	near.RequireAuth("robot", "right")
	dir := t.TempDir()
	user, pass := filepath.Join(dir, "user"), filepath.Join(dir, "pass")
	writeFile(t, user, []byte("robot"))
	writeFile(t, pass, []byte("right"))
	with := func(url string, mirrors ...string) deploy.Source {
		return source(url, deploy.Ref{Tag: "v1"}, func(s *deploy.SourceSpec) {
			s.Mirrors, s.CredentialFiles = mirrors, &deploy.CredentialFiles{Username: user, Password: pass}
		})
	}
	s := newStore(t)
	resolve(t, s, with(near.URL("apps/web"))) // is logged in there, rightly
	if rev := fetch(t, s, with(main.URL("apps/web"), near.URL("apps/web"))); read(t, rev.Dir, "app/web.yaml") != files["app/web.yaml"] {
		t.Errorf("revision %+v", rev)
	}
	if near.Count("GET", "/blobs/") != 0 {
		t.Errorf("the files of another host were used for the mirror: %s", strings.Join(asked(near), ", "))
	}
}
