package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/drift"
	"github.com/towline/towline/internal/schedule"
)

// runner makes attempts with an artifact that is there: where somebody deleted the cache under the running agent, it is fetched again.
type runner struct {
	schedule.Runner
	cache *cacheKeeper
	drift *holder
}

// Reconcile makes one attempt.
func (r runner) Reconcile(ctx context.Context, w deploy.Work, progress deploy.Progress) deploy.Outcome {
	started := time.Now()
	err := r.cache.restore(ctx, w.Revision)
	if err == nil {
		r.drift.Begin(w.Target.Name)
		out := r.Runner.Reconcile(ctx, w, progress)
		r.drift.end(w.Target, out.Phase == deploy.PhaseReady)
		return out
	}
	out := deploy.Outcome{
		Target: w.Target.Name, Digest: w.Revision.Digest, Revision: w.Revision.String(), Hash: w.Target.Hash,
		Phase: deploy.PhaseFailed, Reason: deploy.ReasonBuildFailed, Err: err, Started: started, Finished: time.Now(),
	}
	if ctx.Err() != nil {
		out.Reason = deploy.ReasonCanceled
	}
	return out
}

// Move makes way for what a target is now. What it had is not watched any more.
func (r runner) Move(ctx context.Context, from, to deploy.Target, progress deploy.Progress) deploy.Outcome {
	r.drift.End(from, drift.Holding{})
	return r.Runner.Move(ctx, from, to, progress)
}

// Rollback goes back to an earlier revision. The attempt that follows ends what begins here for those who watch.
func (r runner) Rollback(ctx context.Context, t deploy.Target, revision int, progress deploy.Progress) (int, error) {
	r.drift.Begin(t.Name)
	return r.Runner.Rollback(ctx, t, revision, progress)
}

// restore fetches a revision that is gone from the cache. It lands in the same place, which its digest names.
func (k *cacheKeeper) restore(ctx context.Context, r deploy.Revision) error {
	if _, err := os.Stat(r.Dir); !errors.Is(err, fs.ErrNotExist) {
		return nil // there, or unreadable in a way that the build tells better
	}
	source, known := k.source(r.Source)
	if !known {
		return fmt.Errorf("the artifact %s is gone from the cache, and its source %s from the config", r, r.Source)
	}
	ctx, cancel := context.WithTimeout(ctx, source.Timeout)
	defer cancel()
	if _, err := k.store.Fetch(ctx, source, deploy.Pin{Digest: r.Digest}); err != nil {
		return fmt.Errorf("the artifact is gone from the cache: %w", err)
	}
	return nil
}
