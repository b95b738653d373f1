package schedule

import (
	"reflect"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// show tells the board what changed.
func (l *loop) show(now time.Time) {
	if l.all {
		for n := range l.state.targets {
			l.touched[n] = true
		}
		l.all = false
	}
	for n := range l.touched {
		t, ok := l.state.targets[n]
		if !ok {
			continue
		}
		st := l.state.show(now, t)
		if before, ok := l.shown[n]; ok && reflect.DeepEqual(before, st) {
			continue
		}
		l.shown[n] = st
		l.board.TargetState(st)
	}
	clear(l.touched)
}

// show is what the board shows of a target.
func (s *state) show(now time.Time, t *target) deploy.TargetState {
	st := deploy.TargetState{
		Name: t.spec.Name, Source: t.spec.Source, DependsOn: t.spec.DependsOn,
		Revision: t.last.Revision, LastGood: t.rec.LastGood, Changes: t.last.Changes, History: t.rec.History,
		Failures: t.failures, Suspended: t.spec.Suspend && !t.gone,
		Started: t.last.Started, Finished: t.last.Finished,
		Phase: t.last.Phase, Reason: t.last.Reason, Contested: t.contests, Held: t.held,
		WaitsFor: s.waitsFor(t), Next: s.look(now, t),
	}
	if t.last.Err != nil {
		st.Message = t.last.Err.Error()
	}
	running := t.job != nil && t.job.action != actionSave
	want, known := s.want(t)
	switch {
	case running:
		st.Phase, st.Stage = t.job.stage.phase, t.job.stage.words
		st.Replacing = t.job.action == actionReplace
		st.Started, st.Finished, st.Next = t.job.started, time.Time{}, time.Time{}
		// What the last attempt said is not about this one; the history has it.
		st.Reason, st.Message, st.Changes = "", "", nil
		if t.job.action == actionRun {
			st.Revision = t.job.work.Revision.String()
		}
	case t.gone:
		st.Phase = deploy.PhaseDeleting
		if t.failures > 0 {
			st.Next = t.retryAt
		}
	case t.spec.Suspend:
		st.Phase = deploy.PhaseSuspended
	case st.Phase == "":
		st.Phase = deploy.PhasePending
	case known && t.attempted == nil && t.failures > 0:
		// What an earlier entry made could not be deleted: nothing comes before that.
	case !known && !s.current(t), known && t.attempted != nil && *t.attempted != want, known && t.attempted == nil && !s.current(t):
		// How the last attempt ended says nothing about what is wanted now.
		st.Phase, st.Reason, st.Message = deploy.PhasePending, "", ""
	}
	if st.Phase == deploy.PhasePending {
		st.Next = time.Time{} // news starts it, not the time: what it had planned before is void
	}
	return st
}
