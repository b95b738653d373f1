package helm

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

// holding is what a look for drift compared, and with which clients.
type holding struct {
	clients *kube.Clients
	kinds   deploy.ObjectKinds
}

// Holds are the kinds of the objects of a target's release that are to be watched, with the clients of its cluster: none where drift is not to be detected. It is false where nobody knows
// before the next full run.
func (e *Engine) Holds(t deploy.Target) (clients *kube.Clients, kinds deploy.ObjectKinds, known bool) {
	if !detects(t) {
		return nil, nil, true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	h, known := e.held[t.Name]
	return h.clients, h.kinds, known
}

// hold keeps what a release holds, or forgets it where there are no kinds.
func (e *Engine) hold(n deploy.Name, h holding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h.kinds == nil {
		delete(e.held, n)
		return
	}
	e.held[n] = h
}

// kindsOf are those of pieces. Of objects that want to be left alone nothing is to be seen.
func kindsOf(pieces []piece) deploy.ObjectKinds {
	kinds := deploy.ObjectKinds{}
	for _, p := range pieces {
		if p.mapping != nil && !leftAlone(p.Unstructured) {
			kinds.Add(schema.GroupKind{Group: p.id.Group, Kind: p.id.Kind}, p.id.Namespace)
		}
	}
	return kinds
}
