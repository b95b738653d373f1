package poller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// defaultTimeout bounds a poll of a source that names no timeout.
const defaultTimeout = 60 * time.Second

// loop polls one source. Its fields belong to the goroutine that runs it, but for the channels and cancel.
type loop struct {
	source   deploy.Source
	registry Registry
	listener Listener
	log      *zap.Logger
	cancel   context.CancelFunc
	done     chan struct{} // closed when the loop has ended
	poke     chan struct{} // capacity 1

	state   deploy.SourceState
	current deploy.Pin // that was fetched and told
	quiet   quiet
}

func (p *Poller) newLoop(s deploy.Source) *loop {
	return &loop{
		source:   s,
		registry: p.registry,
		listener: p.listener,
		log:      p.log.With(zap.Stringer("source", s.Name)),
		done:     make(chan struct{}),
		poke:     make(chan struct{}, 1),
		state:    deploy.SourceState{Name: s.Name, URL: s.Spec.URL, Suspended: s.Spec.Suspend},
	}
}

// run polls until the context ends: at once, then as next says.
func (l *loop) run(ctx context.Context) {
	if l.source.Spec.Suspend {
		if ctx.Err() == nil {
			l.publish()
		}
		<-ctx.Done()
		return
	}
	for first := true; ctx.Err() == nil; first = false {
		err := l.poll(ctx)
		wait, again := next(l.source, l.state.Failures, err, first, rand.Float64()) //nolint:gosec // spreads load, keeps no secret
		l.state.NextPoll = time.Time{}
		if again {
			l.state.NextPoll = time.Now().Add(wait)
		}
		if ctx.Err() != nil {
			return
		}
		l.publish()
		if !l.sleep(ctx, wait, again) {
			return
		}
	}
}

// sleep waits for the time or, where no time is set, for a poke alone. It reports false when the context ended.
func (l *loop) sleep(ctx context.Context, wait time.Duration, timed bool) bool {
	var due <-chan time.Time
	if timed {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-due:
	case <-l.poke:
	}
	return true
}

// poll does one poll and notes in the state how it went. A failure leaves the last revision where it is. A context that ended is no failure of the source, and
// nothing is noted.
func (l *loop) poll(ctx context.Context) error {
	err := l.attempt(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.state.LastPoll = time.Now()
	if err != nil {
		l.state.Ready = false
		l.state.Failures++
		l.state.Message = err.Error()
		if l.quiet.tell(l.state.LastPoll, l.state.Failures, l.state.Message) {
			l.log.Warn("source failed", zap.Int("failures", l.state.Failures), zap.Error(err))
		} else {
			l.log.Debug("source failed", zap.Int("failures", l.state.Failures), zap.Error(err))
		}
		return err
	}
	if l.state.Failures > 0 {
		l.log.Info("source recovered", zap.Int("failures", l.state.Failures))
	}
	l.state.Ready, l.state.Failures, l.state.Message = true, 0, ""
	return nil
}

// attempt resolves, and fetches and tells where the digest is news.
func (l *loop) attempt(parent context.Context) error {
	timeout := l.source.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(parent, timeout)
	defer cancel()
	pin, err := l.registry.Resolve(ctx, l.source)
	if err != nil {
		return l.timedOut(ctx, timeout, err)
	}
	if pin == l.current {
		return nil
	}
	rev, err := l.registry.Fetch(ctx, l.source, pin)
	if err != nil {
		return l.timedOut(ctx, timeout, err)
	}
	if parent.Err() != nil { // the source was changed or removed meanwhile: this is old news
		return parent.Err()
	}
	l.current = pin
	l.state.Revision, l.state.Digest, l.state.Annotations = rev.String(), rev.Digest, rev.Annotations
	l.log.Info("new revision", zap.String("revision", rev.String()))
	l.listener.Revised(rev)
	return nil
}

// timedOut says how long the source had, for the context's own words do not.
func (l *loop) timedOut(ctx context.Context, timeout time.Duration, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within the timeout of %s: %w", timeout, err)
	}
	return err
}

func (l *loop) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *loop) publish() { l.listener.SourceState(l.state) }
