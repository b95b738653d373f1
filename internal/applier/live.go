package applier

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/inventory"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// listFrom is from how many objects of one kind and namespace on one LIST is cheaper than a GET for each.
const listFrom = 8

// seen is what the cluster says of one object.
type seen struct {
	found bool
	uid   types.UID
	owned string
	// mode that its marks ask for, byHand that somebody set more with kubectl than the artifact has.
	mode   mode
	byHand bool
	// lenient: it says that drift of it is to be left.
	lenient bool
	// stray: it does not bear our inventory's name.
	stray bool
	// by names those who changed it, as far as that is known.
	by  []string
	err error
}

// view is how objects are looked at.
type view struct {
	target deploy.Name
	render *rendered
	known  entries
	// version is the resourceVersion to ask for: "0" takes what the server has at hand, which costs it little and may be some milliseconds old.
	version string
}

// observe looks at the metadata of objects. An error stands beside the object that it is about: an API group that is down says nothing about the others.
func (e *site) observe(ctx context.Context, v view, ids []object.ObjMetadata) (map[object.ObjMetadata]seen, error) {
	groups := map[kindNamespace][]object.ObjMetadata{}
	for _, id := range ids {
		g := kindNamespace{id.GroupKind, id.Namespace}
		groups[g] = append(groups[g], id)
	}
	var reads []func() map[object.ObjMetadata]seen
	for g, members := range groups {
		if len(members) >= listFrom {
			reads = append(reads, func() map[object.ObjMetadata]seen { return e.observeKind(ctx, v, g, members) })
			continue
		}
		for _, id := range members {
			reads = append(reads, func() map[object.ObjMetadata]seen { return map[object.ObjMetadata]seen{id: e.observeOne(ctx, v, id)} })
		}
	}
	var mu sync.Mutex // guards all
	all := make(map[object.ObjMetadata]seen, len(ids))
	err := e.each(ctx, len(reads), func(i int) {
		part := reads[i]()
		mu.Lock()
		defer mu.Unlock()
		maps.Copy(all, part)
	})
	return all, err
}

type kindNamespace struct {
	schema.GroupKind
	namespace string
}

func (e *site) observeOne(ctx context.Context, v view, id object.ObjMetadata) seen {
	m, err := e.metadataAt(ctx, id, v.version)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return seen{}
	}
	if err != nil {
		return seen{err: err}
	}
	return v.seen(id, m)
}

// observeKind lists by our label: what lost the label reads as missing, and is right again when it has been applied.
func (e *site) observeKind(ctx context.Context, v view, g kindNamespace, members []object.ObjMetadata) map[object.ObjMetadata]seen {
	out := make(map[object.ObjMetadata]seen, len(members))
	for _, id := range members {
		out[id] = seen{}
	}
	fail := func(err error) map[object.ObjMetadata]seen {
		for _, id := range members {
			out[id] = seen{err: err}
		}
		return out
	}
	mapping, err := e.clients.Mapper.RESTMapping(g.GroupKind)
	if meta.IsNoMatchError(err) {
		return out
	}
	if err != nil {
		return fail(err)
	}
	const page = 500 // objects; the API server's own clients use it
	opts := metav1.ListOptions{LabelSelector: deploy.LabelTarget + "=" + v.target.LabelValue(), Limit: page, ResourceVersion: v.version}
	for {
		list, err := e.clients.Metadata.Resource(mapping.Resource).Namespace(g.namespace).List(ctx, opts)
		if err != nil {
			return fail(fmt.Errorf("list %s: %w", mapping.Resource.Resource, err))
		}
		for i := range list.Items {
			m := &list.Items[i]
			id := object.ObjMetadata{GroupKind: g.GroupKind, Namespace: m.Namespace, Name: m.Name}
			if _, asked := out[id]; asked {
				out[id] = v.seen(id, m)
			}
		}
		if opts.Continue, opts.ResourceVersion = list.Continue, ""; opts.Continue == "" {
			return out
		}
	}
}

func (v view) seen(id object.ObjMetadata, m *metav1.PartialObjectMetadata) seen {
	u, ignored := v.render.byID[id], v.render.ignored[id]
	s := seen{
		found: true, uid: m.UID, owned: ownedHash(m.ManagedFields, u, ignored), mode: modeOf(m), byHand: setByHand(m.ManagedFields, u, ignored),
		lenient: lenient(m),
		stray:   m.Annotations[inventory.OwningInventoryKey] != u.GetAnnotations()[inventory.OwningInventoryKey],
	}
	if s.owned != v.known[id].owned {
		s.by = meddlers(m.ManagedFields, u.Object)
	}
	return s
}

func (e *site) metadata(ctx context.Context, id object.ObjMetadata) (*metav1.PartialObjectMetadata, error) {
	return e.metadataAt(ctx, id, "")
}

func (e *site) metadataAt(ctx context.Context, id object.ObjMetadata, version string) (*metav1.PartialObjectMetadata, error) {
	mapping, err := e.clients.Mapper.RESTMapping(id.GroupKind)
	if err != nil {
		return nil, err
	}
	return e.clients.Metadata.Resource(mapping.Resource).Namespace(id.Namespace).Get(ctx, id.Name, metav1.GetOptions{ResourceVersion: version})
}

// undefined is nil where no CRD defines a kind that is not served. Objects of one that is merely not served now (a version switched off, a server that has just
// started) still exist. Who may not read CRDs hears no objection.
func (e *site) undefined(ctx context.Context, gk schema.GroupKind) error {
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	opts := metav1.ListOptions{Limit: 500}
	for {
		list, err := e.clients.Metadata.Resource(crds).List(ctx, opts)
		if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find out whether its kind is still defined: %w", err)
		}
		for i := range list.Items {
			name := list.Items[i].Name // plural.group
			if _, group, _ := strings.Cut(name, "."); group != gk.Group {
				continue
			}
			crd, err := e.clients.Dynamic.Resource(crds).Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return fmt.Errorf("find out whether its kind is still defined: %w", err)
			}
			if kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind"); kind == gk.Kind {
				return fmt.Errorf("its kind is defined by the CustomResourceDefinition %s but not served now", name)
			}
		}
		if opts.Continue = list.Continue; opts.Continue == "" {
			return nil
		}
	}
}

// dropped is an object of the inventory that the target does not render any more.
type dropped struct {
	id object.ObjMetadata
	// live is nil where the object, or its whole kind, is gone already.
	live *unstructured.Unstructured
	// err says why nothing is known of it now.
	err error
}

// fetch reads dropped objects whole: a CRD's spec says which other objects have to go first.
func (e *site) fetch(ctx context.Context, ids []object.ObjMetadata) ([]dropped, error) {
	out := make([]dropped, len(ids))
	err := e.each(ctx, len(ids), func(i int) {
		out[i] = e.fetchOne(ctx, ids[i])
	})
	return out, err
}

func (e *site) fetchOne(ctx context.Context, id object.ObjMetadata) dropped {
	mapping, err := e.clients.Mapper.RESTMapping(id.GroupKind)
	if meta.IsNoMatchError(err) {
		return dropped{id: id, err: e.undefined(ctx, id.GroupKind)} // the server listed the group and has no such kind: its objects went with it
	}
	if err != nil {
		return dropped{id: id, err: err}
	}
	live, err := e.clients.Dynamic.Resource(mapping.Resource).Namespace(id.Namespace).Get(ctx, id.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return dropped{id: id}
	}
	if err != nil {
		return dropped{id: id, err: fmt.Errorf("read it before pruning: %w", err)}
	}
	return dropped{id: id, live: live}
}
