package poller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/towline/towline/internal/deploy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a registry of one answer, with a log of what was asked.
type fake struct {
	mu       sync.Mutex
	pin      deploy.Pin
	err      error // of Resolve
	fetchErr error
	delay    time.Duration
	cached   deploy.Pin // on the disk; none where it has no digest
	// signed holds, by policy, the digests that it accepts; nil accepts all.
	signed   map[string]string
	during   string // the policy that Fetch finds, where it is another than that of the pin
	shared   []bool // of each Resolve: whether the answer may have been shared
	resolved []time.Time
	fetched  []string
}

func (f *fake) Resolve(ctx context.Context, s deploy.Source) (deploy.Pin, error) {
	f.mu.Lock()
	f.shared = append(f.shared, s.Interval > 0)
	f.resolved = append(f.resolved, time.Now())
	pin, err, delay := f.pin, f.err, f.delay
	f.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return deploy.Pin{}, ctx.Err()
		}
	}
	return pin, err
}

func (f *fake) Fetch(_ context.Context, s deploy.Source, pin deploy.Pin) (deploy.Revision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fetched = append(f.fetched, pin.Digest)
	if f.fetchErr != nil {
		return deploy.Revision{}, f.fetchErr
	}
	if f.during != "" {
		pin.Policy = f.during
	}
	return f.revision(s, pin)
}

func (f *fake) Cached(_ context.Context, s deploy.Source) (deploy.Pin, deploy.Revision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cached.Digest == "" {
		return deploy.Pin{}, deploy.Revision{}, errors.New("nothing there")
	}
	rev, err := f.revision(s, f.cached)
	return f.cached, rev, err
}

func (f *fake) revision(s deploy.Source, pin deploy.Pin) (deploy.Revision, error) {
	if f.signed != nil && f.signed[pin.Policy] != pin.Digest {
		return deploy.Revision{}, &deploy.Failure{Reason: deploy.SourceUnverified, Err: errors.New("bad signature")}
	}
	return deploy.Revision{Source: s.Name, Ref: pin.Ref, Digest: pin.Digest, VerifiedBy: pin.Policy, Policy: pin.Policy}, nil
}

func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) polls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.resolved)
}

// ear remembers what was told.
type ear struct {
	mu        sync.Mutex
	revisions []string
	states    []deploy.SourceState
}

func (e *ear) Revised(r deploy.Revision) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.revisions = append(e.revisions, r.String())
}

func (e *ear) Withdrawn(deploy.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.revisions = append(e.revisions, "withdrawn")
}

func (e *ear) SourceState(s deploy.SourceState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.states = append(e.states, s)
}

func (e *ear) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string{}, e.revisions...)
}

func (e *ear) last() deploy.SourceState {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.states[len(e.states)-1]
}

func source(name string, change ...func(*deploy.Source)) deploy.Source {
	s := deploy.Source{
		Name:     deploy.Name{Kind: deploy.KindSource, Namespace: "ns", Name: name},
		Spec:     deploy.SourceSpec{URL: "oci://registry.test/" + name},
		Interval: 10 * time.Minute,
		Timeout:  time.Minute,
	}
	for _, c := range change {
		c(&s)
	}
	s.Hash = deploy.HashOf([]any{s.Spec, s.Interval})
	return s
}

