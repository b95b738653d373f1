package artifact_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

// signedBy is a source that demands a signature by one of the keys in files, which can be changed.
func signedBy(t testing.TB, url string, ref deploy.Ref, keys ...[]byte) (deploy.Source, []string) {
	t.Helper()
	var paths []string
	dir := t.TempDir()
	for i, k := range keys {
		path := filepath.Join(dir, string(rune('a'+i))+".pub")
		writeFile(t, path, k)
		paths = append(paths, path)
	}
	return source(url, ref, func(s *deploy.SourceSpec) { s.Verify = &deploy.Verify{Keys: paths} }), paths
}

func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSignaturesAreDemandedFirst(t *testing.T) {
	r := testenv.NewRegistry(t)
	key, other := signing.KeyPair(t), signing.KeyPair(t)
	digest := r.PushFiles("apps/web", "v1", files, nil)
	ref := r.Host() + "/apps/web@" + digest
	dir := filepath.Join(t.TempDir(), "cache")
	s := newStore(t, func(o *artifact.Options) { o.CacheDir = dir })
	src, keys := signedBy(t, r.URL("apps/web"), deploy.Ref{Tag: "v1"}, key.Public)

	refused := func(t *testing.T, want string) {
		t.Helper()
		r.Reset()
		_, err := s.Fetch(t.Context(), src, resolve(t, s, src))
		if err == nil || reasonOf(t, err) != want {
			t.Fatalf("error %v, want one for %s", err, want)
		}
		if all, _ := filepath.Glob(filepath.Join(dir, "sha256-*")); len(all) != 0 {
			t.Errorf("in the cache: %v", all)
		}
		if n := layerRequests(r, digest); n != 0 {
			t.Errorf("the layer was asked for %d times: %v", n, asked(r))
		}
	}
	t.Run("an artifact without a signature is not even pulled", func(t *testing.T) { refused(t, deploy.SourceUnsigned) })
	t.Run("nor one whose signature cannot be asked for, which is another error", func(t *testing.T) {
		for status, want := range map[int]string{500: deploy.SourceUnavailable, 429: deploy.SourceRateLimited, 403: deploy.SourceUnauthorized} {
			r.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: status, Path: "/referrers/"})
			r.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: status, Path: "/manifests/sha256-"})
			refused(t, want)
			r.Heal()
		}
	})
	t.Run("nor one that somebody else signed", func(t *testing.T) {
		signing.Sign(t, other, ref)
		refused(t, deploy.SourceUnverified)
	})
	t.Run("a signature that comes later is found by the next poll", func(t *testing.T) {
		signing.Sign(t, key, ref)
		rev := fetch(t, s, src)
		if read(t, rev.Dir, "app/web.yaml") != files["app/web.yaml"] || !strings.Contains(rev.VerifiedBy, "a.pub") {
			t.Errorf("revision %+v", rev)
		}
	})
	t.Run("a tag that moves after it was resolved changes nothing", func(t *testing.T) {
		pin := resolve(t, s, src)
		bad := r.PushFiles("apps/web", "v1", map[string]string{"a.yaml": "evil"}, nil)
		rev, err := newStore(t).Fetch(t.Context(), src, pin)
		if err != nil || rev.Digest != digest {
			t.Errorf("revision %+v %v", rev, err)
		}
		r.PushManifest("apps/web", "v1", "application/vnd.oci.image.manifest.v1+json", r.Manifest("apps/web", digest))
		if bad == digest {
			t.Fatal("the tag did not move")
		}
	})
	t.Run("what is cached is checked again without a request", func(t *testing.T) {
		pin := resolve(t, s, src)
		r.Reset()
		again, err := newStore(t, func(o *artifact.Options) { o.CacheDir = dir }).Fetch(t.Context(), src, pin)
		if err != nil || again.VerifiedBy == "" || r.Count("", "") != 0 {
			t.Errorf("%+v %v, requests %v", again, err, asked(r))
		}
	})
	t.Run("a changed key is another policy, and what is cached does not stand before it", func(t *testing.T) {
		before := resolve(t, s, src)
		third := signing.KeyPair(t)
		writeFile(t, keys[0], third.Public)
		after := resolve(t, s, src)
		if before.Policy == after.Policy || before.Digest != after.Digest {
			t.Fatalf("pins %+v and %+v", before, after)
		}
		if _, err := s.Fetch(t.Context(), src, after); err == nil || reasonOf(t, err) != deploy.SourceUnverified {
			t.Errorf("error %v", err)
		}
		if _, _, err := cachedIn(t, dir, src); err == nil {
			t.Error("a start without a registry would have served it")
		}
		signing.Sign(t, third, ref) // signed anew: found although the old evidence does not fit
		if rev := fetch(t, s, src); rev.Digest != digest {
			t.Errorf("revision %+v", rev)
		}
	})
	t.Run("a key that is taken away is an invalid policy", func(t *testing.T) {
		if err := os.Remove(keys[0]); err != nil {
			t.Fatal(err)
		}
		_, err := s.Resolve(t.Context(), src)
		if err == nil || reasonOf(t, err) != deploy.SourceNoPolicy || !strings.Contains(err.Error(), "a.pub") {
			t.Errorf("error %v", err)
		}
	})
}

