package poller_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"go.uber.org/zap"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/poller"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

// recall hears withdrawals too.
type recall struct {
	news
	withdrawn chan deploy.Name
}

func (r *recall) Withdrawn(n deploy.Name) { r.withdrawn <- n }

func TestKeyRevokedWhileTheRegistryIsDown(t *testing.T) {
	r := testenv.NewRegistry(t)
	digest := r.PushFiles("apps/web", "v1", map[string]string{"a.yaml": "a: 1"}, nil)
	mine, other := signing.KeyPair(t), signing.KeyPair(t)
	signing.Sign(t, mine, r.Host()+"/apps/web@"+digest)
	key := filepath.Join(t.TempDir(), "cosign.pub")
	trust := func(p signing.Pair) {
		t.Helper()
		next := key + ".next"
		if err := os.WriteFile(next, p.Public, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, key); err != nil {
			t.Fatal(err)
		}
	}
	trust(mine)
	store := artifact.New(artifact.Options{CacheDir: filepath.Join(t.TempDir(), "cache"), Keychain: authn.NewMultiKeychain()})
	t.Cleanup(store.Close)
	const interval = 40 * time.Millisecond
	src := deploy.Source{
		Name:     deploy.Name{Kind: deploy.KindSource, Namespace: "apps", Name: "web"},
		Spec:     deploy.SourceSpec{URL: r.URL("apps/web"), Ref: &deploy.Ref{Tag: "v1"}, Verify: &deploy.Verify{Keys: []string{key}}},
		Interval: interval, Timeout: 10 * time.Second,
	}
	heard := &recall{news{make(chan deploy.Revision, 10), make(chan deploy.SourceState, 10_000)}, make(chan deploy.Name, 10)}
	p := poller.New(store, heard, zap.NewNop())
	p.Set([]deploy.Source{src})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	if rev := heard.revision(t); rev.Digest != digest || rev.VerifiedBy == "" {
		t.Fatalf("revision %+v", rev)
	}

	r.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 503})
	heard.state(t, func(s deploy.SourceState) bool { return s.Reason == deploy.SourceUnavailable && s.Digest == digest })
	trust(other)
	select {
	case <-heard.withdrawn:
	case <-time.After(10 * time.Second):
		t.Fatal("it is still in force after 10 s")
	}
	heard.state(t, func(s deploy.SourceState) bool { return !s.Ready && s.Digest == "" })

	trust(mine) // the registry is still down: what is on the disk counts again
	if rev := heard.revision(t); rev.Digest != digest {
		t.Errorf("revision %+v", rev)
	}
	heard.state(t, func(s deploy.SourceState) bool { return s.Cached && s.Digest == digest })
	r.Heal()
	heard.state(t, func(s deploy.SourceState) bool { return s.Ready && s.Digest == digest })
}
