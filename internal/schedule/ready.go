package schedule

import (
	"fmt"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/expr"
)

// readyRule is the readyExpr by which a target judges one of its dependencies. It remembers its last answer: next asks at every event, and an evaluation takes a hundred times as
// long as seeing that nothing changed.
type readyRule struct {
	rule *expr.ReadyRule
	// broken is why the expression could not be compiled. The config refuses such; here it only has to do no harm.
	broken error

	// asked says what the answer is about.
	asked    bool
	dep, own facts
	words    string
}

// readyRules compiles the expressions of a target; nil for the many without one.
func readyRules(t deploy.Target) map[deploy.Name]*readyRule {
	if len(t.ReadyExprs) == 0 {
		return nil
	}
	out := make(map[deploy.Name]*readyRule, len(t.ReadyExprs))
	for n, text := range t.ReadyExprs {
		r := &readyRule{}
		r.rule, r.broken = expr.Ready(text)
		out[n] = r
	}
	return out
}

// blocker says why a dependency is not ready enough; empty if it is. The words follow its name.
func (r *readyRule) blocker(dep, own *target) string {
	if r.broken != nil {
		return ", which cannot be judged: " + r.broken.Error()
	}
	if d, o := dep.facts(), own.facts(); !r.asked || r.dep != d || r.own != o {
		r.words = r.judge(dep, own)
		r.asked, r.dep, r.own = true, d, o
	}
	return r.words
}

func (r *readyRule) judge(dep, own *target) string {
	d, err := dep.object()
	if err != nil {
		return ", which cannot be judged: " + err.Error()
	}
	o, err := own.object()
	if err != nil {
		return ", which cannot be judged: its dependant: " + err.Error()
	}
	switch ready, err := r.rule.Judge(d, o); {
	case err != nil:
		return fmt.Sprintf(", whose readyExpr cannot be evaluated: %v", err)
	case !ready:
		return ", whose readyExpr is not true yet"
	}
	return ""
}
