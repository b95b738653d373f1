package applier

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/expr"
)

// beingDeleted begins what is said of an object with a deletionTimestamp.
const beingDeleted = "it is being deleted"

// healthRules say how the objects of a target are doing: by its healthCheckExprs where a kind has some, else by kstatus. Nil is kstatus for all.
type healthRules struct {
	hash  string // of the target's spec
	kinds map[schema.GroupKind][]kindRule
}

// kindRule judges the objects of one version of a kind.
type kindRule struct {
	version string
	rule    *expr.HealthRule
}

// rulesOf compiles a target's expressions, once for each spec. A target without any costs nothing.
func (e *Engine) rulesOf(t deploy.Target) (*healthRules, error) {
	if t.Kustomization == nil || len(t.Kustomization.HealthCheckExprs) == 0 {
		return nil, nil
	}
	e.mu.Lock()
	rules := e.rules[t.Name]
	e.mu.Unlock()
	if rules != nil && rules.hash == t.Hash {
		return rules, nil
	}
	rules = &healthRules{hash: t.Hash, kinds: map[schema.GroupKind][]kindRule{}}
	for _, x := range t.Kustomization.HealthCheckExprs {
		gvk := schema.FromAPIVersionAndKind(x.APIVersion, x.Kind)
		rule, err := expr.Health(x.InProgress, x.Failed, x.Current)
		if err != nil {
			return nil, fmt.Errorf("healthCheckExprs of %s: %w", gvk.GroupKind(), err)
		}
		rules.kinds[gvk.GroupKind()] = append(rules.kinds[gvk.GroupKind()], kindRule{gvk.Version, rule})
	}
	e.mu.Lock()
	e.rules[t.Name] = rules
	e.mu.Unlock()
	return rules, nil
}

// versions are those in which objects of a kind have to be read to be judged; none where any will do.
func (h *healthRules) versions(gk schema.GroupKind) []string {
	if h == nil {
		return nil
	}
	var out []string
	for _, k := range h.kinds[gk] {
		out = append(out, k.version)
	}
	return out
}

// of computes the health of one object. A kind with a rule is judged by it alone, in the rule's version.
func (h *healthRules) of(u *unstructured.Unstructured) health {
	gvk := u.GroupVersionKind()
	if u.GetDeletionTimestamp() != nil {
		return health{status.TerminatingStatus, beingDeleted + heldBy(u)}
	}
	if h == nil || len(h.kinds[gvk.GroupKind()]) == 0 {
		return healthOf(u).reticent(u, false)
	}
	return judged(h.kinds[gvk.GroupKind()], u).reticent(u, true)
}

// judged is the health of an object by the rules of its kind.
func judged(rules []kindRule, u *unstructured.Unstructured) health {
	gvk := u.GroupVersionKind()
	i := slices.IndexFunc(rules, func(k kindRule) bool { return k.version == gvk.Version })
	if i < 0 {
		return health{status.InProgressStatus, fmt.Sprintf("its healthCheckExprs are for version %s, it was read as %s", rules[0].version, gvk.Version)}
	}
	word, message := rules[i].rule.Judge(u.Object)
	switch word {
	case expr.Current:
		return health{status.CurrentStatus, message}
	case expr.Failed:
		if message == "" {
			message = "it failed, by its healthCheckExprs"
		}
		return health{status.FailedStatus, message}
	}
	return health{status.InProgressStatus, message}
}
