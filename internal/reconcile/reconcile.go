// Package reconcile makes one attempt for one target and is the single place that turns an error into a phase and a reason.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// Engine brings one kind of target to what a revision says. The suite in enginetest holds every engine to the same promises.
type Engine interface {
	// Plan reads and compares, and changes nothing. An empty plan means that there is nothing to do.
	Plan(context.Context, deploy.Work) (*deploy.Plan, error)
	// Apply does what the plan says, waits for health and removes what is left over. It returns promptly when its context ends. Its errors are a *deploy.Failure.
	Apply(context.Context, deploy.Work, *deploy.Plan, deploy.Progress) ([]deploy.Change, error)
	// Delete removes what the target left behind, by its deletion policy. The target comes from a record: it has no Helm values. Nothing there is no error.
	Delete(context.Context, deploy.Target, deploy.Progress) error
}

// Mover is an engine that can find that what a target left is where the target is now: then stayed is true, and there is nothing to delete.
type Mover interface {
	Move(ctx context.Context, from, to deploy.Target) (stayed bool, err error)
}

// Reconciler runs attempts. Safe for concurrent use; attempts for the same target must not overlap.
type Reconciler struct {
	engines map[deploy.Kind]Engine
	log     *zap.Logger

	mu   sync.Mutex // guards last
	last map[deploy.Name]string
}

// New makes a Reconciler with one engine per kind of target.
func New(engines map[deploy.Kind]Engine, log *zap.Logger) *Reconciler {
	return &Reconciler{engines: engines, log: log.Named("reconcile"), last: make(map[deploy.Name]string)}
}

// Reconcile makes one attempt and says how it ended; it never panics. The outcome has the reason Canceled only where ctx itself was cancelled.
func (r *Reconciler) Reconcile(ctx context.Context, w deploy.Work, progress deploy.Progress) deploy.Outcome {
	out := deploy.Outcome{
		Target:   w.Target.Name,
		Digest:   w.Revision.Digest,
		Revision: w.Revision.String(),
		Hash:     w.Target.Hash,
		Started:  time.Now(),
	}
	bounded, cancel := context.WithTimeout(ctx, limit(w.Target))
	defer cancel()
	stage := stagePlan
	out.Changes, out.Err = r.guard(w.Target.Name, func() ([]deploy.Change, error) {
		return r.attempt(bounded, w, quiet(progress), &stage)
	})
	return r.finish(ctx, out, stage, w.Target)
}

// attempt is the pipeline: plan, and unless that is empty, apply. It notes the stage that it is in for the sake of the error.
func (r *Reconciler) attempt(ctx context.Context, w deploy.Work, progress deploy.Progress, stage *stage) ([]deploy.Change, error) {
	engine, err := r.engine(w.Target.Name)
	if err != nil {
		return nil, err
	}
	progress(deploy.PhaseBuilding, "")
	plan, err := engine.Plan(ctx, w)
	if err != nil || plan.Empty() {
		return nil, err
	}
	// From here on news must not cut the attempt short, so the word goes out before the first request that changes something. A cancellation that
	// came before it still counts.
	progress(deploy.PhaseApplying, "")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	*stage = stageApply
	return engine.Apply(ctx, w, plan, progress)
}

// Move removes what an earlier entry of a target made, unless it stays where it is. An outcome that is Ready means: the target can be reconciled as the entry is today.
func (r *Reconciler) Move(ctx context.Context, from, to deploy.Target, progress deploy.Progress) deploy.Outcome {
	mover, ok := r.engines[to.Name.Kind].(Mover)
	if !ok {
		return r.Delete(ctx, from, progress)
	}
	out := deploy.Outcome{Target: from.Name, Hash: from.Hash, Started: time.Now()}
	bounded, cancel := context.WithTimeout(ctx, limit(from))
	defer cancel()
	stayed := false
	_, out.Err = r.guard(from.Name, func() (_ []deploy.Change, err error) {
		stayed, err = mover.Move(bounded, from, to)
		return nil, err
	})
	switch {
	case out.Err != nil:
		return r.finish(ctx, out, stageDelete, from)
	case stayed:
		out.Phase, out.Finished = deploy.PhaseReady, time.Now()
		return out
	}
	return r.Delete(ctx, from, progress)
}

