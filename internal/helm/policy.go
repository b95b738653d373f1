package helm

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// undo is how a failed installation or upgrade is undone.
type undo int

const (
	undoNothing undo = iota // it is tried again as it is, for ever
	undoRollback
	undoUninstall
)

// policy is what follows the failures of installations, or of upgrades.
type policy struct {
	undo undo
	// retries after the first failure, negative for no end. It counts only where something is undone.
	retries int
	// last undoes what the last try left too.
	last bool
	// ignoreTests lets failed tests pass.
	ignoreTests bool
	// pause is between a failure and the next try; 0 leaves it to the scheduler.
	pause time.Duration
}

// exhausted reports whether no try is left after that many failures.
func (p policy) exhausted(failures int) bool {
	return p.undo != undoNothing && p.retries >= 0 && failures > p.retries
}

// undoes reports whether the failure of that number is to be undone.
func (p policy) undoes(failures int) bool {
	return p.undo != undoNothing && (!p.exhausted(failures) || p.last)
}

// installPolicy is Flux's, but for one thing: where neither a strategy nor a remediation is given, nothing is undone and it is tried again for ever, since no release may be stuck.
func installPolicy(t deploy.Target) policy {
	o := orZero(t.HelmRelease.Install)
	p := policy{ignoreTests: orZero(t.HelmRelease.Test).IgnoreFailures}
	if r := o.Remediation; r != nil {
		p.undo, p.retries, p.last = undoUninstall, r.Retries, orFalse(r.RemediateLastFailure)
		if r.IgnoreTestFailures != nil {
			p.ignoreTests = *r.IgnoreTestFailures
		}
	} else if o.Strategy != nil && o.Strategy.Name == deploy.StrategyRemediate {
		p.undo = undoUninstall
	}
	return p.with(o.Strategy)
}

// upgradePolicy is Flux's, with the difference that installPolicy has.
func upgradePolicy(t deploy.Target) policy {
	o := orZero(t.HelmRelease.Upgrade)
	p := policy{ignoreTests: orZero(t.HelmRelease.Test).IgnoreFailures}
	if r := o.Remediation; r != nil {
		p.undo, p.retries, p.last = undoRollback, r.Retries, r.Retries != 0
		if r.Strategy == deploy.RemediateUninstall {
			p.undo = undoUninstall
		}
		if r.RemediateLastFailure != nil {
			p.last = *r.RemediateLastFailure
		}
		if r.IgnoreTestFailures != nil {
			p.ignoreTests = *r.IgnoreTestFailures
		}
	} else if o.Strategy != nil && o.Strategy.Name == deploy.StrategyRemediate {
		p.undo = undoRollback
	}
	if t.FallsBack() {
		p.undo, p.last = undoRollback, true
	}
	return p.with(o.Strategy)
}

// with lets a strategy of retrying have its way.
func (p policy) with(s *deploy.Strategy) policy {
	if s == nil || s.Name != deploy.StrategyRetry {
		return p
	}
	p.undo = undoNothing
	if s.RetryInterval != nil {
		p.pause = s.RetryInterval.Duration
	}
	return p
}

func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func orFalse(p *bool) bool { return p != nil && *p }

// try is what a label says of an attempt: its number among those with the same fingerprint, from 1, and a part of the hash of the spec that it was made with. News of either
// starts the counting anew.
type try struct {
	number int
	spec   string
}

func (t try) String() string { return strconv.Itoa(t.number) + "." + t.spec }

// parseTry reads a label; what it cannot read is no attempt.
func parseTry(label string) try {
	number, spec, _ := strings.Cut(label, ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return try{}
	}
	return try{n, spec}
}

// specOf is the part of a target's hash that tries remember.
func specOf(t deploy.Target) string { return short([]byte(t.Hash))[:8] }

// exhaustedError is a release of which all tries have failed.
type exhaustedError struct {
	failures int
	// undone says whether what the last try left was undone, and back whether that was by going back to a good revision.
	undone, back bool
	last         error // nil: not known any more
}

func (e *exhaustedError) Error() string {
	text := fmt.Sprintf("it failed %d times", e.failures)
	if e.failures == 1 {
		text = "it failed"
	}
	if e.undone {
		text += " and was undone"
	}
	text += ", and no retries are left: another chart, other values or another spec start anew, and so does towline reconcile --force"
	if e.last != nil {
		text += fmt.Sprintf("; the last error was: %v", e.last)
	}
	return text
}

// heldError is a release that somebody rolled back by hand.
type heldError struct{ revision int }

func (e *heldError) Error() string {
	return fmt.Sprintf("it was rolled back by hand, to what is now revision %d, and stays there until the chart, the values or the postRenderers change, or somebody calls towline reconcile --force", e.revision)
}
