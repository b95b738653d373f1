package schedule

import (
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// read folds a batch of news into the state.
func (l *loop) read(m mail) {
	for n := range m.unknown {
		delete(l.state.revisions, n)
		delete(l.state.sources, n)
		l.touchSource(n)
	}
	if m.set {
		l.configure(m.targets)
	}
	for n, r := range m.revisions {
		l.revised(n, r)
	}
	for n, st := range m.sources {
		if before := l.state.sources[n]; before.Message != st.Message || before.Suspended != st.Suspended || before.Ready != st.Ready {
			l.touchSource(n)
		}
		l.state.sources[n] = st
	}
	for n, f := range m.forced {
		if t, ok := l.state.targets[n]; ok && !t.gone {
			t.forced |= f
			if f&forceAgain != 0 {
				l.lift(t, "somebody asked for it")
			}
			if f&^forceDrifted != 0 {
				t.reset()
			}
			l.touch(n)
		}
	}
	for n, d := range m.drifted {
		if t, ok := l.state.targets[n]; ok && !t.gone {
			t.drifted = t.drifted.and(d.objects)
			t.drifted.unsure = t.drifted.unsure || d.unsure
		}
	}
	for n, st := range m.progress {
		if t, ok := l.state.targets[n]; ok && t.job != nil {
			t.job.stage = st
			l.touch(n)
		}
	}
	for n, list := range m.contests {
		if t, ok := l.state.targets[n]; ok {
			t.contests = list
			l.touch(n)
		}
	}
	for n, o := range m.orders {
		l.order(n, o)
	}
	l.waiters = append(l.waiters, m.waiters...)
}

// reset forgets the backoff.
func (t *target) reset() { t.failures, t.retryAt = 0, time.Time{} }

func (l *loop) revised(n deploy.Name, r deploy.Revision) {
	before := l.state.revisions[n]
	l.state.revisions[n] = r
	for _, t := range l.state.targets {
		if t.spec.Source == n && !t.gone {
			if before.Digest != r.Digest {
				t.reset()
			}
			if t.held != nil && t.held.Instead != r.Digest {
				l.lift(t, "its source means another artifact")
			}
			if before.Digest == "" {
				l.join(t)
			}
			l.touch(t.spec.Name)
		}
	}
}

// configure takes over a good config.
func (l *loop) configure(targets []deploy.Target) {
	s := l.state
	s.configured = true
	here := make(map[deploy.Name]bool, len(targets))
	var recalled []*target
	for _, spec := range targets {
		here[spec.Name] = true
		t, ok := s.targets[spec.Name]
		switch {
		case !ok:
			t = &target{}
			t.take(spec)
			s.targets[spec.Name] = t
			l.recall(t)
			recalled = append(recalled, t)
		case t.gone:
			t.gone, t.attempted, t.full = false, nil, true
			t.reset()
		case t.spec.Hash != spec.Hash:
			t.reset()
			if t.spec.Suspend && !spec.Suspend { // nobody looked meanwhile
				t.forced |= forceAsked
			}
		}
		t.take(spec)
		if t.held != nil && t.held.Hash != spec.Hash {
			l.lift(t, "its entry changed")
		}
		t.follow()
	}
	for n, t := range s.targets {
		if !here[n] && !t.gone {
			l.leave(t)
		}
	}
	l.adopt()
	s.arrange()
	if s.loaded {
		l.liftGroups()
		for _, t := range recalled {
			l.join(t)
		}
	}
	if s.cycle != nil {
		l.log.Error("targets wait for each other and will not run", zap.Error(s.cycle))
	}
	l.all = true
}

// leave makes a target that is not in the config any more one to delete, or drops it if it never was anything.
func (l *loop) leave(t *target) {
	if t.job == nil && !t.recorded() {
		l.drop(t.spec.Name)
		return
	}
	t.refuse(errLeft)
	t.gone, t.forced, t.held = true, 0, nil
	t.reset()
}

// drop forgets a target for good.
func (l *loop) drop(n deploy.Name) {
	delete(l.state.targets, n)
	delete(l.shown, n)
	l.board.TargetGone(n)
}

// recall gives a new target its record, if there is one.
func (l *loop) recall(t *target) {
	rec, ok := l.records[t.spec.Name]
	if !ok {
		return
	}
	delete(l.records, t.spec.Name)
	t.note(rec)
	t.stored, t.full = t.hash, true
	t.held, t.together = rec.Held, rec.Together
	if t.held != nil && t.held.Hash != t.spec.Hash {
		t.held = nil
	}
	if len(rec.History) == 0 {
		return
	}
	newest := rec.History[0]
	t.last = deploy.Outcome{Target: t.spec.Name, Revision: newest.Revision, Phase: newest.Phase, Reason: newest.Reason}
	if newest.Message != "" {
		t.last.Err = recalled(newest.Message)
	}
	if g := rec.LastGood; g != nil && newest.Phase == deploy.PhaseReady && rec.Intent == "" {
		t.ready = &version{g.Digest, g.Hash}
	}
}

// recalled is an error from a record.
type recalled string

func (r recalled) Error() string { return string(r) }

// adopt makes targets of the records that the config does not name, so that they are deleted.
func (l *loop) adopt() {
	for n, rec := range maps.All(l.records) {
		t := &target{spec: rec.Target, gone: true}
		t.note(rec)
		t.stored = t.hash
		l.state.targets[n] = t
		l.log.Info("a recorded target is not in the config any more and will be deleted", zap.Stringer("target", n))
	}
	clear(l.records)
}

// remembered takes the records over once they are read.
func (l *loop) remembered(r loaded) {
	s := l.state
	l.all = true
	if !r.done {
		if s.loadError == nil {
			l.log.Warn("the records cannot be read; nothing runs before they are", zap.Error(r.err))
		}
		s.loadError = r.err
		return
	}
	if r.err != nil {
		l.log.Error("some records cannot be read; their targets are treated as new", zap.Error(r.err))
	} else if s.loadError != nil {
		l.log.Info("the records are read", zap.Int("records", len(r.records)))
	}
	s.loaded, s.loadError = true, nil
	for _, rec := range r.records {
		l.records[rec.Target.Name] = rec
	}
	for _, t := range s.targets {
		l.recall(t)
		t.follow()
	}
	if s.configured {
		l.adopt()
		l.liftGroups()
		for _, t := range s.targets {
			l.join(t)
		}
	}
	s.arrange()
}

// touch marks a target and those that wait for it for the board.
func (l *loop) touch(n deploy.Name) {
	l.touched[n] = true
	for _, d := range l.state.graph.Dependants(n) {
		l.touched[d] = true
	}
	if t := l.state.targets[n]; t != nil && t.gone {
		for _, d := range t.spec.DependsOn {
			l.touched[d] = true // a deletion lets go of what it depended on
		}
	}
}

func (l *loop) touchSource(n deploy.Name) {
	for _, t := range l.state.targets {
		if t.spec.Source == n {
			l.touched[t.spec.Name] = true
		}
	}
}
