package poller

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

func TestPollerIsSilentAboutWhatWasDropped(t *testing.T) {
	one := deploy.Pin{Ref: "latest", Digest: "sha256:1"}
	t.Run("also in the middle of a poll", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &stubborn{fake: fake{pin: one}, fetching: make(chan struct{}), fetch: make(chan struct{})}
			e := &ear{}
			p := New(f, e, zap.NewNop())
			p.Set([]deploy.Source{source("web")})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- p.Run(ctx) }()
			<-f.fetching
			p.Drop(source("web").Name)
			close(f.fetch) // it comes back with a good answer all the same
			synctest.Wait()
			heard(t, e)
			if len(e.states) != 0 {
				t.Errorf("states: %+v", e.states)
			}
			cancel()
			<-done
		})
	})
	t.Run("until it is back, with an equal entry or another", func(t *testing.T) {
		f := &fake{pin: one}
		run(t, f, []deploy.Source{source("web")}, func(p *Poller, e *ear) {
			p.Drop(source("web").Name)
			if p.Poke(source("web").Name) {
				t.Error("it is still known")
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if f.polls() != 1 {
				t.Errorf("%d polls", f.polls())
			}
			p.Set([]deploy.Source{source("web")})
			synctest.Wait()
			heard(t, e, "latest@sha256:1", "latest@sha256:1")
			p.Drop(source("web").Name)
			p.Set([]deploy.Source{source("web")}) // before the poller could look
			synctest.Wait()
			heard(t, e, "latest@sha256:1", "latest@sha256:1", "latest@sha256:1")
		})
	})
	t.Run("and takes no offence at one that it does not know", func(t *testing.T) {
		run(t, &fake{pin: one}, nil, func(p *Poller, e *ear) {
			p.Drop(source("web").Name)
			heard(t, e)
		})
	})
}

// stubborn fetches to the end although nobody wants it any more.
type stubborn struct {
	fake
	fetching, fetch chan struct{}
}

func (s *stubborn) Fetch(_ context.Context, src deploy.Source, pin deploy.Pin) (deploy.Revision, error) {
	close(s.fetching)
	<-s.fetch
	return s.revision(src, pin)
}

func TestPollerEnforcesAPolicyWithoutTheRegistry(t *testing.T) {
	first := deploy.Pin{Ref: "latest", Digest: "sha256:1", Policy: "old key"}
	signed := map[string]string{"old key": "sha256:1", "both keys": "sha256:1"}
	start := func(t *testing.T, test func(*fake, *Poller, *ear)) {
		t.Helper()
		f := &fake{pin: first, signed: signed}
		run(t, f, []deploy.Source{source("web")}, func(p *Poller, e *ear) { test(f, p, e) })
	}
	t.Run("a revoked key withdraws although nothing answers", func(t *testing.T) {
		start(t, func(f *fake, p *Poller, e *ear) {
			f.set(func(f *fake) { f.pin, f.err = deploy.Pin{Policy: "new key"}, errors.New("no route") })
			poke(p)
			heard(t, e, "latest@sha256:1", "withdrawn")
			if s := e.last(); s.Ready || s.Revision != "" {
				t.Errorf("state: %+v", s)
			}
		})
	})
	t.Run("a key that came along does not", func(t *testing.T) {
		start(t, func(f *fake, p *Poller, e *ear) {
			f.set(func(f *fake) { f.pin, f.err = deploy.Pin{Policy: "both keys"}, errors.New("no route") })
			poke(p)
			heard(t, e, "latest@sha256:1")
			if s := e.last(); s.Ready || s.VerifiedBy != "both keys" || s.Message != "no route" {
				t.Errorf("state: %+v", s)
			}
		})
	})
	t.Run("nor one that cannot be read for a moment", func(t *testing.T) {
		start(t, func(f *fake, p *Poller, e *ear) {
			f.set(func(f *fake) {
				f.pin, f.err = deploy.Pin{}, &deploy.Failure{Reason: deploy.SourceNoCredentials, Err: errors.New("no route")}
			})
			poke(p)
			heard(t, e, "latest@sha256:1")
		})
	})
	t.Run("it has time for that although the registry used up its own", func(t *testing.T) {
		start(t, func(f *fake, p *Poller, e *ear) {
			f.set(func(f *fake) {
				f.pin, f.err, f.delay = deploy.Pin{Policy: "both keys"}, context.DeadlineExceeded, 59*time.Second
			})
			poke(p)
			time.Sleep(time.Minute)
			synctest.Wait()
			heard(t, e, "latest@sha256:1")
		})
	})
	t.Run("a policy that changes between resolve and fetch is seen by the next poll", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{pin: deploy.Pin{Ref: "latest", Digest: "sha256:1", Policy: "new key"}, signed: signed, during: "old key"}
			e := &ear{}
			p := New(f, e, zap.NewNop())
			p.Set([]deploy.Source{source("web")})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- p.Run(ctx) }()
			synctest.Wait()
			heard(t, e, "latest@sha256:1")
			f.set(func(f *fake) { f.during = "" })
			poke(p)
			heard(t, e, "latest@sha256:1", "withdrawn")
			cancel()
			<-done
		})
	})
}

func TestNextComesSoonWhenAClockMayBeWrong(t *testing.T) {
	s := source("web", func(s *deploy.Source) { s.Interval = time.Hour })
	early := &deploy.Failure{Reason: deploy.SourceNotYetValid, Err: errors.New("it begins tomorrow")}
	if wait, again := next(s, 100, early, false, 1); !again || wait > clockBackoff+clockBackoff/10 {
		t.Errorf("after %s, again %t", wait, again)
	}
	if wait, _ := next(s, 100, errors.New("x"), false, 0); wait < maxBackoff/2 {
		t.Errorf("other failures: after %s", wait)
	}
}
