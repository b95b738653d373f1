package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// Roller is an engine whose targets have revisions of their own, and can go back to one.
type Roller interface {
	// Rollback goes back to a revision, 0 being the last good one before the newest, and says which it was. It returns promptly when its context ends.
	Rollback(ctx context.Context, t deploy.Target, revision int, progress deploy.Progress) (to int, err error)
}

// Rollback brings a target back to an earlier revision; it never panics.
func (r *Reconciler) Rollback(ctx context.Context, t deploy.Target, revision int, progress deploy.Progress) (to int, err error) {
	roller, ok := r.engines[t.Name.Kind].(Roller)
	if !ok {
		return 0, fmt.Errorf("%s has no revisions of its own to go back to", t.Name)
	}
	started := time.Now()
	bounded, cancel := context.WithTimeout(ctx, limit(t))
	defer cancel()
	_, err = r.guard(t.Name, func() (_ []deploy.Change, err error) {
		to, err = roller.Rollback(bounded, t, revision, quiet(progress))
		return nil, err
	})
	if err != nil && errors.Is(bounded.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("gave up after %s: %w", limit(t), err)
	}
	r.log.Debug("target rolled back", zap.Stringer("target", t.Name), zap.Int("revision", to), zap.Duration("took", time.Since(started)), zap.Error(err))
	return to, err
}
