package applier

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// Holds are the kinds of the objects that the inventory of a target has, as far as it was read in this process, each with the namespaces that they are in, sorted.
func (e *Engine) Holds(t deploy.Target) map[schema.GroupKind][]string {
	kinds := map[schema.GroupKind][]string{}
	for id, known := range e.store.remembered(e.info(t)) {
		if !known.kept && !slices.Contains(kinds[id.GroupKind], id.Namespace) {
			kinds[id.GroupKind] = append(kinds[id.GroupKind], id.Namespace)
		}
	}
	for _, namespaces := range kinds {
		slices.Sort(namespaces)
	}
	return kinds
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
	case known.version != "" && known.version == m.ResourceVersion:
		return false
	}
	e.mu.Lock()
	l, leaves := e.lent[t.Name][key]
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

// lend remembers those objects of a target.
func (e *Engine) lend(n deploy.Name, r *rendered) {
	objects := map[object.ObjMetadata]lent{}
	for id, fields := range r.ignored {
		if len(fields) > 0 {
			objects[id] = lent{r.byID[id], fields}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.lent, n)
	if len(objects) > 0 {
		e.lent[n] = objects
	}
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
