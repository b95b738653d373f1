package poller

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
)

// poke polls now and lets it end.
func poke(p *Poller) {
	p.Poke(source("web").Name)
	synctest.Wait()
}

func heard(t *testing.T, e *ear, want ...string) {
	t.Helper()
	if d := cmp.Diff(append([]string{}, want...), e.heard()); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}

func TestPollerStartsFromTheDisk(t *testing.T) {
	one, two := deploy.Pin{Ref: "latest", Digest: "sha256:1"}, deploy.Pin{Ref: "latest", Digest: "sha256:2"}
	t.Run("when the registry fails", func(t *testing.T) {
		f := &fake{err: errors.New("no route"), cached: one}
		run(t, f, []deploy.Source{source("web")}, func(p *Poller, e *ear) {
			heard(t, e, "latest@sha256:1")
			if s := e.last(); s.Ready || !s.Cached || s.Revision != "latest@sha256:1" || s.Message != "no route" || s.Reason != deploy.SourceFailed {
				t.Errorf("state: %+v", s)
			}
			f.set(func(f *fake) { f.err, f.pin = nil, one })
			poke(p)
			heard(t, e, "latest@sha256:1")
			if s := e.last(); !s.Ready || s.Cached || s.Reason != "" {
				t.Errorf("state when the registry is back: %+v", s)
			}
			f.set(func(f *fake) { f.pin = two })
			poke(p)
			heard(t, e, "latest@sha256:1", "latest@sha256:2")
		})
	})
	t.Run("when the registry is slow, and goes on with its answer", func(t *testing.T) {
		f := &fake{pin: two, delay: 20 * time.Second, cached: one}
		run(t, f, []deploy.Source{source("web")}, func(_ *Poller, e *ear) {
			heard(t, e)
			time.Sleep(startPatience)
			synctest.Wait()
			heard(t, e, "latest@sha256:1")
			time.Sleep(20 * time.Second)
			synctest.Wait()
			heard(t, e, "latest@sha256:1", "latest@sha256:2")
		})
	})
	t.Run("when what the registry has cannot be fetched", func(t *testing.T) {
		f := &fake{pin: two, fetchErr: errors.New("cut"), cached: one}
		run(t, f, []deploy.Source{source("web")}, func(_ *Poller, e *ear) { heard(t, e, "latest@sha256:1") })
	})
	t.Run("not when the registry answers in time", func(t *testing.T) {
		f := &fake{pin: two, delay: startPatience / 2, cached: one}
		run(t, f, []deploy.Source{source("web")}, func(_ *Poller, e *ear) {
			time.Sleep(startPatience)
			synctest.Wait()
			heard(t, e, "latest@sha256:2")
		})
	})
	t.Run("not with what is not signed as the source demands now", func(t *testing.T) {
		f := &fake{err: errors.New("no route"), cached: one, signed: map[string]string{}}
		run(t, f, []deploy.Source{source("web")}, func(_ *Poller, e *ear) { heard(t, e) })
	})
}

