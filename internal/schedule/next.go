package schedule

import (
	"slices"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// decision is what to do now, and when to ask again if nothing happens before.
type decision struct {
	start  []start
	cancel []deploy.Name
	// wake is the zero time where only news can change anything.
	wake time.Time
}

// start is a job to begin.
type start struct {
	name   deploy.Name
	action action
	full   bool
}

// saves is how many records are written at once outside of attempts.
const saves = 4

// next decides. It is pure: no clock, lock or I/O, and it changes nothing but what a readyExpr remembers of its last answer.
func next(now time.Time, s *state) (d decision) {
	if s.stopping {
		for _, n := range s.order {
			if j := s.targets[n].job; j != nil && !j.canceled && j.stage.phase.Cancelable() {
				d.cancel = append(d.cancel, n)
			}
		}
		return d
	}
	if !s.loaded || !s.configured {
		return d
	}
	var ready []start
	for _, n := range s.order {
		t := s.targets[n]
		if t.job != nil {
			if s.superseded(t) {
				d.cancel = append(d.cancel, n)
			}
			continue
		}
		st, at := s.due(now, t)
		if st.action != "" {
			ready = append(ready, st)
		} else if !at.IsZero() && (d.wake.IsZero() || at.Before(d.wake)) {
			d.wake = at
		}
	}
	d.start = s.admit(ready)
	return d
}

// superseded reports whether a running attempt should give way: what it works on is not wanted any more, and it is not changing the cluster.
func (s *state) superseded(t *target) bool {
	j := t.job
	if j.action != actionRun || j.canceled || !j.stage.phase.Cancelable() {
		return false
	}
	want, ok := s.want(t)
	return t.gone || t.spec.Suspend || t.moved() || t.forced&forceChanged != 0 || t.order != nil || !ok || want != j.version // !ok: the revision was taken back
}

// due says what to start for an idle target, or when time alone may change that.
func (s *state) due(now time.Time, t *target) (start, time.Time) {
	n := t.spec.Name
	if t.gone {
		switch {
		case s.blocksDeletion(n):
			return start{}, time.Time{}
		case now.Before(t.retryAt):
			return start{}, t.retryAt
		}
		return start{name: n, action: actionDelete}, time.Time{}
	}
	if t.order != nil {
		return start{name: n, action: actionRollback}, time.Time{}
	}
	if full, ok := s.attemptDue(now, t); ok {
		if t.moved() {
			return start{name: n, action: actionReplace}, time.Time{}
		}
		return start{name: n, action: actionRun, full: full}, time.Time{}
	}
	if t.unsaved() && !now.Before(t.saveAt) {
		return start{name: n, action: actionSave}, time.Time{}
	}
	return start{}, s.look(now, t)
}

// attemptDue reports whether a configured target is to be run now, and whether in full.
func (s *state) attemptDue(now time.Time, t *target) (full, ok bool) {
	if t.spec.Suspend {
		return false, false
	}
	want, known := s.want(t)
	switch {
	case !known:
		return false, false
	case t.forced&^forceDrifted != 0:
		full, ok = true, true
	case t.failures > 0:
		full, ok = t.full || t.forced != 0, !now.Before(t.retryAt) // news has reset failures
	case t.forced != 0:
		full, ok = true, true
	case t.attempted == nil || *t.attempted != want:
		full, ok = t.full, true
	default:
		full, ok = true, !t.checkAt.IsZero() && !now.Before(t.checkAt)
	}
	// Last, since it costs most and hardly any target gets here. Who says where to go back to need not wait for others.
	return full, ok && (t.awaited != nil || len(s.blockers(t)) == 0)
}

// look is when an idle target that has nothing to do may have.
func (s *state) look(now time.Time, t *target) time.Time {
	var at time.Time
	sooner := func(c time.Time) {
		if c.After(now) && (at.IsZero() || c.Before(at)) {
			at = c
		}
	}
	if t.unsaved() {
		sooner(t.saveAt)
	}
	if t.spec.Suspend {
		return at
	}
	if t.failures > 0 {
		sooner(t.retryAt)
	} else {
		sooner(t.checkAt)
	}
	return at
}

// blocksDeletion reports whether something that depends on a target still is to be deleted itself: dependants go first. Targets that wait for each other
// in a circle are not held back by it.
func (s *state) blocksDeletion(n deploy.Name) bool {
	if s.cycle != nil {
		return false
	}
	return slices.ContainsFunc(s.graph.Dependants(n), func(d deploy.Name) bool {
		t := s.targets[d]
		return t.gone || (t.job != nil && t.job.action == actionDelete)
	})
}

// admit keeps what fits the limits: first what somebody waits for, then what was never attempted or waits longest, then in the order of the graph.
func (s *state) admit(ready []start) []start {
	slices.SortStableFunc(ready, func(a, b start) int {
		if by, other := a.action == actionRollback, b.action == actionRollback; by != other {
			if by {
				return -1
			}
			return 1
		}
		return s.targets[a.name].last.Finished.Compare(s.targets[b.name].last.Finished)
	})
	room := map[deploy.Kind]int{deploy.KindKustomization: s.limits.Kustomizations, deploy.KindHelmRelease: s.limits.HelmReleases}
	saving := saves
	for _, t := range s.targets {
		switch {
		case t.job == nil:
		case t.job.action == actionSave:
			saving--
		default:
			room[t.spec.Name.Kind]--
		}
	}
	return slices.DeleteFunc(ready, func(st start) bool {
		if st.action == actionSave {
			saving--
			return saving < 0
		}
		room[st.name.Kind]--
		return room[st.name.Kind] < 0
	})
}
