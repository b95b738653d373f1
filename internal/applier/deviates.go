package applier

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

// Holds says with which clients the last plan of a target looked at its cluster, and of which kinds the objects in its inventory are: nil and none where there was no plan in this process.
func (e *Engine) Holds(t deploy.Target) (*kube.Clients, deploy.ObjectKinds) {
	e.mu.Lock()
	clients := e.grips[t.Name].clients
	e.mu.Unlock()
	kinds := deploy.ObjectKinds{}
	if clients == nil {
		return nil, kinds
	}
	for id, known := range e.store.remembered(e.info(t)) {
		if !known.kept {
			kinds.Add(id.GroupKind, id.Namespace)
		}
	}
	return clients, kinds
}

// Deviates reports whether an object is not as the target left it, as far as its metadata tells: it is gone (nil), another one, or somebody took fields from us or set some by hand. What is
// not known to have been applied is no drift: another attempt is due for it anyway. Fields that are left to others are none. It makes no request.
func (e *Engine) Deviates(t deploy.Target, id deploy.ObjectID, uid types.UID, m *metav1.PartialObjectMetadata) bool {
	key := object.ObjMetadata{GroupKind: schema.GroupKind{Group: id.Group, Kind: id.Kind}, Namespace: id.Namespace, Name: id.Name}
	known, ok := e.store.remembered(e.info(t))[key]
	switch {
	case !ok || known.rendered == "" || known.kept:
		return false
	case m == nil:
		return known.uid == uid
	case m.DeletionTimestamp != nil:
		return false // there will be news when it is gone
	case known.uid != uid:
		return true
	case known.version != "" && known.version == m.ResourceVersion, lenient(m):
		return false
	}
	e.mu.Lock()
	l, leaves := e.grips[t.Name].lent[key]
	e.mu.Unlock()
	if leaves {
		return known.owned != ownedHash(m.ManagedFields, l.rendered, l.fields) || setByHand(m.ManagedFields, l.rendered, l.fields)
	}
	hand := slices.ContainsFunc(m.ManagedFields, func(f metav1.ManagedFieldsEntry) bool { return byHand(f, f.APIVersion) })
	return hand || known.owned != ownedHash(m.ManagedFields, nil, nil)
}

// lent is an object with fields that are left to others.
type lent struct {
	rendered *unstructured.Unstructured
	fields   []deploy.Pointer
}

// grip is what the last plan of a target knew of what it holds.
type grip struct {
	clients *kube.Clients
	// lent are the objects of which fields are left to others, as they were rendered.
	lent map[object.ObjMetadata]lent
}

// grasp remembers that of a plan.
func (e *site) grasp(n deploy.Name, r *rendered) {
	g := grip{clients: e.clients, lent: map[object.ObjMetadata]lent{}}
	for id, fields := range r.ignored {
		if len(fields) > 0 {
			g.lent[id] = lent{r.byID[id], fields}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.grips[n] = g
}

// remembered are the entries of an inventory as far as they were read; they must not be changed.
func (s *store) remembered(i info) entries {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.ledgers[i.id]
	if l == nil || l.info.cluster != i.cluster {
		return nil
	}
	return l.entries
}