func TestSignaturesWithoutARegistry(t *testing.T) {
	r := testenv.NewRegistry(t)
	key, other := signing.KeyPair(t), signing.KeyPair(t)
	digest := r.PushFiles("apps/web", "v1", files, nil)
	signing.SignLegacy(t, key, r.Host()+"/apps/web@"+digest)
	dir := filepath.Join(t.TempDir(), "cache")
	src, keys := signedBy(t, r.URL("apps/web"), deploy.Ref{Tag: "v1"}, other.Public, key.Public)
	fetch(t, newStore(t, func(o *artifact.Options) { o.CacheDir = dir }), src)
	r.Close()
	t.Run("the evidence that was kept is checked", func(t *testing.T) {
		if _, rev, err := cachedIn(t, dir, src); err != nil || !strings.Contains(rev.VerifiedBy, "b.pub") {
			t.Errorf("%+v %v", rev, err)
		}
	})
	t.Run("another key does not accept it", func(t *testing.T) {
		writeFile(t, keys[1], other.Public)
		if _, _, err := cachedIn(t, dir, src); err == nil || reasonOf(t, err) != deploy.SourceUnverified && reasonOf(t, err) != deploy.SourceUnsigned {
			t.Errorf("error %v", err)
		}
	})
	t.Run("evidence that was tampered with is not accepted", func(t *testing.T) {
		writeFile(t, keys[1], key.Public)
		all, err := filepath.Glob(filepath.Join(dir, "sha256-*", "evidence*"))
		if err != nil || len(all) == 0 {
			t.Fatalf("evidence: %v %v", all, err)
		}
		writeFile(t, all[0], []byte("{}"))
		if _, _, err := cachedIn(t, dir, src); err == nil {
			t.Error("it was accepted")
		}
	})
}

func TestSignatureOnAMirror(t *testing.T) {
	main, near := testenv.NewRegistry(t), testenv.NewRegistry(t)
	key := signing.KeyPair(t)
	digest := main.PushFiles("apps/web", "v1", files, nil)
	near.PushFiles("mirror/web", "v1", files, nil)
	signing.Sign(t, key, main.Host()+"/apps/web@"+digest)
	src, _ := signedBy(t, main.URL("apps/web"), deploy.Ref{Tag: "v1"}, key.Public)
	src.Spec.Mirrors = []string{near.URL("mirror/web")}
	t.Run("a mirror without signatures leaves the word to the url", func(t *testing.T) {
		if rev := fetch(t, newStore(t), src); rev.VerifiedBy == "" || layerRequests(main, digest) != 0 {
			t.Errorf("revision %+v, url: %v", rev, asked(main))
		}
	})
	t.Run("an artifact that nobody signed is refused there too", func(t *testing.T) {
		other := main.PushFiles("apps/web", "v2", map[string]string{"a.yaml": "a: 2"}, nil)
		src.Spec.Ref = &deploy.Ref{Digest: other}
		_, err := newStore(t).Fetch(t.Context(), src, resolve(t, newStore(t), src))
		if err == nil || reasonOf(t, err) != deploy.SourceUnsigned {
			t.Errorf("error %v", err)
		}
		var f *deploy.Failure
		if !errors.As(err, &f) {
			t.Errorf("error %v", err)
		}
	})
}

// layerRequests counts how often the layers of an artifact were asked for.
func layerRequests(r *testenv.Registry, digest string) int {
	n := 0
	for _, d := range layersOf(r, digest) {
		n += r.Count("GET", "/blobs/"+d)
	}
	return n
}

func layersOf(r *testenv.Registry, digest string) []string {
	var m struct{ Layers []struct{ Digest string } }
	if json.Unmarshal(r.Manifest("apps/web", digest), &m) != nil {
		return nil
	}
	var out []string
	for _, l := range m.Layers {
		out = append(out, l.Digest)
	}
	return out
}
