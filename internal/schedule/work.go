package schedule

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
)

// reasonRecordFailed: the record could not be written, so nothing was tried.
const reasonRecordFailed = "RecordFailed"

// result is what a worker hands back.
type result struct {
	job     *job
	outcome deploy.Outcome // run, delete, replace
	// rec is the record after the job, stored the hash of what memory holds now (empty: nothing), and err why that is not the same.
	rec    deploy.Record
	stored string
	err    error
	// to is the revision that a rollback led to.
	to int
}

// start begins a job on a worker of its own.
func (l *loop) start(now time.Time, st start) {
	t := l.state.targets[st.name]
	j := &job{name: st.name, action: st.action, target: t.spec, rec: t.rec, stored: t.stored, started: now}
	ctx, cancel := context.WithCancel(l.work)
	j.gate = &gate{cancel: cancel}
	switch st.action {
	case actionRun:
		want, _ := l.state.want(t)
		j.version = want
		j.work = deploy.Work{Target: t.spec, Revision: l.state.revision(t), Full: st.full, Asked: t.forced&forceAgain != 0, Drifted: t.repairs(now, want)}
		j.stage.phase = deploy.PhaseBuilding
		j.forced, j.held = t.forced, t.held
		t.full, t.forced, t.drifted = st.full, 0, drifted{}
	case actionDelete, actionReplace:
		j.target = t.rec.Target
		if st.action == actionReplace {
			j.today = t.spec
			j.target.Suspend = false // that was the entry before: today's asks for the move
			j.target = orphanedBy(t.spec, j.target)
		}
		j.stage.phase = deploy.PhaseDeleting
		t.ready, t.attempted, t.full = nil, nil, true // should it be wanted again, nobody knows how much is left
	case actionRollback:
		j.order, t.order = t.order, nil
		j.stage = stage{deploy.PhaseApplying, "rolling back"} // news must not cut it short
	case actionSave:
		j.stage.phase = t.last.Phase
	}
	j.gate.phase = j.stage.phase
	t.job = j
	l.running++
	l.touch(st.name)
	l.workers.Go(func() {
		defer cancel()
		l.results <- l.do(ctx, j)
	})
}

// repairs are the objects that an attempt is for alone, since everything else is known to be as wanted; none: it is for all.
func (t *target) repairs(now time.Time, want version) []deploy.ObjectID {
	checked := t.checkAt.IsZero() || now.Before(t.checkAt)
	if t.forced != forceDrifted || t.full || t.drifted.unsure || !checked || t.ready == nil || *t.ready != want {
		return nil
	}
	return t.drifted.objects
}

// do is the whole of a job. It runs on a worker and touches nothing of the state.
func (l *loop) do(ctx context.Context, j *job) result {
	progress := func(p deploy.Phase, words string) {
		j.gate.enter(p)
		l.inbox.putProgress(j.name, stage{p, words})
	}
	r := result{job: j, rec: j.rec, stored: j.stored}
	switch j.action {
	case actionRun:
		return l.attempt(ctx, j, progress)
	case actionSave:
		l.save(ctx, &r)
	case actionRollback:
		n, err := j.order.number()
		if r.outcome.Err = err; err == nil {
			r.to, r.outcome.Err = l.runner.Rollback(ctx, j.target, n, progress)
		}
	case actionReplace:
		r.outcome = l.runner.Move(ctx, j.target, j.today, progress)
	case actionDelete:
		r.outcome = l.runner.Delete(ctx, j.target, progress)
		if r.outcome.Err != nil {
			return r
		}
		crashpoint.At("schedule.deleted")
		if r.err = l.forget(ctx, j.name); r.err == nil {
			r.stored = ""
		}
	}
	return r
}

// attempt records what it sets out to do, tries, and records how that went. Each write only happens where it changes something.
func (l *loop) attempt(ctx context.Context, j *job, progress deploy.Progress) result {
	r := result{job: j, rec: intend(j.rec, j.work), stored: j.stored}
	if repair := len(j.work.Drifted) > 0; !repair { // that sets out for nothing new
		l.save(ctx, &r)
	}
	if r.err != nil {
		now := time.Now()
		r.rec = j.rec
		r.outcome = deploy.Outcome{
			Target: j.name, Digest: j.work.Revision.Digest, Revision: j.work.Revision.String(), Hash: j.work.Target.Hash,
			Phase: deploy.PhaseFailed, Reason: reasonRecordFailed, Started: j.started, Finished: now,
			Err: fmt.Errorf("record the intent before changing anything: %w", r.err),
		}
		if ctx.Err() != nil {
			r.outcome.Reason = deploy.ReasonCanceled
		}
		return r
	}
	crashpoint.At("schedule.intent-recorded")
	r.outcome = l.runner.Reconcile(ctx, j.work, progress)
	crashpoint.At("schedule.outcome-not-recorded")
	if r.outcome.Reason == deploy.ReasonCanceled {
		return r
	}
	r.rec = remember(r.rec, r.outcome, j.held)
	if repaired(r) {
		return r // what is written of it can wait: others may have drifted with it
	}
	l.save(context.WithoutCancel(ctx), &r) // an attempt that ended is recorded even where the process is told to end
	return r
}

// repaired reports whether the attempt put right what had drifted, and that was all.
func repaired(r result) bool {
	return len(r.job.work.Drifted) > 0 && r.outcome.Phase == deploy.PhaseReady && r.rec.Intent == ""
}

