package helm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
)

// act is what is to be done with a release.
type act int

const (
	doNothing act = iota
	// doInstall runs install hooks and templates see IsInstall; on top of failed or uninstalled revisions it takes the next number.
	doInstall
	// doUpgrade also retries failed upgrades.
	doUpgrade
	// doUndo rolls back or uninstalls what failed, where the attempt that failed could not.
	doUndo
	// doTest runs the chart's tests.
	doTest
	// doRepair puts objects right that somebody changed.
	doRepair
)

// decision is what Apply does. The zero value: nothing.
type decision struct {
	do act
	// recover marks the newest record failed first: an operation died before it could say how it ended.
	recover bool
	// replace installs over revisions of the same name that are uninstalled or never came to be.
	replace bool
	// try is the number of this attempt at the same fingerprint.
	try int
	// policy is what follows a failure.
	policy policy
	// to is the revision that doUndo rolls back to; 0: it uninstalls.
	to int
	// why says in a few words what was found.
	why string
}

// wanted is what a release should be.
type wanted struct {
	target      string // deploy.LabelTarget's value
	fingerprint fingerprint
	spec        string // see try
	// lock is for how long a record that another client left in transition is taken for work in progress.
	lock time.Duration
	// asked: somebody wants it to be tried, whatever failed before.
	asked bool
	// keepOld: records of an uninstalled release are not to be installed over.
	keepOld          bool
	tests            bool
	install, upgrade policy
	// undone are the failures of installations that left no record, since they were uninstalled.
	undone undone
}

// undone is what is remembered of attempts that were undone by an uninstallation.
type undone struct {
	fingerprint fingerprint
	try         try
	err         error
}

// decide is the table of the engine, pure. What once was deployed is never uninstalled here, whatever state it is in, unless the remediation of upgrades says so in so many words.
//
//	newest revision       ours, same fingerprint   anything else
//	none                  –                        install
//	deployed              nothing; test, where     upgrade
//	                      they did not run yet
//	deployed, tests       as failed; test again    upgrade
//	  failed              where nothing is undone
//	deployed, rolled back held where by hand; else upgrade
//	  from what is wanted upgrade while there are
//	                      retries
//	superseded            upgrade                  upgrade
//	unknown               recover, then upgrade    the same: Helm would refuse it for ever
//	failed                undo, or retry           upgrade if any revision was deployed, else install again
//	uninstalled           install                  install (as the next revision)
//	pending, uninstalling recover, then as failed  the same once it is older than the lock, an error before
//
// A transition of our own is recovered at once: targets are worked on one call at a time, so whoever wrote the record is dead. That supposes one agent per target:
// the Deployment has one replica and recreates it.
func decide(o observation, want wanted, now time.Time) (decision, error) {
	failures := o.failures(want)
	if len(o) == 0 || o.last().status == release.StatusUninstalled {
		return decideInstall(o, want, failures)
	}
	last := o.last()
	if last.target != "" && last.target != want.target {
		return decision{}, fmt.Errorf("it belongs to %s: remove it there or choose another releaseName", deploy.LabelledTarget(last.target))
	}
	if err := last.locked(now, want.lock); err != nil {
		return decision{}, err
	}
	d := decision{do: doUpgrade, try: failures + 1, policy: want.upgrade}
	deployed := last.status == release.StatusDeployed
	switch {
	case deployed && last.rolledBackFrom(want) && !want.asked:
		switch {
		case last.held:
			return decision{}, &heldError{last.version}
		case want.upgrade.exhausted(failures):
			return decision{}, &exhaustedError{failures: failures, undone: true, back: true}
		}
		d.why = fmt.Sprintf("it is tried again after it failed (%d)", failures)
		return d, nil
	case deployed && last.isAs(want) && last.tested == testsFailed && want.tests:
		if p := o.policy(want); p.undo == undoNothing { // the revision is as wanted: no other one would pass
			return decision{do: doTest, try: failures + 1, policy: p, why: "its tests failed"}, nil
		}
		return decideFailed(o, want, failures, "its tests failed")
	case deployed && last.isAs(want) && last.tested == "" && want.tests:
		d.do, d.why, d.policy = doTest, "its tests have not run yet", o.policy(want)
		return d, nil
	case deployed && last.isAs(want):
		return decision{}, nil
	case deployed && last.stamped:
		d.why = changed(want.fingerprint.differences(last.fingerprint))
		return d, nil
	case deployed:
		d.why = "another Helm client changed it"
		return d, nil
	}
	d, err := decideFailed(o, want, failures, "revision "+strconv.Itoa(last.version)+" is "+string(last.status))
	d.recover = err == nil && last.interrupted()
	return d, err
}

