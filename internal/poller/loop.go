package poller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

const (
	// defaultTimeout bounds a poll of a source that names no timeout.
	defaultTimeout = 60 * time.Second
	// startPatience is how long a source without a revision waits for its registry before it goes on with what is on the disk: longer than a registry takes that is
	// there, so that a start does not apply old news first.
	startPatience = 3 * time.Second
)

// loop polls one source. Its fields belong to the goroutine that runs it, but for the channels and cancel.
type loop struct {
	source   deploy.Source
	registry Registry
	listener Listener
	log      *zap.Logger
	cancel   context.CancelFunc
	done     chan struct{} // closed when the loop has ended
	poke     chan struct{} // capacity 1
	// replaces says that another loop did this source's work before. It may have ended with a poke that it did not get round to, so that the first poll has to be a
	// fresh one.
	replaces bool

	state   deploy.SourceState
	current deploy.Pin // that was fetched and told
	quiet   quiet

	// mu guards retired, and is held while something is told.
	mu      sync.Mutex
	retired bool // nothing is told any more
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

// say tells the listener, unless what there is to tell is of an entry that was dropped.
func (l *loop) say(tell func(Listener)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.retired {
		tell(l.listener)
	}
}

// retire ends the loop and makes it silent at once.
func (l *loop) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retired = true
	l.cancel()
}

func (l *loop) isRetired() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.retired
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
	asked := l.replaces
	for first := true; ctx.Err() == nil; first = false {
		err := l.poll(ctx, asked)
		wait, again := next(l.source, l.state.Failures, err, first, rand.Float64()) //nolint:gosec // spreads load, keeps no secret
		l.state.NextPoll = time.Time{}
		if again {
			l.state.NextPoll = time.Now().Add(wait)
		}
		if ctx.Err() != nil {
			return
		}
		l.publish()
		asked = l.sleep(ctx, wait, again)
	}
}

// sleep waits for the time or, where no time is set, for a poke alone. It reports whether it was a poke.
func (l *loop) sleep(ctx context.Context, wait time.Duration, timed bool) bool {
	var due <-chan time.Time
	if timed {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-due:
	case <-l.poke:
		return true
	}
	return false
}

// poll does one poll and notes in the state how it went. A failure leaves the last revision where it is. A context that ended is no failure of the source, and
// nothing is noted.
func (l *loop) poll(ctx context.Context, asked bool) error {
	err := l.attempt(ctx, asked)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.state.LastPoll = time.Now()
	if err != nil {
		l.state.Ready = false
		l.state.Failures++
		l.state.Reason, l.state.Message = reason(err), err.Error()
		if l.quiet.tell(l.state.LastPoll, l.state.Failures, l.state.Message) {
			l.log.Warn("source failed", zap.String("reason", l.state.Reason), zap.Int("failures", l.state.Failures), zap.Error(err))
		} else {
			l.log.Debug("source failed", zap.String("reason", l.state.Reason), zap.Int("failures", l.state.Failures), zap.Error(err))
		}
		return err
	}
	if l.state.Failures > 0 {
		l.log.Info("source recovered", zap.Int("failures", l.state.Failures))
	}
	l.state.Ready, l.state.Failures, l.state.Reason, l.state.Message, l.state.Cached = true, 0, "", "", false
	return nil
}

// reason is the word for an error.
func reason(err error) string {
	var f *deploy.Failure
	switch {
	case errors.As(err, &f):
		return f.Reason
	case errors.Is(err, context.DeadlineExceeded):
		return deploy.SourceTimeout
	}
	return deploy.SourceFailed
}

// attempt resolves, and fetches and tells where the digest is news. Asked says that somebody waits for it: no answer is shared with other sources then.
func (l *loop) attempt(parent context.Context, asked bool) error {
	ctx, cancel := context.WithTimeout(parent, l.timeout())
	defer cancel()
	err := l.follow(ctx, parent, asked)
	if err == nil {
		return nil
	}
	if l.current.Digest == "" {
		l.fromCache(parent)
	}
	return timedOut(ctx, l.timeout(), err)
}

// timeout bounds a poll.
func (l *loop) timeout() time.Duration {
	if l.source.Timeout <= 0 {
		return defaultTimeout
	}
	return l.source.Timeout
}

