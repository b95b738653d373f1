package applier

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// reasonAiling stands at an object to which nothing is sent and whose health is waited for.
const reasonAiling = "not healthy"

// checksOf are the objects that healthChecks name.
func checksOf(spec *deploy.KustomizationSpec) []object.ObjMetadata {
	var ids []object.ObjMetadata
	for _, c := range spec.HealthChecks {
		gk := schema.FromAPIVersionAndKind(c.APIVersion, c.Kind).GroupKind()
		ids = append(ids, object.ObjMetadata{GroupKind: gk, Namespace: c.Namespace, Name: c.Name})
	}
	slices.SortFunc(ids, compareIDs)
	return slices.Compact(ids)
}

// minded reports whether a target's health is part of its being Ready.
func minded(t deploy.Target) bool {
	return t.Kustomization.Wait || len(t.Kustomization.HealthChecks) > 0
}

// lookAfter finds the objects that are as wanted but not healthy: those that healthChecks name, and in a full run of a target that waits, all that are not sent anyway.
func (e *site) lookAfter(ctx context.Context, n *note, known entries) ([]deploy.Change, error) {
	if !minded(n.work.Target) {
		return nil, nil
	}
	rules, err := e.rulesOf(n.work.Target)
	if err != nil {
		return nil, err
	}
	named := map[object.ObjMetadata]bool{}
	for _, id := range checksOf(n.work.Target.Kustomization) {
		if _, sent := n.apply[id]; !sent {
			named[id] = true
		}
	}
	var own []object.ObjMetadata
	if n.work.Full && n.work.Target.Kustomization.Wait {
		for id, hash := range n.render.hashes {
			if _, sent := n.apply[id]; !sent && known[id].rendered == hash {
				own = append(own, id)
				delete(named, id)
			}
		}
	}
	seen, err := e.healths(ctx, n.work.Target.Name, rules, own, slices.Collect(maps.Keys(named)))
	if err != nil {
		return nil, err
	}
	n.ailing, n.looked = map[object.ObjMetadata]sighting{}, true
	var changes []deploy.Change
	for _, id := range slices.SortedFunc(maps.Keys(seen), compareIDs) {
		s := seen[id]
		if s.status == status.CurrentStatus {
			continue
		}
		n.ailing[id] = s
		changes = append(changes, deploy.Change{Action: deploy.ActionWait, Object: objectID(id), Reason: reasonAiling + ": " + s.String()})
	}
	return changes, nil
}

// healths reads objects whole and computes how they are: our own by LISTs where there are many of a kind and namespace, the others one by one. What cannot be read counts
// as in progress.
func (e *site) healths(ctx context.Context, n deploy.Name, rules *healthRules, own, others []object.ObjMetadata) (map[object.ObjMetadata]sighting, error) {
	groups := map[kindNamespace][]object.ObjMetadata{}
	for _, id := range own {
		g := kindNamespace{id.GroupKind, id.Namespace}
		groups[g] = append(groups[g], id)
	}
	var reads []func() []sighting
	for g, ids := range groups {
		if len(ids) >= listFrom {
			reads = append(reads, func() []sighting { return e.healthsOf(ctx, n, rules, g, ids) })
			continue
		}
		others = append(others, ids...)
	}
	for _, id := range others {
		reads = append(reads, func() []sighting { return []sighting{e.healthOne(ctx, rules, id)} })
	}
	var mu sync.Mutex // guards all
	all := make(map[object.ObjMetadata]sighting, len(own)+len(others))
	err := e.each(ctx, len(reads), func(i int) {
		part := reads[i]()
		mu.Lock()
		defer mu.Unlock()
		for _, s := range part {
			all[s.id] = s
		}
	})
	return all, err
}

func unread(id object.ObjMetadata, err error) sighting {
	return sighting{id: id, health: health{status.InProgressStatus, fmt.Sprintf("it cannot be read: %v", err)}}
}

func absent(id object.ObjMetadata) sighting {
	return sighting{id: id, health: health{status.NotFoundStatus, "it does not exist"}}
}

// kindless is an object of a kind that the server does not have, so that the object is not there either.
func kindless(id object.ObjMetadata) sighting {
	return sighting{id: id, health: health{status.NotFoundStatus, fmt.Sprintf("the cluster has no kind %s", id.GroupKind)}}
}

// mapping finds the kind in a version that the rules can judge. It is NoMatch only for a kind that the server has in no version.
func (e *site) mapping(rules *healthRules, gk schema.GroupKind) (*meta.RESTMapping, error) {
	versions := rules.versions(gk)
	mapping, err := e.clients.Mapper.RESTMapping(gk, versions...)
	if len(versions) == 0 || !meta.IsNoMatchError(err) {
		return mapping, err
	}
	if _, other := e.clients.Mapper.RESTMapping(gk); other != nil {
		return nil, other
	}
	return nil, fmt.Errorf("its healthCheckExprs are for version %s, which the cluster does not serve", strings.Join(versions, ", "))
}

func (e *site) healthOne(ctx context.Context, rules *healthRules, id object.ObjMetadata) sighting {
	mapping, err := e.mapping(rules, id.GroupKind)
	if meta.IsNoMatchError(err) {
		return kindless(id)
	}
	if err != nil {
		return unread(id, err)
	}
	u, err := e.clients.Dynamic.Resource(mapping.Resource).Namespace(id.Namespace).Get(ctx, id.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return absent(id)
	}
	if err != nil {
		return unread(id, err)
	}
	return rules.sight(u)
}

// healthsOf lists the target's objects of one kind and namespace; only their health is kept of them.
func (e *site) healthsOf(ctx context.Context, n deploy.Name, rules *healthRules, g kindNamespace, ids []object.ObjMetadata) []sighting {
	left := make(map[object.ObjMetadata]bool, len(ids))
	for _, id := range ids {
		left[id] = true
	}
	var out []sighting
	rest := func(say func(object.ObjMetadata) sighting) []sighting {
		for id := range left {
			out = append(out, say(id))
		}
		return out
	}
	mapping, err := e.mapping(rules, g.GroupKind)
	if meta.IsNoMatchError(err) {
		return rest(kindless)
	}
	const page = 100 // objects; whole ones, so that a page stays below a few MB
	opts := metav1.ListOptions{LabelSelector: deploy.LabelTarget + "=" + n.LabelValue(), Limit: page}
	for err == nil {
		list, failed := e.clients.Dynamic.Resource(mapping.Resource).Namespace(g.namespace).List(ctx, opts)
		if err = failed; err != nil {
			break
		}
		for i := range list.Items {
			if s := rules.sight(&list.Items[i]); left[s.id] {
				delete(left, s.id)
				out = append(out, s)
			}
		}
		if opts.Continue = list.GetContinue(); opts.Continue == "" {
			return rest(absent)
		}
	}
	return rest(func(id object.ObjMetadata) sighting { return unread(id, err) })
}