// decideInstall is for what is not there, or not any more.
func decideInstall(o observation, want wanted, failures int) (decision, error) {
	if want.install.exhausted(failures) {
		return decision{}, &exhaustedError{failures: failures, undone: true, last: want.undone.err}
	}
	d := decision{do: doInstall, try: failures + 1, policy: want.install}
	if len(o) > 0 {
		if want.keepOld {
			return decision{}, errors.New("there are records of an uninstalled release of that name, and install.replace is false: delete them, or let them be replaced")
		}
		d.replace, d.why = true, "it was uninstalled"
	}
	return d, nil
}

// decideFailed is for what is neither deployed nor absent, or did not pass its tests.
func decideFailed(o observation, want wanted, failures int, why string) (decision, error) {
	last := o.last()
	d := decision{do: doUpgrade, try: failures + 1, policy: o.policy(want), why: why}
	fresh := !o.everDeployed() && (last.status == release.StatusFailed || last.status == release.StatusPendingInstall)
	if fresh {
		d.do, d.replace = doInstall, true
	}
	if want.asked {
		return d, nil
	}
	good := o.lastGood()
	switch {
	case last.rolledBackFrom(want) && good > 0: // a rollback that failed, or was interrupted
		d.do, d.to, d.try, d.replace = doUndo, good, failures, false
	case failures == 0 || last.interrupted():
	case d.policy.undoes(failures) && (d.policy.undo == undoUninstall || good > 0):
		d.do, d.try, d.replace = doUndo, failures, false
		if d.policy.undo == undoRollback {
			d.to = good
		}
	case d.policy.exhausted(failures):
		return decision{}, &exhaustedError{failures: failures}
	}
	if d.do == doInstall && want.keepOld {
		return decision{}, fmt.Errorf("%s, and install.replace is false: uninstall it, or let it be replaced", why)
	}
	return d, nil
}

// policy is that of installations for what never was deployed before its newest revision.
func (o observation) policy(want wanted) policy {
	if last := o.last(); !o.everDeployed() || last.status == release.StatusDeployed && o.lastGood() == 0 {
		return want.install
	}
	return want.upgrade
}

// failures is how many attempts at what is wanted have failed. An attempt that was interrupted is none of them.
func (o observation) failures(want wanted) int {
	if want.asked {
		return 0
	}
	if u := want.undone; u.fingerprint == want.fingerprint && u.try.spec == want.spec && (len(o) == 0 || o.last().status == release.StatusUninstalled) {
		return u.try.number
	}
	if len(o) == 0 {
		return 0
	}
	last := o.last()
	if !last.stamped || last.try.spec != want.spec || last.fingerprint != want.fingerprint && !last.rolledBackFrom(want) {
		return 0
	}
	switch {
	case last.rolledBackFrom(want), last.status == release.StatusFailed, last.status == release.StatusDeployed && last.tested == testsFailed:
		return last.try.number
	case last.interrupted():
		return max(0, last.try.number-1)
	}
	return 0
}

func changed(parts []string) string {
	if len(parts) == 0 {
		return "it was made by another version of towline"
	}
	return strings.Join(parts, " and ") + " changed"
}

// interrupted reports whether the record does not say how its operation ended.
func (r revision) interrupted() bool { return r.inTransition() || r.status == release.StatusUnknown }

// locked is an error while another Helm client may be at work.
func (r revision) locked(now time.Time, lock time.Duration) error {
	if !r.inTransition() || r.ours() || now.Sub(r.touched) > lock {
		return nil
	}
	return fmt.Errorf("another Helm client (%s) left revision %d %s at %s; it is taken over at %s unless that client finishes first",
		r.writer, r.version, r.status, r.touched.UTC().Format(time.RFC3339), r.touched.Add(lock).UTC().Format(time.RFC3339))
}

// decideDelete says whether there is something of ours to uninstall.
func decideDelete(o observation, t deploy.Target, now time.Time, lock time.Duration) (bool, error) {
	if len(o) == 0 {
		return false, nil
	}
	last := o.last()
	if last.target != t.Name.LabelValue() {
		return false, nil
	}
	if last.status == release.StatusUninstalled && t.HelmRelease.Uninstall != nil && t.HelmRelease.Uninstall.KeepHistory {
		return false, nil
	}
	return true, last.locked(now, lock)
}

// changes is the decision as a plan shows it.
func (d decision) changes(at place) []deploy.Change {
	action := deploy.ActionInstall
	switch {
	case d.recover:
		action = deploy.ActionRecover
	case d.do == doUpgrade:
		action = deploy.ActionUpgrade
	case d.do == doTest:
		action = deploy.ActionTest
	case d.do == doUndo && d.to > 0:
		action = deploy.ActionRollback
	case d.do == doUndo:
		action = deploy.ActionUninstall
	}
	return []deploy.Change{{Action: action, Object: at.id(), Reason: d.why}}
}
