package applier

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/towline/towline/internal/deploy"
)

// Objects are what the target's inventory lists, as the cluster has it, with what controllers made of it. None: nothing has been applied yet. What cannot be read is
// Unknown and says why.
func (e *Engine) Objects(ctx context.Context, t deploy.Target) ([]deploy.Live, error) {
	known, err := e.store.read(ctx, e.info(t))
	if err != nil || len(known) == 0 {
		return nil, err
	}
	here, err := e.site(ctx, t)
	if err != nil {
		return nil, err
	}
	ids := slices.SortedFunc(maps.Keys(known), compareIDs)
	found, err := here.fetch(ctx, ids)
	if err != nil {
		return nil, err
	}
	rules, err := e.rulesOf(t)
	if err != nil {
		return nil, err
	}
	out := make([]deploy.Live, len(found))
	f := &family{site: here, rules: rules, children: map[types.UID][]*unstructured.Unstructured{}, unlisted: map[string]error{}}
	for _, d := range found {
		f.add(d.live)
	}
	if err := f.search(ctx); err != nil {
		return nil, err
	}
	for i, d := range found {
		switch {
		case d.err != nil:
			out[i] = deploy.Live{Object: objectID(d.id), Health: string(status.UnknownStatus), Message: d.err.Error()}
		case d.live == nil:
			out[i] = deploy.Live{Object: objectID(d.id), Health: string(status.NotFoundStatus)}
		default:
			out[i] = f.tell(d.live)
		}
		out[i].Kept = known[d.id].kept
		if known[d.id].blockedOf > 0 && (d.live != nil || d.err != nil) {
			out[i].PruneBlocked = deploy.BlockedByLimit
		}
	}
	return out, nil
}

// makers are the built-in kinds whose controllers make further objects. Custom kinds may make any.
var makers = map[schema.GroupKind]bool{
	{Group: "apps", Kind: "Deployment"}: true, {Group: "apps", Kind: "StatefulSet"}: true, {Group: "apps", Kind: "DaemonSet"}: true,
	{Group: "apps", Kind: "ReplicaSet"}: true, {Group: "batch", Kind: "CronJob"}: true, {Group: "batch", Kind: "Job"}: true, {Kind: "ReplicationController"}: true,
}

// made are the kinds that are looked through for what controllers made, owners before what they own: what people look for when a workload does not come up.
var made = []schema.GroupKind{
	{Group: "apps", Kind: "Deployment"}, {Group: "apps", Kind: "StatefulSet"}, {Group: "apps", Kind: "DaemonSet"}, {Group: "batch", Kind: "CronJob"},
	{Group: "apps", Kind: "ReplicaSet"}, {Group: "batch", Kind: "Job"}, {Kind: "Pod"},
}

// madeByBuiltIn are those of made that built-in kinds make.
const madeByBuiltIn = 3

// family is what controllers made of a target's objects.
type family struct {
	*site
	rules *healthRules
	// namespaces that have owners, with from where in made they are looked through.
	namespaces map[string]int
	owners     map[types.UID]bool
	children   map[types.UID][]*unstructured.Unstructured
	// unlisted says why a namespace could not be looked through.
	unlisted map[string]error
}

// add notes an object that may own others.
func (f *family) add(u *unstructured.Unstructured) {
	if u == nil || u.GetNamespace() == "" {
		return
	}
	gk := u.GroupVersionKind().GroupKind()
	from := 0
	switch {
	case makers[gk]:
		from = len(made) - madeByBuiltIn
	case gk.Group == "" || !strings.Contains(gk.Group, ".") || strings.HasSuffix(gk.Group, ".k8s.io"):
		return // a built-in kind that makes nothing
	}
	if f.namespaces == nil {
		f.namespaces, f.owners = map[string]int{}, map[types.UID]bool{}
	}
	if old, ok := f.namespaces[u.GetNamespace()]; ok {
		from = min(from, old)
	}
	f.namespaces[u.GetNamespace()] = from
	f.owners[u.GetUID()] = true
}

// search lists, in the namespaces that have owners, what may be owned: one kind after the other, because what is found may own what comes later.
func (f *family) search(ctx context.Context) error {
	for _, namespace := range slices.Sorted(maps.Keys(f.namespaces)) {
		for _, gk := range made[f.namespaces[namespace]:] {
			if err := f.list(ctx, namespace, gk); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				f.unlisted[namespace] = err
				break
			}
		}
	}
	return nil
}

func (f *family) list(ctx context.Context, namespace string, gk schema.GroupKind) error {
	mapping, err := f.clients.Mapper.RESTMapping(gk)
	if meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return err
	}
	const page = 200 // objects; a Pod has about 10 KB
	opts := metav1.ListOptions{Limit: page}
	for {
		list, err := f.clients.Dynamic.Resource(mapping.Resource).Namespace(namespace).List(ctx, opts)
		if err != nil {
			return fmt.Errorf("list %s: %w", mapping.Resource.Resource, err)
		}
		for i := range list.Items {
			f.take(&list.Items[i])
		}
		if opts.Continue = list.GetContinue(); opts.Continue == "" {
			return nil
		}
	}
}

// take notes an object that one of the owners made.
func (f *family) take(u *unstructured.Unstructured) {
	if u.GetKind() == "ReplicaSet" {
		if n, found, _ := unstructured.NestedInt64(u.Object, "spec", "replicas"); found && n == 0 && len(u.GetOwnerReferences()) > 0 {
			return // an old one, kept for going back
		}
	}
	for _, o := range u.GetOwnerReferences() {
		if f.owners[o.UID] {
			f.children[o.UID] = append(f.children[o.UID], u)
			f.owners[u.GetUID()] = true
			return
		}
	}
}

// tell describes an object with its descendants.
func (f *family) tell(u *unstructured.Unstructured) deploy.Live {
	h := f.rules.of(u)
	l := deploy.Live{Object: deploy.IDOf(u), Health: string(h.status), Message: h.message, Created: u.GetCreationTimestamp().Time}
	if u.GetDeletionTimestamp() != nil {
		l.Health = string(status.TerminatingStatus)
		l.Finalizers = holders(u)
		l.Message = beingDeleted + " since " + u.GetDeletionTimestamp().UTC().Format(time.RFC3339) // by whom it is held, the finalizers say
	}
	if err := f.unlisted[u.GetNamespace()]; err != nil && f.owners[u.GetUID()] {
		l.Message = strings.TrimPrefix(l.Message+"; what it made is unknown: "+err.Error(), "; ")
	}
	for _, child := range f.children[u.GetUID()] {
		l.Children = append(l.Children, f.tell(child))
	}
	slices.SortFunc(l.Children, func(a, b deploy.Live) int {
		return cmp.Or(strings.Compare(a.Object.Kind, b.Object.Kind), strings.Compare(a.Object.Name, b.Object.Name))
	})
	return l
}
