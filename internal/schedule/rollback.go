package schedule

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// What Rollback's errors may be.
var (
	// ErrUnknown: no Set named the target.
	ErrUnknown = errors.New("there is no such target")
	// ErrBusy: a rollback of the target was asked for before, and is not done.
	ErrBusy = errors.New("another rollback of it is under way")

	errHeld     = errors.New("it is back at an earlier revision already")
	errStopping = errors.New("the agent is stopping: nothing was rolled back")
	errLeft     = errors.New("it left the config meanwhile: nothing was rolled back")
)

// order is a rollback that somebody waits for.
type order struct {
	// to is the revision to go back to: of a release Helm's number, of manifests a tag or digest; empty: the last good one before the newest.
	to     string
	answer chan rolledBack // has room for one
}

// rolledBack is how a rollback ended: the revision that the target is at now, or why not.
type rolledBack struct {
	to  string
	err error
}

// Rollback brings a target back to an earlier revision and blocks until that is done: a release to one of its own by Helm's number, manifests to one that was good, by its tag, its digest or
// the beginning of that; empty: the last good one before the newest. It goes before everything else that is due for the target, and a running attempt gives way where it is not changing the
// cluster right now. It does not wait for dependencies; a release needs no revision of its source, and is rolled back although it is suspended. A full attempt follows for a release, which
// says how it is. Where ctx ends first, the rollback goes on, and the error is the context's.
func (s *Scheduler) Rollback(ctx context.Context, n deploy.Name, to string) (string, error) {
	o := &order{to: to, answer: make(chan rolledBack, 1)}
	if n.Kind == deploy.KindHelmRelease {
		if _, err := o.number(); err != nil {
			return "", err
		}
	}
	if err := s.inbox.putOrder(n, o); err != nil {
		return "", err
	}
	select {
	case r := <-o.answer:
		return r.to, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// number is Helm's number of a release's revision; 0 for the last good one before the newest.
func (o *order) number() (int, error) {
	if o.to == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(o.to)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not a revision of a release: want a number of those that towline history lists", o.to)
	}
	return n, nil
}

func (b *inbox) putOrder(n deploy.Name, o *order) (err error) {
	b.put(func(m *mail) {
		switch {
		case b.closed:
			err = errStopping
		case !b.known[n]:
			err = ErrUnknown
		case m.orders[n] != nil:
			err = ErrBusy
		default:
			m.orders[n] = o
		}
	})
	return err
}

// close refuses further orders: nobody would read them.
func (b *inbox) close() { b.put(func(*mail) { b.closed = true }) }

// order takes a rollback up.
func (l *loop) order(n deploy.Name, o *order) {
	t, ok := l.state.targets[n]
	switch {
	case !ok || t.gone:
		o.answer <- rolledBack{err: errLeft}
	case t.order != nil || t.awaited != nil || t.job != nil && t.job.action == actionRollback:
		o.answer <- rolledBack{err: ErrBusy}
	case t.held != nil && t.spec.HelmRelease != nil:
		o.answer <- rolledBack{err: fmt.Errorf("%w: %s", errHeld, t.held)}
	case t.spec.Kustomization != nil:
		if err := l.holdByHand(t, o); err != nil {
			o.answer <- rolledBack{err: err}
		}
	default:
		t.order = o
		l.touch(n)
	}
}

// refuse answers an order that will not be carried out.
func (t *target) refuse(err error) {
	for _, o := range []*order{t.order, t.awaited} {
		if o != nil {
			o.answer <- rolledBack{err: err}
		}
	}
	t.order, t.awaited = nil, nil
}

// rolledBack answers who waits, and lets a full attempt say how the target is now.
func (l *loop) rolledBack(t *target, r result) {
	err := r.outcome.Err
	if err != nil && errors.Is(err, context.Canceled) && l.state.stopping {
		err = errStopping
	}
	l.log.Info("rollback by hand", zap.Stringer("target", r.job.name), zap.String("wanted", r.job.order.to), zap.Int("revision", r.to), zap.Error(err))
	answer := rolledBack{err: err}
	if err == nil {
		answer.to = strconv.Itoa(r.to)
	}
	r.job.order.answer <- answer
	t.reset()
	t.forced |= forceChanged
}
