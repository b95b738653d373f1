package applier

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/inventory"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// heir is another target of this agent whose inventory has the object as well: it was refused because the object is still ours. When we drop the object it
// inherits it, alive, instead of creating it anew a moment later. Of several, the first by name.
func (s *store) heir(i info, id object.ObjMetadata) (info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first info
	for other, l := range s.ledgers {
		if e, ok := l.entries[id]; ok && !e.kept && other != i.id && l.info.id != "" && l.info.cluster == i.cluster && (first.id == "" || other < first.id) {
			first = l.info
		}
	}
	return first, first.id != ""
}

// dropped reports whether an inventory of this agent, by its id, keeps an object that its target does not render any more: whoever renders it may have it.
func (s *store) dropped(inventoryID, cluster string, id object.ObjMetadata) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.ledgers[inventoryID]
	return l != nil && l.info.cluster == cluster && l.entries[id].kept
}

// handOver makes an object bear the marks of another target instead of ours, if it is still the one that was read.
func (r *run) handOver(ctx context.Context, u *unstructured.Unstructured, heir info) error {
	return r.remark(ctx, u, heir.label(), heir.id)
}

// unmark takes our label and annotation off an object, if it is still the one that was read.
func (r *run) unmark(ctx context.Context, u *unstructured.Unstructured) error {
	return r.remark(ctx, u, nil, nil)
}

// remark sets the marks of ownership; nil takes one off. An object that is gone needs none.
func (r *run) remark(ctx context.Context, u *unstructured.Unstructured, label, owner any) error {
	gvk := u.GroupVersionKind()
	mapping, err := r.clients.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	annotations := map[string]any{inventory.OwningInventoryKey: owner}
	if owner == nil {
		annotations[deploy.AnnotationSecretFields] = nil // who shows the object now does not know of it
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         u.GetUID(),
		"labels":      map[string]any{deploy.LabelTarget: label},
		"annotations": annotations,
	}})
	if err != nil {
		return err
	}
	_, err = r.clients.Dynamic.Resource(mapping.Resource).Namespace(u.GetNamespace()).
		Patch(ctx, u.GetName(), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: deploy.FieldManager})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("change our marks on it: %w", explain(u, err))
	}
	return nil
}

// label is the value of deploy.LabelTarget on the objects of the inventory's target.
func (i info) label() string { return strings.TrimPrefix(i.name, namePrefix) }
