package helm

import (
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
)

// decision is what Apply does. The zero value: nothing.
type decision struct {
	do act
	// recover marks the newest record failed first: an operation died before it could say how it ended.
	recover bool
	// replace installs over revisions of the same name that are uninstalled or never came to be.
	replace bool
	// why says in a few words what was found.
	why string
}

// wanted is what a release should be.
type wanted struct {
	target      string // deploy.LabelTarget's value
	fingerprint fingerprint
	// lock is for how long a record that another client left in transition is taken for work in progress.
	lock time.Duration
}

// decide is the table of the engine, pure. What once was deployed is never uninstalled here, whatever state it is in.
//
//	newest revision       ours, same fingerprint   anything else
//	none                  –                        install
//	deployed              nothing                  upgrade
//	superseded            upgrade                  upgrade
//	unknown               recover, then upgrade    the same: Helm would refuse it for ever
//	failed                retry                    upgrade if any revision was deployed, else install again
//	uninstalled           install                  install (as the next revision)
//	pending, uninstalling recover, then as failed  the same once it is older than the lock, an error before
//
// A transition of our own is recovered at once: targets are worked on one call at a time, so whoever wrote the record is dead. That supposes one agent per target:
// the Deployment has one replica and recreates it.
func decide(o observation, want wanted, now time.Time) (decision, error) {
	if len(o) == 0 {
		return decision{do: doInstall}, nil
	}
	last := o.last()
	if last.status == release.StatusUninstalled {
		return decision{do: doInstall, replace: true, why: "it was uninstalled"}, nil
	}
	if last.target != "" && last.target != want.target {
		return decision{}, fmt.Errorf("it belongs to %s: remove it there or choose another releaseName", deploy.LabelledTarget(last.target))
	}
	if err := last.locked(now, want.lock); err != nil {
		return decision{}, err
	}
	switch {
	case last.status == release.StatusDeployed && last.stamped && last.fingerprint == want.fingerprint:
		return decision{}, nil
	case last.status == release.StatusDeployed && last.stamped:
		return decision{do: doUpgrade, why: changed(want.fingerprint.differences(last.fingerprint))}, nil
	case last.status == release.StatusDeployed:
		return decision{do: doUpgrade, why: "another Helm client changed it"}, nil
	}
	d := decision{do: doUpgrade, recover: last.interrupted(), why: "revision " + strconv.Itoa(last.version) + " is " + string(last.status)}
	if !o.everDeployed() && (last.status == release.StatusFailed || last.status == release.StatusPendingInstall) {
		d.do, d.replace = doInstall, true
	}
	return d, nil
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
	if d.do == doUpgrade {
		action = deploy.ActionUpgrade
	}
	if d.recover {
		action = deploy.ActionRecover
	}
	return []deploy.Change{{Action: action, Object: at.id(), Reason: d.why}}
}
