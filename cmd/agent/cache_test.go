package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"go.uber.org/zap"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

func TestRestoreOfADeletedCache(t *testing.T) {
	r := testenv.NewRegistry(t)
	digest := r.PushFiles("apps/web", "v1", map[string]string{"a.yaml": "a: 1"}, nil)
	mine, other := signing.KeyPair(t), signing.KeyPair(t)
	signing.Sign(t, mine, r.Host()+"/apps/web@"+digest)
	key, dir := filepath.Join(t.TempDir(), "cosign.pub"), filepath.Join(t.TempDir(), "cache")
	trust := func(p signing.Pair) {
		t.Helper()
		if err := os.WriteFile(key, p.Public, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust(mine)
	source := deploy.Source{
		Name:    deploy.Name{Kind: deploy.KindSource, Namespace: "apps", Name: "web"},
		Spec:    deploy.SourceSpec{URL: r.URL("apps/web"), Ref: &deploy.Ref{Tag: "v1"}, Verify: &deploy.Verify{Keys: []string{key}}},
		Timeout: time.Minute,
	}
	store := artifact.New(artifact.Options{CacheDir: dir, Keychain: authn.NewMultiKeychain()})
	t.Cleanup(store.Close)
	revision, err := store.Fetch(t.Context(), source, deploy.Pin{Ref: "v1", Digest: digest})
	if err != nil {
		t.Fatal(err)
	}
	k := newCacheKeeper(store, zap.NewNop())
	k.set(map[deploy.Name]deploy.Source{source.Name: source})
	lose := func() {
		t.Helper()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("brings the same artifact to the same place", func(t *testing.T) {
		lose()
		if got, err := k.restore(t.Context(), revision); err != nil || got.Dir != revision.Dir || got.Ref != "v1" {
			t.Fatal(got, err)
		}
		if b, err := os.ReadFile(filepath.Join(revision.Dir, "a.yaml")); err != nil || string(b) != "a: 1" {
			t.Errorf("%q %v", b, err)
		}
	})
	t.Run("not where its signature does not count any more", func(t *testing.T) {
		lose()
		trust(other)
		_, err := k.restore(t.Context(), revision)
		var f *deploy.Failure
		if !errors.As(err, &f) || f.Reason != deploy.SourceUnverified {
			t.Errorf("error %v", err)
		}
		if _, err := os.Stat(revision.Dir); !os.IsNotExist(err) {
			t.Errorf("%s: %v", revision.Dir, err)
		}
		trust(mine)
	})
	t.Run("not for a source that left the config", func(t *testing.T) {
		lose()
		k.set(nil)
		if _, err := k.restore(t.Context(), revision); err == nil {
			t.Error("no error")
		}
	})
}
