package helm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// note is what Plan leaves for Apply.
type note struct {
	work     deploy.Work
	place    place
	want     fingerprint
	observed observation
	decision decision
	// secret are the values that came from Secrets and files.
	secret []string
	// found are the objects to repair.
	found []deviation
}

// Plan says what Apply would do. A release that is known to be as wanted costs no request; with w.Full, and the first time after a start, it costs one, and where drift is to be
// detected one for each object. Errors are for reading: a release of somebody else, one that another Helm client is working on, one whose retries are used up (a *deploy.Failure).
func (e *Engine) Plan(ctx context.Context, w deploy.Work) (*deploy.Plan, error) {
	p := &deploy.Plan{Target: w.Target.Name, Digest: w.Revision.Digest}
	if w.Target.HelmRelease == nil {
		return nil, fmt.Errorf("%s is not a Helm release", w.Target.Name)
	}
	wish := w.Target.Hash + " " + w.Revision.Digest
	if !w.Full && e.isSettled(w.Target.Name, wish) {
		return p, nil
	}
	n, err := e.decide(ctx, w)
	if err != nil {
		return nil, err
	}
	if n.decision.do == doNothing && w.Full && detects(w.Target) {
		if err := e.detect(ctx, &n); err != nil {
			return nil, err
		}
	}
	if n.decision.do == doNothing {
		e.settle(w.Target.Name, wish)
		return p, nil
	}
	if len(n.observed) == 0 {
		if err := e.refuseStray(ctx, w.Target, n.place); err != nil {
			return nil, err
		}
	}
	p.Changes = n.changes()
	p.Private = n
	return p, nil
}

// decide gathers the values, looks at the release's records, and says what is to be done.
func (e *Engine) decide(ctx context.Context, w deploy.Work) (note, error) {
	var err error
	n := note{work: w, place: placeOf(w.Target)}
	if n.work.Target, n.secret, err = resolve(ctx, e.read, w.Target); err != nil {
		return n, err
	}
	t := n.work.Target
	if n.want, err = fingerprintOf(w.Revision.Digest, t.HelmRelease, n.place); err != nil {
		return n, err
	}
	if n.observed, err = e.observe(ctx, w.Target); err != nil {
		return n, err
	}
	install := orZero(t.HelmRelease.Install)
	n.decision, err = decide(n.observed, wanted{
		target: t.Name.LabelValue(), fingerprint: n.want, spec: specOf(t), lock: targetTimeout(t), asked: w.Asked,
		keepOld: install.Replace != nil && !*install.Replace, tests: orZero(t.HelmRelease.Test).Enable,
		install: installPolicy(t), upgrade: upgradePolicy(t), undone: e.undoneOf(t.Name),
	}, time.Now())
	return n, heldUp(t, n.place, err)
}

// heldUp gives the reasons of a decision not to do anything their place among the failures.
func heldUp(t deploy.Target, at place, err error) error {
	var exhausted *exhaustedError
	var held *heldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exhausted):
		return &deploy.Failure{Reason: deploy.ReasonRetriesExceeded, RetryAfter: t.Interval, FellBack: exhausted.back, Err: fmt.Errorf("release %s: %w", at, err)}
	case errors.As(err, &held):
		return &deploy.Failure{Reason: deploy.ReasonRolledBack, Degraded: true, RetryAfter: t.Interval, Err: fmt.Errorf("release %s: %w", at, err)}
	}
	return fmt.Errorf("release %s: %w", at, err)
}

// detects reports whether drift of a target's release is to be looked for.
func detects(t deploy.Target) bool {
	mode := orZero(t.HelmRelease.DriftDetection).Mode
	return mode == deploy.DriftEnabled || mode == deploy.DriftWarn
}

// detect looks for drift of a release that is as wanted otherwise.
func (e *Engine) detect(ctx context.Context, n *note) error {
	t := n.work.Target
	return e.operate(ctx, t, n.place, targetTimeout(t), nil, func(op *operation) (err error) {
		op.secrets.dry = true
		n.found, err = op.drift(t, n.observed.last().version, e.sameOf(t.Name), n.work.Drifted)
		e.hold(t.Name, holding{op.pool.clients, op.kinds})
		if len(n.found) > 0 {
			n.decision = decision{do: doRepair}
			if err != nil { // what could be compared is repaired; the next full run looks again
				op.log.Warn("some objects could not be compared with their manifest", zap.Error(op.masked(t).error(err)))
				err = nil
			}
		}
		return err
	})
}

// changes are those of the decision as a plan shows them.
func (n note) changes() []deploy.Change {
	if n.decision.do != doRepair {
		return n.decision.changes(n.place)
	}
	out := make([]deploy.Change, len(n.found))
	for i, d := range n.found {
		out[i] = d.change()
		if n.work.Target.HelmRelease.DriftDetection.Mode == deploy.DriftWarn {
			out[i].Action = deploy.ActionDrift
		}
	}
	return out
}

func (e *Engine) undoneOf(n deploy.Name) undone {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.undone[n]
}

// sameOf is where it is remembered of a target's objects that they are the same.
func (e *Engine) sameOf(n deploy.Name) *sameness {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.same[n]
	if s == nil {
		s = newSameness()
		e.same[n] = s
	}
	return s
}
