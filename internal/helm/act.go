package helm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
)

// Apply does what the plan says and returns what was done, also when it fails: then the error is a *deploy.Failure. When ctx ends, it returns within a
// second; a record that is left pending by that is taken up by the next attempt.
func (e *Engine) Apply(ctx context.Context, w deploy.Work, p *deploy.Plan, progress deploy.Progress) ([]deploy.Change, error) {
	if p.Empty() {
		return nil, nil
	}
	n, ok := p.Private.(note)
	if !ok || p.Target != w.Target.Name || p.Digest != w.Revision.Digest {
		return nil, fmt.Errorf("the plan is not one of this engine for %s at %s", w.Target.Name, w.Revision.Digest)
	}
	e.unsettle(w.Target.Name)
	if n.decision.do == doRepair {
		return e.repair(ctx, n, progress)
	}
	e.hold(w.Target.Name, holding{})
	pruned, err := e.act(ctx, n, progress)
	changes := p.Changes
	if err != nil {
		return append(withError(changes, err), pruned...), err
	}
	e.remember(w.Target.Name, undone{})
	e.settle(w.Target.Name, w.Target.Hash+" "+w.Revision.Digest)
	return append(changes, pruned...), nil
}

// act installs, upgrades, tests and undoes. The changes are objects that were removed on the way.
func (e *Engine) act(ctx context.Context, n note, progress deploy.Progress) (pruned []deploy.Change, err error) {
	t, d := n.work.Target, n.decision
	version := 0
	switch d.do {
	case doUndo:
		return nil, e.undo(ctx, n, progress, nil)
	case doTest:
		version = n.observed.last().version
	case doInstall, doUpgrade:
		version, pruned, err = e.deploy(ctx, n, progress)
		if renamed(err) {
			version, pruned, err = e.replace(ctx, &n, progress, err)
		}
		if err != nil {
			return pruned, e.undo(ctx, n, progress, err)
		}
	}
	if !orZero(t.HelmRelease.Test).Enable {
		return pruned, nil
	}
	if err := e.test(ctx, n, version, progress); err != nil {
		return pruned, e.undo(ctx, n, progress, err)
	}
	return pruned, nil
}

// deploy installs or upgrades. It returns the revision that it made, and the objects that were removed on the way.
func (e *Engine) deploy(ctx context.Context, n note, progress deploy.Progress) (version int, pruned []deploy.Change, err error) {
	t, d := n.work.Target, n.decision
	timeout, reason := upgradeTimeout(t), deploy.ReasonUpgradeFailed
	if d.do == doInstall {
		timeout, reason = installTimeout(t), deploy.ReasonInstallFailed
	}
	err = e.operate(ctx, t, n.place, timeout, progress, func(op *operation) (err error) {
		op.seed(n.observed)
		op.stamp, op.secret = labelsOf(t, n.want, d.try), n.secret
		version, pruned, err = op.bring(n)
		return err
	})
	if err != nil {
		err = failure(ctx, reason, timeout, err)
	}
	return version, pruned, err
}

// replace uninstalls a release whose chart has another name now, and installs the new chart in its place.
func (e *Engine) replace(ctx context.Context, n *note, progress deploy.Progress, why error) (version int, pruned []deploy.Change, err error) {
	t := n.work.Target
	e.log.Info("release is replaced", zap.Stringer("target", t.Name), zap.Stringer("release", n.place), zap.NamedError("because", why))
	if _, err := e.goBack(ctx, *n, 0, progress); err != nil {
		return 0, nil, err
	}
	if n.observed, err = e.observe(ctx, t); err != nil {
		return 0, nil, &deploy.Failure{Reason: deploy.ReasonInstallFailed, Err: err}
	}
	n.decision.do, n.decision.recover, n.decision.replace, n.decision.policy = doInstall, false, len(n.observed) > 0, installPolicy(t)
	return e.deploy(ctx, *n, progress)
}

// test runs the tests of a revision and writes onto its record how they ended.
func (e *Engine) test(ctx context.Context, n note, version int, progress deploy.Progress) error {
	t, timeout := n.work.Target, testTimeout(n.work.Target)
	crashpoint.At("helm.before-test")
	var failed error
	err := e.operate(ctx, t, n.place, timeout, progress, func(op *operation) (err error) {
		op.kube.target = t.Name.LabelValue()
		if failed, err = op.test(t); err != nil {
			return err
		}
		word := testsPassed
		switch {
		case failed != nil && n.decision.policy.ignoreTests:
			word = testsIgnored
			op.log.Warn("tests failed, and that is ignored", zap.Error(op.masked(t).error(failed)))
			failed = nil
		case failed != nil:
			word = testsFailed
			failed = op.masked(t).error(failed)
		}
		return op.label(version, map[string]string{labelTested: word, labelTry: try{n.decision.try, specOf(t)}.String()})
	})
	if err != nil {
		return failure(ctx, deploy.ReasonTestFailed, timeout, err)
	}
	if failed != nil {
		return &deploy.Failure{Reason: deploy.ReasonTestFailed, Err: failed}
	}
	return nil
}