// run runs a poller in a bubble of synthetic time until the test function returns.
func run(t *testing.T, f *fake, sources []deploy.Source, test func(*Poller, *ear)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := &ear{}
		p := New(f, e, zap.NewNop())
		p.Set(sources)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		test(p, e)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestPollerTellsOnlyNews(t *testing.T) {
	f := &fake{pin: deploy.Pin{Ref: "latest", Digest: "sha256:1"}}
	run(t, f, []deploy.Source{source("web")}, func(_ *Poller, e *ear) {
		if f.polls() != 1 {
			t.Fatalf("%d polls at the start, want one at once", f.polls())
		}
		time.Sleep(35 * time.Minute)
		synctest.Wait()
		if n := f.polls(); n < 4 || n > 5 {
			t.Errorf("%d polls in 35 minutes at an interval of ten", n)
		}
		if d := cmp.Diff([]string{"latest@sha256:1"}, e.heard()); d != "" {
			t.Errorf("an unchanged source was told again (-want +got):\n%s", d)
		}
		f.set(func(f *fake) { f.pin.Digest = "sha256:2" })
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if d := cmp.Diff([]string{"latest@sha256:1", "latest@sha256:2"}, e.heard()); d != "" {
			t.Errorf("revisions (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{"sha256:1", "sha256:2"}, f.fetched); d != "" {
			t.Errorf("fetches (-want +got):\n%s", d)
		}
	})
}

func TestPollerKeepsTheRevisionWhileTheRegistryFails(t *testing.T) {
	f := &fake{pin: deploy.Pin{Ref: "latest", Digest: "sha256:1"}}
	run(t, f, []deploy.Source{source("web")}, func(p *Poller, e *ear) {
		f.set(func(f *fake) { f.err = errors.New("registry is down") })
		p.Poke(source("web").Name)
		synctest.Wait()
		s := e.last()
		if s.Ready || s.Failures != 1 || s.Message != "registry is down" || s.Revision != "latest@sha256:1" {
			t.Errorf("state after a failure: %+v", s)
		}
		// 0.75 + 1.5 + 3 + 6 s
		time.Sleep(12 * time.Second)
		synctest.Wait()
		if n := e.last().Failures; n != 5 {
			t.Errorf("%d failures after 12 s of backoff, want 5", n)
		}
		f.set(func(f *fake) { f.err = nil })
		time.Sleep(13 * time.Second)
		synctest.Wait()
		if s := e.last(); !s.Ready || s.Failures != 0 || s.Message != "" {
			t.Errorf("state after the recovery: %+v", s)
		}
		if d := cmp.Diff([]string{"latest@sha256:1"}, e.heard()); d != "" {
			t.Errorf("revisions (-want +got):\n%s", d)
		}
	})
}

type limited struct{ after time.Duration }

func (limited) Error() string                       { return "rate limited" }
func (l limited) RetryAfter() (time.Duration, bool) { return l.after, true }

func TestPollerHonoursRetryAfter(t *testing.T) {
	f := &fake{err: fmt.Errorf("resolve: %w", limited{4 * time.Minute})}
	run(t, f, []deploy.Source{source("web")}, func(*Poller, *ear) {
		time.Sleep(4*time.Minute - time.Second)
		synctest.Wait()
		if n := f.polls(); n != 1 {
			t.Errorf("%d polls before the registry's time was over", n)
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if n := f.polls(); n != 2 {
			t.Errorf("%d polls after it, want 2", n)
		}
	})
}

func TestPollerAsksAPinnedSourceUntilItHasIt(t *testing.T) {
	f := &fake{pin: deploy.Pin{Digest: "sha256:1"}, fetchErr: errors.New("no route")}
	s := source("web", func(s *deploy.Source) { s.Spec.Ref = &deploy.Ref{Digest: "sha256:1"} })
	run(t, f, []deploy.Source{s}, func(_ *Poller, e *ear) {
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := len(f.fetched); n != 3 {
			t.Errorf("%d tries in 3 s, want 3", n)
		}
		f.set(func(f *fake) { f.fetchErr = nil })
		time.Sleep(30 * 24 * time.Hour)
		synctest.Wait()
		if n := len(f.fetched); n != 4 {
			t.Errorf("%d fetches in a month, want 4", n)
		}
		if d := cmp.Diff([]string{"sha256:1"}, e.heard()); d != "" {
			t.Errorf("revisions (-want +got):\n%s", d)
		}
		if s := e.last(); !s.NextPoll.IsZero() {
			t.Errorf("a pinned source has a next poll: %v", s.NextPoll)
		}
	})
}

func TestPollerDoesNotPollSuspendedSources(t *testing.T) {
	f := &fake{}
	s := source("web", func(s *deploy.Source) { s.Spec.Suspend = true })
	run(t, f, []deploy.Source{s}, func(p *Poller, e *ear) {
		if !p.Poke(s.Name) {
			t.Error("a suspended source is unknown")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if f.polls() != 0 || !e.last().Suspended {
			t.Errorf("%d polls, state %+v", f.polls(), e.last())
		}
	})
}

func TestPollerKeepsEqualEntriesRunning(t *testing.T) {
	f := &fake{pin: deploy.Pin{Ref: "latest", Digest: "sha256:1"}}
	run(t, f, []deploy.Source{source("web"), source("gone")}, func(p *Poller, e *ear) {
		f.set(func(f *fake) { f.resolved = nil })
		p.Set([]deploy.Source{source("web"), source("new")})
		synctest.Wait()
		if n := f.polls(); n != 1 {
			t.Errorf("%d polls after a reload with one new source, want 1", n)
		}
		if p.Poke(source("gone").Name) {
			t.Error("a removed source is still known")
		}
		p.Set([]deploy.Source{source("web", func(s *deploy.Source) { s.Interval = time.Minute }), source("new")})
		synctest.Wait()
		if n := f.polls(); n != 2 {
			t.Errorf("%d polls after an entry changed, want 2", n)
		}
		if n := len(e.heard()); n != 4 {
			t.Errorf("%d revisions told, want web twice, gone and new: %v", n, e.heard())
		}
	})
}

func TestPollerPokesAtOnce(t *testing.T) {
	f := &fake{pin: deploy.Pin{Ref: "latest", Digest: "sha256:1"}}
	run(t, f, []deploy.Source{source("web")}, func(p *Poller, _ *ear) {
		if !p.Poke(source("web").Name) {
			t.Error("the source is unknown")
		}
		synctest.Wait()
		if n := f.polls(); n != 2 {
			t.Errorf("%d polls, want 2", n)
		}
		if p.Poke(deploy.Name{Kind: deploy.KindSource, Namespace: "ns", Name: "other"}) {
			t.Error("an unknown source is known")
		}
	})
}

func TestPollerBoundsAPollByTheTimeout(t *testing.T) {
	f := &fake{delay: time.Hour}
	run(t, f, []deploy.Source{source("web", func(s *deploy.Source) { s.Timeout = 7 * time.Second })}, func(_ *Poller, e *ear) {
		time.Sleep(7100 * time.Millisecond)
		synctest.Wait()
		if s := e.last(); s.Failures != 1 || !strings.Contains(s.Message, "timeout of 7s") {
			t.Errorf("state: %+v", s)
		}
	})
}

func TestPollerTellsNothingOfASourceThatWasRemovedMeanwhile(t *testing.T) {
	f := &fake{pin: deploy.Pin{Ref: "latest", Digest: "sha256:1"}, delay: time.Second}
	run(t, f, []deploy.Source{source("web")}, func(p *Poller, e *ear) {
		p.Set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := e.heard(); len(got) != 0 || len(e.states) != 0 {
			t.Errorf("told: %v, %+v", got, e.states)
		}
	})
}

func TestPollOnce(t *testing.T) {
	f := &fake{pin: deploy.Pin{Ref: "latest", Digest: "sha256:1"}}
	e := &ear{}
	p := New(f, e, zap.NewNop())
	p.Set([]deploy.Source{source("web"), source("db"), source("off", func(s *deploy.Source) { s.Spec.Suspend = true })})
	if err := p.PollOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.polls() != 2 || len(e.heard()) != 2 || len(e.states) != 3 {
		t.Errorf("%d polls, %d revisions, %d states; want 2, 2, 3", f.polls(), len(e.heard()), len(e.states))
	}
	f.err = errors.New("registry is down")
	if err := p.PollOnce(t.Context()); err == nil || strings.Count(err.Error(), "registry is down") != 2 {
		t.Errorf("error: %v", err)
	}
}

func TestPollerLogsTheFirstFailureAndTheRecovery(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	f := &fake{pin: deploy.Pin{Ref: "latest", Digest: "sha256:1"}, err: errors.New("registry is down")}
	synctest.Test(t, func(t *testing.T) {
		p := New(f, &ear{}, zap.New(core))
		p.Set([]deploy.Source{source("web")})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = p.Run(ctx) })
		time.Sleep(time.Minute)
		f.set(func(f *fake) { f.err = nil })
		time.Sleep(20 * time.Minute)
		cancel()
		wg.Wait()
	})
	var got []string
	for _, l := range logs.All() {
		got = append(got, l.Message)
	}
	if d := cmp.Diff([]string{"source failed", "new revision", "source recovered"}, got); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
}

func TestNext(t *testing.T) {
	pinned := source("web", func(s *deploy.Source) { s.Spec.Ref = &deploy.Ref{Digest: "sha256:1"} })
	quick := source("web", func(s *deploy.Source) { s.Interval = 2 * time.Second })
	down := errors.New("down")
	cases := []struct {
		name     string
		source   deploy.Source
		failures int
		err      error
		r        float64
		want     time.Duration
		again    bool
	}{
		{"waits for the interval, at least 95 % of it", source("web"), 0, nil, 0, 570 * time.Second, true},
		{"waits for the interval, at most 105 % of it", source("web"), 0, nil, 1, 630 * time.Second, true},
		{"never polls a digest again", pinned, 0, nil, 0.5, 0, false},
		{"tries a digest again after a failure", pinned, 1, down, 0.5, 750 * time.Millisecond, true},
		{"doubles with every failure", source("web"), 4, down, 0.5, 6 * time.Second, true},
		{"is capped by the interval", source("web"), 100, down, 0.5, 10 * time.Minute, true},
		{"is capped by a quarter of an hour", source("web", func(s *deploy.Source) { s.Interval = time.Hour }), 100, down, 0.5, 15 * time.Minute, true},
		{"is not slower than a quick interval", quick, 5, down, 0.5, 2 * time.Second, true},
		{"waits as long as the registry asks", source("web"), 1, limited{90 * time.Second}, 0, 90 * time.Second, true},
		{"does not let a registry switch it off", source("web"), 1, limited{999 * time.Hour}, 0, time.Hour, true},
		{"does not come back sooner for a short Retry-After", source("web"), 5, limited{time.Second}, 0.5, 12 * time.Second, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, again := next(c.source, c.failures, c.err, false, c.r)
			if got.Round(time.Millisecond) != c.want || again != c.again {
				t.Errorf("got %v %t, want %v %t", got, again, c.want, c.again)
			}
		})
	}
	t.Run("spreads second polls over half an interval", func(t *testing.T) {
		seen := map[time.Duration]bool{}
		for i := range 50 {
			d, _ := next(source(fmt.Sprint("s", i)), 0, nil, true, 0)
			if d < 5*time.Minute || d >= 10*time.Minute {
				t.Errorf("second poll after %v", d)
			}
			seen[d.Round(time.Second)] = true
		}
		if len(seen) < 30 {
			t.Errorf("50 sources share %d times", len(seen))
		}
	})
}

func TestQuiet(t *testing.T) {
	var q quiet
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	steps := []struct {
		after time.Duration
		n     int
		text  string
		want  bool
	}{
		{0, 1, "down", true},
		{time.Minute, 2, "down", false},
		{2 * time.Minute, 3, "unauthorized", false},
		{6 * time.Minute, 4, "unauthorized", true},
		{30 * time.Minute, 5, "unauthorized", false},
		{37 * time.Minute, 6, "unauthorized", true},
		{38 * time.Minute, 1, "unauthorized", true},
	}
	for _, s := range steps {
		if got := q.tell(start.Add(s.after), s.n, s.text); got != s.want {
			t.Errorf("failure %d after %v: logged %t, want %t", s.n, s.after, got, s.want)
		}
	}
}
