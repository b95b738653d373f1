package applier

import (
	"context"
	"maps"
	"slices"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cli-utils/pkg/inventory"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// usualKinds are looked through for objects of a target whose inventory was lost, beside the kinds that it renders now: what it may have dropped meanwhile is
// almost always of one of these.
var usualKinds = []schema.GroupKind{
	{Kind: "ConfigMap"}, {Kind: "Secret"}, {Kind: "Service"}, {Kind: "ServiceAccount"}, {Kind: "PersistentVolumeClaim"}, {Kind: "Namespace"},
	{Group: "apps", Kind: "Deployment"}, {Group: "apps", Kind: "StatefulSet"}, {Group: "apps", Kind: "DaemonSet"},
	{Group: "batch", Kind: "Job"}, {Group: "batch", Kind: "CronJob"},
	{Group: "networking.k8s.io", Kind: "Ingress"}, {Group: "networking.k8s.io", Kind: "NetworkPolicy"},
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}, {Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"},
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}, {Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"},
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}, {Group: "policy", Kind: "PodDisruptionBudget"},
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"},
}

// recall finds objects that bear the marks of a target whose inventory does not know one that bore them too: somebody deleted or cut the inventory. They go
// into the new one, so that the next run prunes what is not wanted any more. Kinds that cannot be listed are left out and logged.
func (r *run) recall(ctx context.Context) error {
	lost := false
	for _, res := range r.results {
		lost = lost || res.reclaimed
	}
	if !lost {
		return nil
	}
	r.engine.log.Warn("inventory was lost and is rebuilt from labels", zap.Stringer("target", r.target.Name))
	ids, err := r.engine.marked(ctx, r.info, r.note.render)
	for _, id := range ids {
		if _, rendered := r.note.render.hashes[id]; !rendered {
			r.recalled = append(r.recalled, id)
		}
	}
	return err
}

// marked finds the objects of the usual and the rendered kinds that say that they are of an inventory.
func (e *site) marked(ctx context.Context, i info, rendered *rendered) ([]object.ObjMetadata, error) {
	kinds := map[schema.GroupKind]bool{}
	for _, gk := range usualKinds {
		kinds[gk] = true
	}
	for id := range rendered.hashes {
		kinds[id.GroupKind] = true
	}
	order := slices.Collect(maps.Keys(kinds))
	found := make([][]object.ObjMetadata, len(order))
	err := e.each(ctx, len(order), func(n int) { found[n] = e.markedOf(ctx, i, order[n]) })
	return slices.Concat(found...), err
}

// markedOf lists the objects of a kind, in all namespaces, that say that they are of an inventory.
func (e *site) markedOf(ctx context.Context, of info, gk schema.GroupKind) []object.ObjMetadata {
	mapping, err := e.clients.Mapper.RESTMapping(gk)
	if err != nil {
		return nil
	}
	list, err := e.clients.Metadata.Resource(mapping.Resource).List(ctx, metav1.ListOptions{LabelSelector: deploy.LabelTarget + "=" + of.label()})
	if err != nil {
		e.log.Warn("kind left out of the rebuilt inventory", zap.Stringer("kind", gk), zap.Error(err))
		return nil
	}
	var ids []object.ObjMetadata
	for i := range list.Items {
		if m := &list.Items[i]; m.Annotations[inventory.OwningInventoryKey] == of.id {
			ids = append(ids, object.ObjMetadata{GroupKind: gk, Namespace: m.Namespace, Name: m.Name})
		}
	}
	return ids
}
