package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// Explanation is everything that the board knows about why a target is as it is.
type Explanation struct {
	Target deploy.TargetState `json:"target"`
	// At is when it was taken, by the agent's clock.
	At time.Time `json:"at"`
	// Source is absent where the target's source is not on the board.
	Source *deploy.SourceState `json:"source,omitempty"`
	// Dependencies in the order of dependsOn.
	Dependencies []Dependency `json:"dependencies,omitempty"`
	// Dependents name this target in their dependsOn.
	Dependents []deploy.Name `json:"dependents,omitempty"`
	// Why says it in sentences, the most important first.
	Why []string `json:"why"`
}

// Dependency is how a target that another one depends on is doing.
type Dependency struct {
	Name deploy.Name `json:"name"`
	// Phase is empty for one that is not on the board.
	Phase   deploy.Phase `json:"phase,omitempty"`
	Ready   bool         `json:"ready"`
	Message string       `json:"message,omitempty"`
}

// Explain explains a target; false: there is none of that name.
func (b *Board) Explain(n deploy.Name) (Explanation, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.targets[n]
	if !ok {
		return Explanation{}, false
	}
	x := Explanation{Target: e.state, At: b.now()}
	if s, ok := b.sources[e.state.Source]; ok {
		x.Source = &s.state
	}
	for _, d := range e.state.DependsOn {
		on := b.targets[d]
		x.Dependencies = append(x.Dependencies, Dependency{Name: d, Phase: on.state.Phase, Ready: on.ready, Message: on.state.Message})
	}
	var waiting []deploy.Name // those of the dependents that cannot start now
	for name, other := range b.targets {
		if slices.Contains(other.state.DependsOn, n) {
			x.Dependents = append(x.Dependents, name)
			if other.state.Phase == deploy.PhasePending {
				waiting = append(waiting, name)
			}
		}
	}
	slices.SortFunc(x.Dependents, deploy.Name.Compare)
	slices.SortFunc(waiting, deploy.Name.Compare)
	x.Why = why(x, waiting, b.namespace)
	return x, true
}

// why puts an explanation, and who waits for the target, into sentences. Names in the given namespace are short.
func why(x Explanation, waiting []deploy.Name, namespace string) []string {
	t := x.Target
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }

	if s := condition(x); s != "" {
		out = append(out, s)
	}
	if h := t.Held; h != nil && t.Reason != deploy.ReasonRolledBack {
		out = append(out, capital(sentence(h.String())))
	}
	for _, c := range t.Contested {
		say("Others insist: %s", sentence(c.String()))
	}
	switch {
	case t.Failures > 0 && running(t.Phase):
		say("Before it, %s failed.", attempts(t.Failures))
	case t.Failures > 1:
		say("That was failure %d in a row.", t.Failures)
	}
	if !t.Suspended {
		waits := slices.Clone(t.WaitsFor)
		if x.Source == nil && t.Source != (deploy.Name{}) && t.Phase != deploy.PhaseDeleting { // a deletion needs no source
			waits = appendNew(waits, t.Source.Short(namespace)+", which is not in the config")
		}
		for _, d := range x.Dependencies {
			if !d.Ready && t.Phase == deploy.PhasePending && len(t.WaitsFor) == 0 {
				waits = appendNew(waits, d.words(namespace))
			}
		}
		for _, w := range waits {
			say("It waits for %s", sentence(w))
		}
	}
	if s := x.Source; s != nil && s.Failures > 0 && slices.ContainsFunc(t.WaitsFor, func(w string) bool { return s.Message != "" && strings.Contains(w, s.Message) }) {
		if next := nextPoll(*s, x.At); next != "" {
			out = append(out, strings.TrimSpace(next)) // the rest was said
		}
	} else if s != nil && s.Failures > 0 {
		say("%s cannot be polled: %s%s", s.Name.Short(namespace), sentence(s.Message), nextPoll(*s, x.At))
	}
	if g := t.LastGood; g != nil && t.Phase != deploy.PhaseReady && t.Held == nil {
		say("It was last good at %s, %s.", shortRevision(g.Revision), ago(x.At, g.At))
	}
	if t.Next.After(x.At) && !t.Suspended && !running(t.Phase) {
		next := "attempt"
		if t.Phase == deploy.PhaseReady || t.Failures == 0 {
			next = "check"
		}
		say("The next %s is %s.", next, in(x.At, t.Next))
	}
	if len(waiting) > 0 && t.Phase != deploy.PhaseReady {
		names := make([]string, len(waiting))
		for i, d := range waiting {
			names[i] = d.Short(namespace)
		}
		say("Waiting for it: %s.", strings.Join(names, ", "))
	}
	return out
}

