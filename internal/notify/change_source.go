package notify

import (
	"fmt"
	"regexp"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// The reasons of events that are not failures. Failures bear their own.
const (
	reasonNewRevision = "NewRevision"
	reasonRecovered   = "Recovered"
	reasonContested   = "Contested"
	reasonSuspended   = "Suspended"
	reasonResumed     = "Resumed"
	reasonSucceeded   = "ReconciliationSucceeded" // Flux's word
	reasonDeleted     = "Deleted"
	reasonBadConfig   = "ConfigInvalid"
)

// hiccups is how many polls in a row must fail to reach a registry before it is told: one or two are gone before anybody has looked, and what runs goes on meanwhile.
const hiccups = 3

// sourceMemory is what has been told of a source, and what it takes to see the next change.
type sourceMemory struct {
	seen      bool // there was a state
	digest    string
	suspended bool
	failures  int
	// away is how many of the last polls in a row did not reach the registry.
	away int
	// told is the failure that was told last and is not over: its reason, and for one that is about an artifact that artifact's digest.
	told, about string
}

// sourceChanges decides what is news about a source, and what to remember of it.
func sourceChanges(m sourceMemory, s deploy.SourceState) (sourceMemory, []deploy.Event) {
	var events []deploy.Event
	tell := func(severity, reason, format string, args ...any) {
		events = append(events, deploy.Event{
			Object: s.Name, Severity: severity, Reason: reason, Message: fmt.Sprintf(format, args...),
			Revision: s.Revision, Digest: s.Digest, At: s.LastPoll,
		})
	}
	if m.seen && s.Suspended != m.suspended {
		if s.Suspended {
			tell(deploy.SeverityInfo, reasonSuspended, "suspended: it is not polled")
		} else {
			tell(deploy.SeverityInfo, reasonResumed, "resumed: it is polled again")
		}
		events[0].At = time.Time{} // now: no poll found it out
	}
	m.away = awayFor(m, s)
	m.seen, m.suspended, m.failures = true, s.Suspended, s.Failures
	if s.Suspended {
		return m, events
	}
	if s.Ready && m.told != "" {
		tell(deploy.SeverityInfo, reasonRecovered, "recovered from %s at revision %s%s", m.told, s.Revision, vouched(s))
		m.told, m.about = "", ""
	}
	if s.Digest != "" && s.Digest != m.digest {
		if !s.Cached { // what comes from the disk was told when it got there
			tell(deploy.SeverityInfo, reasonNewRevision, "new revision %s%s", s.Revision, vouched(s))
		}
		m.digest = s.Digest
	}
	if !s.Ready && s.Failures > 0 && failed(&m, s) {
		tell(deploy.SeverityError, s.Reason, "%s", s.Message)
	}
	return m, events
}

// failed reports whether a failure is to be told, and notes it if so.
func failed(m *sourceMemory, s deploy.SourceState) bool {
	reason, about := s.Reason, ""
	if transient(s.Reason) {
		if transient(m.told) { // the same outage in other words
			return false
		}
		if s.Revision != "" && m.away < hiccups {
			return false
		}
	} else {
		about = digestPattern.FindString(s.Message)
	}
	if m.told == reason && m.about == about {
		return false
	}
	m.told, m.about = reason, about
	return true
}

// awayFor counts on. A state may come twice for one poll, and a source whose entry changed counts from the beginning.
func awayFor(m sourceMemory, s deploy.SourceState) int {
	switch {
	case s.Ready || !transient(s.Reason):
		return 0
	case s.Failures < m.failures:
		return s.Failures
	case m.seen:
		return m.away + s.Failures - m.failures
	}
	return s.Failures
}

// transient reports whether a reason says that a registry could not be asked: that passes by itself more often than not.
func transient(reason string) bool {
	switch reason {
	case deploy.SourceNetwork, deploy.SourceRateLimited, deploy.SourceUnavailable, deploy.SourceTimeout:
		return true
	}
	return false
}

// digestPattern finds what a failure is about: another artifact that is refused for the same reason is another failure, the same one with another time in its words is not.
var digestPattern = regexp.MustCompile(`sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})`)

func vouched(s deploy.SourceState) string {
	if s.VerifiedBy == "" {
		return ""
	}
	return ", verified by " + s.VerifiedBy
}