// undo does what the policy says about a failure, unless the attempt was cancelled, and returns the failure with what was done. Nil is a failure of an earlier attempt that
// could not be undone then.
func (e *Engine) undo(ctx context.Context, n note, progress deploy.Progress, cause error) error {
	t, d := n.work.Target, n.decision
	var f *deploy.Failure
	if cause != nil && !errors.As(cause, &f) {
		return cause
	}
	if f == nil {
		f = &deploy.Failure{Reason: deploy.ReasonUpgradeFailed, Err: errors.New(d.why)}
	}
	if f.Reason == deploy.ReasonCanceled || ctx.Err() != nil {
		return f
	}
	f.RetryAfter = d.policy.pause
	to := d.to
	if d.do != doUndo {
		switch {
		case !d.policy.undoes(d.try):
			return withLeft(f, d)
		case d.policy.undo == undoRollback:
			if to = n.observed.goodFor(d); to == 0 {
				return withLeft(f, d) // there is nothing to go back to
			}
		}
	}
	crashpoint.At("helm.before-undo")
	words, err := e.goBack(ctx, n, to, progress)
	if err != nil {
		return &deploy.Failure{Reason: f.Reason, Err: fmt.Errorf("%w; and it could not be undone: %w", f.Err, err)}
	}
	if to == 0 {
		e.remember(t.Name, undone{fingerprint: n.want, try: try{d.try, specOf(t)}, err: f.Err})
	}
	f.FellBack = to > 0 && d.policy.exhausted(d.try)
	f.Err = fmt.Errorf("%w; %s", f.Err, words)
	return withLeft(f, d)
}

// goodFor is the revision to roll back to when the decision's attempt has failed; 0: none. The attempt made a revision behind those that were seen, unless it only tested the last.
func (o observation) goodFor(d decision) int {
	if d.do == doTest {
		return o.lastGood()
	}
	return append(o[:len(o):len(o)], revision{}).lastGood()
}

// withLeft adds how many tries are left.
func withLeft(f *deploy.Failure, d decision) *deploy.Failure {
	switch p := d.policy; {
	case p.undo == undoNothing:
	case p.retries < 0:
	case p.exhausted(d.try):
		f.Err = fmt.Errorf("%w; no retries are left", f.Err)
	default:
		f.Err = fmt.Errorf("%w; retry %d of %d follows", f.Err, d.try, p.retries)
	}
	return f
}

// goBack rolls back to a revision, or uninstalls, and says what it did.
func (e *Engine) goBack(ctx context.Context, n note, to int, progress deploy.Progress) (string, error) {
	t := n.work.Target
	if to == 0 {
		timeout := uninstallTimeout(t)
		err := e.operate(ctx, t, n.place, timeout, progress, func(op *operation) error { return op.remove(t) })
		if err != nil {
			return "", failure(ctx, deploy.ReasonUninstallFailed, timeout, err)
		}
		return "what it left was uninstalled", nil
	}
	timeout := rollbackTimeout(t)
	err := e.operate(ctx, t, n.place, timeout, progress, func(op *operation) error {
		if n.decision.recover && n.decision.do == doUndo { // the rollback before this one
			if err := op.recoverLast(n.observed.last()); err != nil {
				return err
			}
		}
		return op.rollback(t, to, map[string]string{labelRejected: string(n.want), labelTry: try{n.decision.try, specOf(t)}.String()})
	})
	if err != nil {
		return "", failure(ctx, deploy.ReasonRollbackFailed, timeout, err)
	}
	return fmt.Sprintf("it was rolled back to revision %d", to), nil
}

// repair puts objects right, or says that somebody changed them where that is all that is wanted.
func (e *Engine) repair(ctx context.Context, n note, progress deploy.Progress) ([]deploy.Change, error) {
	t := n.work.Target
	changes := n.changes()
	if t.HelmRelease.DriftDetection.Mode == deploy.DriftWarn {
		names := make([]string, 0, maxNamed)
		for i, c := range changes {
			if i == maxNamed {
				names = append(names, fmt.Sprintf("and %d more", len(changes)-maxNamed))
				break
			}
			names = append(names, c.Object.String()+": "+c.Reason)
		}
		return changes, &deploy.Failure{
			Reason: deploy.ReasonDriftDetected, Degraded: true, RetryAfter: t.Interval,
			Err: fmt.Errorf("%d objects are not as release %s has them, and driftDetection.mode is warn: %s", len(changes), n.place, strings.Join(names, "; ")),
		}
	}
	timeout := targetTimeout(t)
	err := e.operate(ctx, t, n.place, timeout, progress, func(op *operation) (err error) {
		op.progress(deploy.PhaseApplying, fmt.Sprintf("repairing %d objects", len(n.found)))
		changes, err = op.repair(n.found)
		for i := range changes {
			changes[i].Err = op.masked(t).error(changes[i].Err)
		}
		return err
	})
	if err != nil {
		err = failure(ctx, deploy.ReasonDriftDetected, timeout, err)
		var f *deploy.Failure
		if errors.As(err, &f) {
			f.Degraded = f.Reason == deploy.ReasonDriftDetected
		}
		return changes, err
	}
	e.settle(t.Name, t.Hash+" "+n.work.Revision.Digest)
	return changes, nil
}

// remember keeps, or with the zero value forgets, a failure that left no record.
func (e *Engine) remember(n deploy.Name, u undone) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if u.try.number == 0 {
		delete(e.undone, n)
		return
	}
	e.undone[n] = u
}
