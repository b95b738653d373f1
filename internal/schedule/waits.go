package schedule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// All words here are noun phrases: they follow "waits for".

// blockers says in words which dependencies keep a target from starting.
func (s *state) blockers(t *target) []string {
	var out []string
	if s.cycle != nil && slices.Contains(s.cycle.Path, t.spec.Name) {
		out = append(out, "an end of the "+s.cycle.Error())
	}
	for _, n := range t.spec.DependsOn {
		if words := s.blocker(t, n, n.Short(t.spec.Name.Namespace)); words != "" {
			out = append(out, words)
		}
	}
	return out
}

// blocker says why a dependency is not Ready, or not ready enough for the readyExpr of the target; empty if it is.
func (s *state) blocker(t *target, n deploy.Name, short string) string {
	d, ok := s.targets[n]
	if !ok {
		return short + ", which is not in the config"
	}
	if d.gone {
		return short + ", which left the config and is being deleted"
	}
	if t.held != nil {
		// Going back waits for nobody but those that go back too: what is there has failed.
		if want, _ := s.want(d); d.held == nil || d.ready != nil && *d.ready == want {
			return ""
		}
	}
	if r := t.rules[n]; r != nil {
		if words := r.blocker(d, t); words != "" {
			return short + words
		}
		return ""
	}
	switch {
	case s.current(d):
		return ""
	case d.job != nil && d.job.action != actionSave:
		return fmt.Sprintf("%s, which is %s", short, d.job.stage.phase)
	case d.spec.Suspend:
		return short + ", which is suspended"
	case d.held != nil:
		return fmt.Sprintf("%s, which is held at %s", short, d.held.Revision)
	case d.failures > 0 && d.last.Reason != "":
		return fmt.Sprintf("%s, which is %s (%s)", short, d.last.Phase, d.last.Reason)
	case d.failures > 0:
		return fmt.Sprintf("%s, which is %s", short, d.last.Phase)
	}
	return short + ", which is not Ready yet"
}

// waitsFor says in words what an idle target waits for before it can start; nothing where it has nothing to do.
func (s *state) waitsFor(t *target) []string {
	if t.job != nil && t.job.action != actionSave {
		return nil
	}
	if t.gone {
		return s.deletionWaitsFor(t)
	}
	if t.spec.Suspend {
		return nil
	}
	var out []string
	switch {
	case s.loadError != nil:
		out = append(out, "its record, which cannot be read: "+s.loadError.Error())
	case !s.loaded:
		out = append(out, "its record, which is being read")
	}
	want, known := s.want(t)
	if !known {
		out = append(out, s.sourceWords(t))
	}
	if known && t.failures == 0 && t.attempted != nil && *t.attempted == want && t.forced == 0 {
		return out // it is where it should be
	}
	if known && t.failures == 0 && t.attempted == nil && s.current(t) && len(s.blockers(t)) == 0 {
		return out
	}
	out = append(out, s.blockers(t)...)
	switch {
	case len(out) > 0:
	case t.failures > 0:
		out = append(out, retryWords(t))
	default:
		out = append(out, "its turn: as many attempts as allowed are running")
	}
	return out
}

func (s *state) deletionWaitsFor(t *target) []string {
	var out []string
	if s.blocksDeletion(t.spec.Name) {
		for _, d := range s.graph.Dependants(t.spec.Name) {
			if dep := s.targets[d]; dep.gone {
				out = append(out, d.Short(t.spec.Name.Namespace)+", which is not deleted yet")
			}
		}
	}
	if len(out) == 0 && t.failures > 0 {
		out = append(out, retryWords(t))
	}
	return out
}

// retryWords do not say when: they are read later than they are written, and TargetState.Next says it.
func retryWords(t *target) string { return fmt.Sprintf("its retry (attempt %d)", t.failures+1) }

// sourceWords says that and why a target's source has no revision.
func (s *state) sourceWords(t *target) string {
	short := t.spec.Source.Short(t.spec.Name.Namespace)
	st, ok := s.sources[t.spec.Source]
	switch {
	case ok && st.Suspended:
		return short + ", which has no revision and is suspended"
	case ok && st.Message != "" && !st.Ready:
		return short + ", which has no revision yet: " + strings.TrimSpace(st.Message)
	}
	return short + ", which has no revision yet"
}