// follow brings the loop to what the reference means now.
func (l *loop) follow(ctx, parent context.Context, asked bool) error {
	pin, err := l.resolve(ctx, parent, asked)
	if err != nil {
		if reason(err) == deploy.SourceNoPolicy { // what vouched for the revision is gone
			l.withdraw(err)
		}
		if l.current.Digest != "" && pin.Policy != "" && pin.Policy != l.current.Policy { // a registry that does not answer keeps no key in force
			return errors.Join(l.recheck(parent, pin.Policy), err)
		}
		return err
	}
	if pin == l.current {
		return nil
	}
	if l.current.Digest != "" && pin.Policy != l.current.Policy {
		same := pin.Digest == l.current.Digest
		if err := l.recheck(parent, pin.Policy); err != nil && same {
			return err
		}
		if pin == l.current { // nothing but the policy had changed
			return nil
		}
	}
	rev, err := l.registry.Fetch(ctx, l.source, pin)
	if err != nil {
		return err
	}
	if parent.Err() != nil { // the source was changed or removed meanwhile: this is old news
		return parent.Err()
	}
	pin.Policy = rev.Policy // it may have changed between the two calls
	l.tell(pin, rev)
	return nil
}

// resolve asks what the reference means. While a source has no revision, one from the disk is taken if the answer does not come soon: an agent that starts beside a
// dead registry has a state to hold.
func (l *loop) resolve(ctx, parent context.Context, asked bool) (deploy.Pin, error) {
	s := l.source
	if asked {
		s.Interval = 0 // no answer is young enough to be shared
	}
	if l.current.Digest != "" {
		return l.registry.Resolve(ctx, s)
	}
	var pin deploy.Pin
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		pin, err = l.registry.Resolve(ctx, s)
	}()
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
		l.fromCache(parent)
		<-done
	}
	return pin, err
}

// recheck holds the revision in force against another policy. What does not stand is withdrawn, also where it could not be found out. It has a time of its own: that of
// the poll may be used up by a registry that does not answer.
func (l *loop) recheck(parent context.Context, policy string) error {
	ctx, cancel := context.WithTimeout(parent, l.timeout())
	defer cancel()
	pin := l.current
	pin.Policy = policy
	rev, err := l.registry.Fetch(ctx, l.source, pin)
	switch {
	case parent.Err() != nil:
		return parent.Err()
	case err != nil:
		l.withdraw(err)
		return err
	}
	l.current.Policy = rev.Policy
	l.state.VerifiedBy = rev.VerifiedBy
	l.log.Info("revision verified again", zap.String("revision", rev.String()), zap.String("by", rev.VerifiedBy))
	return nil
}

// withdraw takes the revision back: nothing is to be applied from it any more. What was applied stays.
func (l *loop) withdraw(why error) {
	if l.current.Digest == "" {
		return
	}
	l.log.Warn("revision withdrawn", zap.String("revision", l.state.Revision), zap.String("reason", reason(why)), zap.Error(why))
	l.current = deploy.Pin{}
	l.state.Revision, l.state.Digest, l.state.VerifiedBy, l.state.Annotations, l.state.Cached = "", "", "", nil, false
	l.say(func(to Listener) { to.Withdrawn(l.source.Name) })
}

// fromCache takes the newest revision that is on the disk, if there is one and it is still good.
func (l *loop) fromCache(parent context.Context) {
	ctx, cancel := context.WithTimeout(parent, l.timeout()) // it may have to ask the cluster for keys
	defer cancel()
	pin, rev, err := l.registry.Cached(ctx, l.source)
	if err != nil {
		l.log.Debug("nothing on the disk to go on with", zap.Error(err))
		return
	}
	if ctx.Err() != nil {
		return
	}
	l.state.Cached = true
	l.tell(pin, rev)
	l.publish()
}

// tell makes a revision the one in force.
func (l *loop) tell(pin deploy.Pin, rev deploy.Revision) {
	l.current = pin
	l.state.Revision, l.state.Digest, l.state.VerifiedBy, l.state.Annotations = rev.String(), rev.Digest, rev.VerifiedBy, rev.Annotations
	l.log.Info("new revision", zap.String("revision", rev.String()), zap.String("verifiedBy", rev.VerifiedBy), zap.Bool("cached", l.state.Cached))
	l.say(func(to Listener) { to.Revised(rev) })
}

// timedOut says how long the source had, for the context's own words do not.
func timedOut(ctx context.Context, timeout time.Duration, err error) error {
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

func (l *loop) publish() { l.say(func(to Listener) { to.SourceState(l.state) }) }
