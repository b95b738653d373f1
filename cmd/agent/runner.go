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
	revision, err := r.cache.restore(ctx, w.Revision)
	if err == nil {
		w.Revision = revision
		r.drift.Begin(w.Target.Name)
		out := r.Runner.Reconcile(ctx, w, progress)
		r.drift.end(w.Target, out.Phase == deploy.PhaseReady)
		out.Watched = r.drift.suffices(w.Target)
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

// restore fetches a revision that is gone from the cache, where it lands in the same place, which its digest names; or one that only its name is known of.
func (k *cacheKeeper) restore(ctx context.Context, r deploy.Revision) (deploy.Revision, error) {
	if _, err := os.Stat(r.Dir); r.Dir != "" && !errors.Is(err, fs.ErrNotExist) {
		return r, nil // there, or unreadable in a way that the build tells better
	}
	source, known := k.source(r.Source)
	if !known {
		return r, fmt.Errorf("the artifact %s is gone from the cache, and its source %s from the config", r, r.Source)
	}
	ctx, cancel := context.WithTimeout(ctx, source.Timeout)
	defer cancel()
	got, err := k.store.Fetch(ctx, source, deploy.Pin{Digest: r.Digest}) // without the tag, which may mean another artifact by now
	switch {
	case err != nil && r.Dir == "":
		return r, fmt.Errorf("go back to %s: %w", r, err)
	case err != nil:
		return r, fmt.Errorf("the artifact is gone from the cache: %w", err)
	}
	got.Ref = r.Ref
	return got, nil
}
