package notify

import (
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// targetMemory is what has been told of a target, and what it takes to see the next change.
type targetMemory struct {
	seen      bool // there was a state
	good      deploy.Good
	suspended bool
	deleting  bool
	// told is the reason of the failure that was told last and is not over, at the revision.
	told, at string
	// held is the digest of what it was told of that the target went back from it.
	held string
	// contested are the objects of which it was told that others insist on them.
	contested map[deploy.ObjectID]bool
}

// targetChanges decides what is news about a target, and what to remember of it. Stages of an attempt, waiting and cancelled attempts are not.
func targetChanges(m targetMemory, t deploy.TargetState) (targetMemory, []deploy.Event) {
	var events []deploy.Event
	tell := func(severity, reason, message string) {
		events = append(events, deploy.Event{
			Object: t.Name, Severity: severity, Reason: reason, Message: message,
			Revision: t.Revision, Digest: digestOf(t.Revision), At: t.Finished,
		})
	}
	if m.seen && t.Suspended != m.suspended {
		if t.Suspended {
			tell(deploy.SeverityInfo, reasonSuspended, "suspended: nothing is applied or repaired")
		} else {
			tell(deploy.SeverityInfo, reasonResumed, "resumed")
		}
		events[0].At = time.Time{} // now: no attempt found it out
	}
	before := m
	m.seen, m.suspended, m.deleting = true, t.Suspended, t.Phase == deploy.PhaseDeleting
	if t.LastGood != nil {
		m.good = *t.LastGood
	}
	if m.held = ""; t.Held != nil {
		m.held = t.Held.Instead
	}
	if t.Held != nil && before.held != m.held {
		severity := deploy.SeverityError
		if t.Held.Why == deploy.HeldByHand {
			severity = deploy.SeverityInfo
		}
		tell(severity, deploy.ReasonRolledBack, t.Held.String())
		events[len(events)-1].At = t.Held.At
		m.told, m.at = deploy.ReasonRolledBack, t.Held.Revision // that it got there says nothing more
	}
	switch t.Phase {
	case deploy.PhaseReady:
		if m.told != "" {
			tell(deploy.SeverityInfo, reasonRecovered, fmt.Sprintf("recovered from %s: ready at revision %s", m.told, t.Revision))
			m.told, m.at = "", ""
		}
		if reached(before, t) {
			tell(deploy.SeverityInfo, reasonSucceeded, fmt.Sprintf("revision %s is applied: %s", t.Revision, counted(t.Changes)))
		}
	case deploy.PhaseFailed, deploy.PhaseDegraded, deploy.PhaseDeleting:
		if !failure(t) || m.told == t.Reason && m.at == t.Revision {
			break
		}
		tell(deploy.SeverityError, t.Reason, t.Message)
		m.told, m.at = t.Reason, t.Revision
	}
	m.contested = make(map[deploy.ObjectID]bool, len(t.Contested))
	for _, c := range t.Contested {
		m.contested[c.Object] = true
		if !before.contested[c.Object] {
			tell(deploy.SeverityError, reasonContested, c.String())
			events[len(events)-1].At = time.Time{} // now: no attempt found it out
		}
	}
	return m, events
}

// failure reports whether the state is that of an attempt that failed: a deletion that has not been tried yet is in its phase too.
func failure(t deploy.TargetState) bool {
	if t.Reason == "" || t.Reason == deploy.ReasonCanceled {
		return false
	}
	return t.Phase != deploy.PhaseDeleting || t.Failures > 0
}

// reached reports whether an attempt brought a target to something new: another revision, or another entry of the config. What the first state of a target has was
// reached now if it was noted as good in that very attempt, and before the last start otherwise.
func reached(before targetMemory, t deploy.TargetState) bool {
	g := t.LastGood
	if g == nil {
		return false
	}
	if !before.seen {
		return !g.At.Before(t.Started)
	}
	return g.Digest != before.good.Digest || g.Hash != before.good.Hash
}

// targetGone decides whether a target's end is news: not if it never was anything.
func targetGone(name deploy.Name, m targetMemory) (deploy.Event, bool) {
	if !m.deleting {
		return deploy.Event{}, false
	}
	return deploy.Event{
		Object: name, Severity: deploy.SeverityInfo, Reason: reasonDeleted, Revision: m.good.Revision, Digest: m.good.Digest,
		Message: "left the configuration; what it had applied was handled as its deletion policy says",
	}, true
}

// configChange decides whether the config's state is news. The texts say what is wrong with it; empty: nothing.
func configChange(agent deploy.Name, before, after string) (deploy.Event, bool) {
	switch {
	case before == after:
		return deploy.Event{}, false
	case after == "":
		return deploy.Event{Object: agent, Severity: deploy.SeverityInfo, Reason: reasonRecovered, Message: "the configuration is good again and in force"}, true
	}
	return deploy.Event{
		Object: agent, Severity: deploy.SeverityError, Reason: reasonBadConfig,
		Message: "the configuration was refused, the one before stays in force: " + after,
	}, true
}

func counted(changes []deploy.Change) string {
	switch n := len(changes); n {
	case 0:
		return "no changes"
	case 1:
		return "1 change"
	default:
		return fmt.Sprintf("%d changes", n)
	}
}

// digestOf is the digest in a revision: tag@digest or the digest alone.
func digestOf(revision string) string { return revision[strings.LastIndex(revision, "@")+1:] }