// condition is the sentence for the phase.
func condition(x Explanation) string {
	t := x.Target
	switch {
	case running(t.Phase):
		s := fmt.Sprintf("An attempt at %s is running, in stage %s", shortRevision(t.Revision), t.Phase)
		if !t.Started.IsZero() {
			s += ", for " + span(x.At.Sub(t.Started))
		}
		if t.Stage != "" {
			return s + ": " + sentence(t.Stage)
		}
		return s + "."
	case t.Suspended || t.Phase == deploy.PhaseSuspended:
		return "It is suspended: nothing is reconciled until it is resumed."
	case t.Phase == deploy.PhaseReady && t.Finished.IsZero():
		return fmt.Sprintf("The cluster was as %s says when the agent last ran; it was not checked since.", shortRevision(t.Revision))
	case t.Phase == deploy.PhaseReady:
		return fmt.Sprintf("The cluster is as %s says; last checked %s.", shortRevision(t.Revision), ago(x.At, t.Finished))
	case t.Held != nil && t.Reason == deploy.ReasonRolledBack:
		return capital(sentence(t.Message))
	case t.Phase == deploy.PhaseFailed, t.Phase == deploy.PhaseDegraded:
		s := fmt.Sprintf("The attempt at %s %s, %s", shortRevision(t.Revision), ending(t.Phase), ago(x.At, t.Finished))
		if t.Reason != "" {
			s += ", with " + t.Reason
		}
		if t.Message != "" {
			return s + ": " + sentence(t.Message)
		}
		return s + "."
	case t.Phase == deploy.PhaseDeleting:
		s := "It left the config and is being deleted"
		if t.Replacing {
			s = "What its earlier entry made is being deleted first"
		}
		switch {
		case t.Stage != "":
			return s + ": " + sentence(t.Stage)
		case t.Message == "":
			return s + "."
		case t.Failures > 0:
			return s + "; the last attempt failed, " + ago(x.At, t.Finished) + ": " + sentence(t.Message)
		}
		return s + ": " + sentence(t.Message)
	}
	s := "It was not tried yet"
	if !t.Finished.IsZero() {
		s = fmt.Sprintf("The last attempt ended %s and the next has not begun", ago(x.At, t.Finished))
	}
	if t.Message != "" {
		return s + ": " + sentence(t.Message)
	}
	return s + "."
}

func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts in a row", n)
}

func ending(p deploy.Phase) string {
	if p == deploy.PhaseDegraded {
		return "succeeded in part"
	}
	return "failed"
}

// words is a dependency that holds something up.
func (d Dependency) words(namespace string) string {
	if d.Phase == "" {
		return d.Name.Short(namespace) + ", which is not in the config"
	}
	return fmt.Sprintf("%s, which is %s", d.Name.Short(namespace), d.Phase)
}

func nextPoll(s deploy.SourceState, now time.Time) string {
	if !s.NextPoll.After(now) {
		return ""
	}
	return " The next poll is " + in(now, s.NextPoll) + "."
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// capital begins a sentence with a capital letter.
func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// sentence ends a message with a full stop where it has no end of its own.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || strings.HasSuffix(s, ".") || strings.HasSuffix(s, "!") || strings.HasSuffix(s, "?") {
		return s
	}
	return s + "."
}