// save writes the result's record unless memory holds it already.
func (l *loop) save(ctx context.Context, r *result) {
	hash := deploy.HashOf(r.rec)
	if hash == r.stored {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if r.err = l.memory.Save(ctx, r.rec); r.err == nil {
		r.stored = hash
	}
}

func (l *loop) forget(ctx context.Context, n deploy.Name) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if err := l.memory.Forget(ctx, n); err != nil {
		return fmt.Errorf("forget the record: %w", err)
	}
	return nil
}

// finished folds a worker's result into the state.
func (l *loop) finished(r result) {
	l.running--
	now := time.Now()
	t := l.state.targets[r.job.name]
	t.job = nil
	t.note(r.rec)
	t.stored = r.stored
	l.touch(r.job.name)
	l.saved(now, t, r.err)
	switch r.job.action {
	case actionRun:
		l.attempted(now, t, r)
	case actionReplace:
		l.replaced(now, t, r)
	case actionDelete:
		l.deleted(now, t, r)
	case actionRollback:
		l.rolledBack(t, r)
	}
	if t.gone && t.job == nil && !t.recorded() {
		l.drop(t.spec.Name)
		l.state.arrange()
		return
	}
	t.follow() // the entry may have changed meanwhile
}

// saved notes whether the record was written, and when to try again.
func (l *loop) saved(now time.Time, t *target, err error) {
	if err == nil {
		t.saveFailures, t.saveAt = 0, time.Time{}
		return
	}
	t.saveFailures++
	t.saveAt = now.Add(backoff(t.saveFailures, maxSaveBackoff, l.jitter()))
	if t.saveFailures == 1 {
		l.log.Warn("a record cannot be written; it is tried again", zap.Stringer("target", t.spec.Name), zap.Error(err))
	}
}

// attempted notes how an attempt ended.
func (l *loop) attempted(now time.Time, t *target, r result) {
	if r.outcome.Reason == deploy.ReasonCanceled && (r.job.canceled || l.state.stopping) {
		t.forced |= r.job.forced
		t.drifted.unsure = t.drifted.unsure || r.job.forced&forceDrifted != 0 // what it was for is not known any more
		if r.job.gate.touched {                                               // what is there is neither what was nor what was to be: going back is work too
			t.full = t.full || t.attempted != nil
			t.attempted, t.ready = nil, nil
		}
		return // what superseded it is next; it says nothing about the target, and a full check that was owed still is
	}
	t.last = shown(r.outcome, r.job.held)
	t.attempted = &version{r.outcome.Digest, r.outcome.Hash}
	l.arrived(t, r)
	if r.outcome.Phase != deploy.PhaseReady {
		t.ready = nil
		if !l.fallBack(now, t, r) {
			l.failed(now, t)
		}
		return
	}
	t.reset()
	t.ready = t.attempted
	l.checkpoint(t)
	if len(r.job.work.Drifted) > 0 {
		t.full = false // it was not before
		t.saveAt = now.Add(repairNoted)
	} else if r.job.work.Full || t.checkAt.IsZero() {
		t.full, t.checkAt = false, time.Time{}
		interval := t.spec.Interval
		if r.outcome.Watched && r.job.work.Full { // what was before is as it should be, and what comes is seen
			interval = max(interval, l.limits.Resync)
		}
		if interval > 0 {
			t.checkAt = now.Add(spread(interval, intervalJitter, l.jitter()))
		}
	}
}

// failed counts a failure and sets the time of the retry.
func (l *loop) failed(now time.Time, t *target) {
	t.failures++
	limit := t.spec.RetryInterval
	if limit <= 0 {
		limit = t.spec.Interval
	}
	if limit <= 0 {
		limit = defaultRetry
	}
	t.retryAt = now.Add(backoff(t.failures, limit, l.jitter()))
	if after := t.last.RetryAfter; after > 0 {
		t.retryAt = now.Add(spread(after, intervalJitter, l.jitter()))
	}
}

// replaced notes that what an earlier spec had made is gone: the target starts anew.
func (l *loop) replaced(now time.Time, t *target, r result) {
	if r.outcome.Reason == deploy.ReasonCanceled && l.state.stopping {
		return
	}
	if r.outcome.Err != nil {
		t.last = r.outcome
		t.last.Err = moveError(r.job.target, t.spec, r.outcome.Err)
		if rev, ok := l.state.revisions[t.spec.Source]; ok {
			t.last.Digest, t.last.Revision = rev.Digest, rev.String() // what the move is for
		}
		l.failed(now, t)
		return
	}
	t.reset()
	t.note(deploy.Record{Target: remembered(t.spec), History: t.rec.History})
	t.full = false // there is nothing to compare with
}

// deleted notes how a deletion ended.
func (l *loop) deleted(now time.Time, t *target, r result) {
	switch {
	case r.outcome.Reason == deploy.ReasonCanceled && l.state.stopping:
	case r.outcome.Err != nil:
		t.last = r.outcome
		t.last.Err = deletionError(r.job.target, r.outcome.Err)
		l.failed(now, t)
	case r.err != nil:
		t.last = r.outcome
		t.last.Err = r.err
		l.failed(now, t)
	default:
		// It may be back in the config by now: then it starts anew, without a record.
		*t = target{spec: t.spec, rules: t.rules, gone: t.gone, forced: t.forced, order: t.order, awaited: t.awaited}
	}
}
