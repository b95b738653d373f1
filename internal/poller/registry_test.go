package poller_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"go.uber.org/zap"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/poller"
	"github.com/towline/towline/internal/testenv"
)

var _ poller.Registry = (*artifact.Store)(nil)

// news hands what it hears to the test.
type news struct {
	revisions chan deploy.Revision
	states    chan deploy.SourceState
}

func (n *news) Revised(r deploy.Revision)        { n.revisions <- r }
func (n *news) Withdrawn(deploy.Name)            {}
func (n *news) SourceState(s deploy.SourceState) { n.states <- s }

func (n *news) revision(t *testing.T) deploy.Revision {
	t.Helper()
	select {
	case r := <-n.revisions:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no revision in 10 s")
		return deploy.Revision{}
	}
}

func (n *news) state(t *testing.T, so func(deploy.SourceState) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case s := <-n.states:
			if so(s) {
				return
			}
		case <-deadline:
			t.Fatal("the state did not come about in 10 s")
		}
	}
}

func TestPollerOnARealRegistry(t *testing.T) {
	const interval = 40 * time.Millisecond
	r := testenv.NewRegistry(t)
	first := r.PushFiles("apps/web", "latest", map[string]string{"a.yaml": "a: 1"}, nil)
	store := artifact.New(artifact.Options{CacheDir: filepath.Join(t.TempDir(), "cache"), Keychain: authn.NewMultiKeychain()})
	defer store.Close()
	heard := &news{revisions: make(chan deploy.Revision, 100), states: make(chan deploy.SourceState, 10_000)}
	p := poller.New(store, heard, zap.NewNop())
	p.Set([]deploy.Source{{
		Name:     deploy.Name{Kind: deploy.KindSource, Namespace: "ns", Name: "web"},
		Spec:     deploy.SourceSpec{URL: r.URL("apps/web")},
		Interval: interval, Timeout: 10 * time.Second, Hash: "1",
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	defer wg.Wait()
	defer cancel()

	if got := heard.revision(t); got.Digest != first || got.Ref != "latest" {
		t.Errorf("first revision: %s", got)
	}
	ready := func(s deploy.SourceState) bool { return s.Ready }
	heard.state(t, ready)

	// The source does not change: every interval is one HEAD and nothing else.
	r.Reset()
	start := time.Now()
	polls := 0
	for polls < 6 {
		heard.state(t, func(s deploy.SourceState) bool { return s.Ready && s.LastPoll.After(start) })
		polls++
	}
	took := time.Since(start)
	requests := r.Requests()
	for _, q := range requests {
		if q.Method+" "+q.Path != "HEAD /v2/apps/web/manifests/latest" {
			t.Errorf("an unchanged poll sent %s %s", q.Method, q.Path)
		}
	}
	if n := len(requests); n < polls-1 || n > polls+1 { // one may have been sent before the count began, and one since it ended
		t.Errorf("%d requests for %d polls", n, polls)
	}
	if most := int(float64(took)/(float64(interval)*0.95)) + 2; len(requests) > most { // the second poll comes after half an interval at the earliest
		t.Errorf("%d requests in %v at an interval of %v", len(requests), took, interval)
	}

	// Failures take nothing away, and what is new afterwards is told once.
	r.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 500})
	heard.state(t, func(s deploy.SourceState) bool { return s.Failures >= 2 && s.Revision == "latest@"+first })
	second := r.PushFiles("apps/web", "latest", map[string]string{"a.yaml": "a: 2"}, nil)
	r.Heal()
	if got := heard.revision(t); got.Digest != second {
		t.Errorf("second revision: %s", got)
	}
	heard.state(t, func(s deploy.SourceState) bool { return s.Ready && s.Revision == "latest@"+second })
	cancel()
	wg.Wait()
	if d := cmp.Diff(0, len(heard.revisions)); d != "" {
		t.Errorf("further revisions (-want +got):\n%s", d)
	}
}
