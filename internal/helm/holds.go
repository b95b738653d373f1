package helm

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/towline/towline/internal/deploy"
)

// Holds are the kinds of the objects of a target's release that are to be watched, each with the namespaces that they are in, sorted: none where drift is not to be detected. It is
// false where nobody knows before the next full run.
func (e *Engine) Holds(t deploy.Target) (kinds map[schema.GroupKind][]string, known bool) {
	if !detects(t) {
		return nil, true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	kinds, known = e.held[t.Name]
	return kinds, known
}

// hold keeps, or with nil forgets, the kinds of a release.
func (e *Engine) hold(n deploy.Name, kinds map[schema.GroupKind][]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if kinds == nil {
		delete(e.held, n)
		return
	}
	e.held[n] = kinds
}

// kindsOf are those of pieces. Of objects that want to be left alone nothing is to be seen.
func kindsOf(pieces []piece) map[schema.GroupKind][]string {
	kinds := map[schema.GroupKind][]string{}
	for _, p := range pieces {
		if p.mapping == nil || leftAlone(p.Unstructured) {
			continue
		}
		kind, ns := schema.GroupKind{Group: p.id.Group, Kind: p.id.Kind}, p.id.Namespace
		if !slices.Contains(kinds[kind], ns) {
			kinds[kind] = append(kinds[kind], ns)
		}
	}
	for _, namespaces := range kinds {
		slices.Sort(namespaces)
	}
	return kinds
}
