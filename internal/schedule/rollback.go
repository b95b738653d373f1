package schedule

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// What Rollback's errors may be.
var (
	// ErrUnknown: no Set named the target.
	ErrUnknown = errors.New("there is no such target")
	// ErrBusy: a rollback of the target was asked for before, and is not done.
	ErrBusy = errors.New("another rollback of it is under way")

	errStopping = errors.New("the agent is stopping: nothing was rolled back")
	errLeft     = errors.New("it left the config meanwhile: nothing was rolled back")
)

// order is a rollback that somebody waits for.
type order struct {
	// revision to go back to; 0: the last good one before the newest.
	revision int
	answer   chan rolledBack // has room for one
}

// rolledBack is how a rollback ended: the revision that the target is at now, or why not.
type rolledBack struct {
	to  int
	err error
}

// Rollback brings a target back to an earlier revision of its own (0: the last good one before the newest) and blocks until that is done. It goes before everything else that is due
// for the target, and a running attempt gives way where it is not changing the cluster right now; it needs neither revisions of sources nor dependencies, and runs for a suspended
// target too. A full attempt follows, which says how the target is. Where ctx ends first, the rollback goes on, and the error is the context's.
func (s *Scheduler) Rollback(ctx context.Context, n deploy.Name, revision int) (to int, err error) {
	o := &order{revision: revision, answer: make(chan rolledBack, 1)}
	if err := s.inbox.putOrder(n, o); err != nil {
		return 0, err
	}
	select {
	case r := <-o.answer:
		return r.to, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
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
	case t.order != nil || t.job != nil && t.job.action == actionRollback:
		o.answer <- rolledBack{err: ErrBusy}
	default:
		t.order = o
		l.touch(n)
	}
}

// refuse answers an order that will not be carried out.
func (t *target) refuse(err error) {
	if t.order != nil {
		t.order.answer <- rolledBack{err: err}
		t.order = nil
	}
}

// rolledBack answers who waits, and lets a full attempt say how the target is now.
func (l *loop) rolledBack(t *target, r result) {
	err := r.outcome.Err
	if err != nil && errors.Is(err, context.Canceled) && l.state.stopping {
		err = errStopping
	}
	l.log.Info("rollback by hand", zap.Stringer("target", r.job.name), zap.Int("wanted", r.job.order.revision), zap.Int("revision", r.to), zap.Error(err))
	r.job.order.answer <- rolledBack{r.to, err}
	t.reset()
	t.forced |= forceChanged
}