func TestPollerHoldsRevisionsAgainstAChangedPolicy(t *testing.T) {
	first := deploy.Pin{Ref: "latest", Digest: "sha256:1", Policy: "old key"}
	signed := func() map[string]string {
		return map[string]string{"old key": "sha256:1", "both keys": "sha256:1", "new key": "sha256:2"}
	}
	start := func(t *testing.T, test func(*fake, *Poller, *ear)) {
		f := &fake{pin: first, signed: signed()}
		run(t, f, []deploy.Source{source("web")}, func(p *Poller, e *ear) {
			heard(t, e, "latest@sha256:1")
			test(f, p, e)
		})
	}
	t.Run("one that still stands is not told again", func(t *testing.T) {
		start(t, func(f *fake, p *Poller, e *ear) {
			f.set(func(f *fake) { f.pin.Policy = "both keys" })
			poke(p)
			heard(t, e, "latest@sha256:1")
			if s := e.last(); !s.Ready || s.VerifiedBy != "both keys" {
				t.Errorf("state: %+v", s)
			}
		})
	})
	t.Run("one that does not is withdrawn, and comes back when it does", func(t *testing.T) {
		start(t, func(f *fake, p *Poller, e *ear) {
			f.set(func(f *fake) { f.pin.Policy = "new key" })
			poke(p)
			heard(t, e, "latest@sha256:1", "withdrawn")
			if s := e.last(); s.Ready || s.Revision != "" || s.Reason != deploy.SourceUnverified {
				t.Errorf("state: %+v", s)
			}
			poke(p)
			heard(t, e, "latest@sha256:1", "withdrawn")
			f.set(func(f *fake) { f.signed["new key"] = "sha256:1" })
			poke(p)
			heard(t, e, "latest@sha256:1", "withdrawn", "latest@sha256:1")
		})
	})
	t.Run("one that cannot be looked at is withdrawn too", func(t *testing.T) {
		start(t, func(f *fake, p *Poller, e *ear) {
			f.set(func(f *fake) { f.pin.Policy, f.fetchErr = "both keys", errors.New("no route") })
			poke(p)
			heard(t, e, "latest@sha256:1", "withdrawn")
		})
	})
	t.Run("a policy that cannot be read any more withdraws it", func(t *testing.T) {
		start(t, func(f *fake, p *Poller, e *ear) {
			f.set(func(f *fake) {
				f.err = &deploy.Failure{Reason: deploy.SourceNoPolicy, Err: errors.New("no such key")}
			})
			poke(p)
			heard(t, e, "latest@sha256:1", "withdrawn")
		})
	})
	t.Run("a new artifact under a new policy takes its place", func(t *testing.T) {
		start(t, func(f *fake, p *Poller, e *ear) {
			f.set(func(f *fake) { f.pin = deploy.Pin{Ref: "latest", Digest: "sha256:2", Policy: "new key"} })
			poke(p)
			heard(t, e, "latest@sha256:1", "withdrawn", "latest@sha256:2")
		})
	})
	t.Run("a new artifact that is not signed leaves the one before in force", func(t *testing.T) {
		start(t, func(f *fake, p *Poller, e *ear) {
			f.set(func(f *fake) { f.pin.Digest = "sha256:3" })
			poke(p)
			heard(t, e, "latest@sha256:1")
			if s := e.last(); s.Ready || s.Revision != "latest@sha256:1" || s.Reason != deploy.SourceUnverified {
				t.Errorf("state: %+v", s)
			}
		})
	})
	t.Run("a pinned digest is looked at again too", func(t *testing.T) {
		f := &fake{pin: first, signed: signed()}
		s := source("web", func(s *deploy.Source) { s.Spec.Ref, s.Spec.Verify = &deploy.Ref{Digest: "sha256:1"}, &deploy.Verify{} })
		run(t, f, []deploy.Source{s}, func(_ *Poller, e *ear) {
			f.set(func(f *fake) { f.pin.Policy = "new key" })
			time.Sleep(11 * time.Minute)
			synctest.Wait()
			heard(t, e, "latest@sha256:1", "withdrawn")
		})
	})
}

func TestPollerSharesNoAnswerWithWhoAsks(t *testing.T) {
	f := &fake{pin: deploy.Pin{Ref: "latest", Digest: "sha256:1"}}
	run(t, f, []deploy.Source{source("web")}, func(p *Poller, _ *ear) {
		poke(p)
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if d := cmp.Diff([]bool{true, false, true}, f.shared); d != "" {
			t.Errorf("whether the answer may be shared: start, poke, interval (-want +got):\n%s", d)
		}
	})
}

func TestPollerAsksAnewForAnEntryThatChanged(t *testing.T) {
	f := &fake{pin: deploy.Pin{Ref: "latest", Digest: "sha256:1"}}
	run(t, f, []deploy.Source{source("web")}, func(p *Poller, _ *ear) {
		p.Set([]deploy.Source{source("web", func(s *deploy.Source) { s.Interval = time.Hour })})
		synctest.Wait()
		if d := cmp.Diff([]bool{true, false}, f.shared); d != "" {
			t.Errorf("whether the answer may be shared: start, new entry (-want +got):\n%s", d)
		}
	})
}