// Delete removes a target that left the config. An outcome that is Ready means: it is gone.
func (r *Reconciler) Delete(ctx context.Context, t deploy.Target, progress deploy.Progress) deploy.Outcome {
	out := deploy.Outcome{Target: t.Name, Hash: t.Hash, Started: time.Now()}
	bounded, cancel := context.WithTimeout(ctx, limit(t))
	defer cancel()
	_, out.Err = r.guard(t.Name, func() ([]deploy.Change, error) {
		t, keep := released(t)
		if keep {
			return nil, nil
		}
		engine, err := r.engine(t.Name)
		if err != nil {
			return nil, err
		}
		progress := quiet(progress)
		progress(deploy.PhaseDeleting, "")
		return nil, engine.Delete(bounded, t, progress)
	})
	return r.finish(ctx, out, stageDelete, t)
}

// released is what to delete of a suspended target: as in Flux, what it put into the cluster stays and is nobody's from then on. Of a release nothing goes
// (keep); of a Kustomization what was remembered about the objects.
func released(t deploy.Target) (_ deploy.Target, keep bool) {
	if !t.Suspend {
		return t, false
	}
	if t.Kustomization == nil {
		return t, true
	}
	k := *t.Kustomization
	k.DeletionPolicy = deploy.DeletionOrphan
	t.Kustomization = &k
	return t, false
}

func (r *Reconciler) engine(n deploy.Name) (Engine, error) {
	e, ok := r.engines[n.Kind]
	if !ok {
		return nil, fmt.Errorf("%s: there is no engine for a target of kind %s", n, n.Kind)
	}
	return e, nil
}

// guard turns a panic into an error. The stack goes to the log only: it is of no use to a user and may hold values.
func (r *Reconciler) guard(n deploy.Name, f func() ([]deploy.Change, error)) (changes []deploy.Change, err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("an attempt panicked", zap.Stringer("target", n), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			changes, err = nil, errors.New("internal error: the attempt panicked: the log has the stack; please report it")
		}
	}()
	return f()
}

// finish gives the outcome its phase and reason and logs it where the target's state changed.
func (r *Reconciler) finish(parent context.Context, out deploy.Outcome, at stage, t deploy.Target) deploy.Outcome {
	out.Finished = time.Now()
	out.Phase, out.Reason = classify(out.Err, parent.Err(), at, t.Name.Kind)
	var f *deploy.Failure
	if errors.As(out.Err, &f) {
		out.RetryAfter, out.FellBack = f.RetryAfter, f.FellBack
	}
	if clock := deploy.SuspectClock(out.Err, out.Finished); clock != nil && out.Reason == deploy.ReasonClockSuspect {
		out.Err, out.RetryAfter = clock, clockRetry
	}
	if out.Reason == deploy.ReasonTimeout && (t.HelmRelease == nil || f == nil) { // of a release's operations each has its own time, and says so
		out.Err = fmt.Errorf("gave up after %s: %w", limit(t), out.Err)
	}
	r.report(out, at)
	return out
}

// report logs one Info line per change of state; what repeats is Debug.
func (r *Reconciler) report(out deploy.Outcome, at stage) {
	fields := []zap.Field{
		zap.Stringer("target", out.Target), zap.String("revision", out.Revision), zap.String("phase", string(out.Phase)),
		zap.Int("changes", len(out.Changes)), zap.Duration("took", out.Finished.Sub(out.Started)),
	}
	if out.Err != nil {
		fields = append(fields, zap.String("reason", out.Reason), zap.Error(out.Err))
	}
	message := "target reconciled"
	if at == stageDelete {
		message = "target deleted"
	}
	if out.Err != nil {
		message = "target not reconciled"
		if at == stageDelete {
			message = "target not deleted"
		}
	}
	if out.Reason == deploy.ReasonCanceled {
		r.log.Debug("attempt cancelled", fields...) // no change of state: the attempt that follows will tell
		return
	}
	if r.changed(out, at) {
		r.log.Info(message, fields...)
	} else {
		r.log.Debug(message, fields...)
	}
}

// changed remembers the state that the outcome is and reports whether it differs from the one before. Repairs count as a change.
func (r *Reconciler) changed(out deploy.Outcome, at stage) bool {
	state := fmt.Sprint(at == stageDelete, out.Revision, out.Hash, out.Phase, out.Reason)
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.last[out.Target]
	if at == stageDelete && out.Err == nil {
		delete(r.last, out.Target)
		return true
	}
	r.last[out.Target] = state
	return before != state || (out.Err == nil && len(out.Changes) > 0)
}

// quiet makes a nil Progress callable.
func quiet(p deploy.Progress) deploy.Progress {
	if p == nil {
		return func(deploy.Phase, string) {}
	}
	return p
}
