package applier

import (
	"context"
	"encoding/json"
	"slices"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"sigs.k8s.io/cli-utils/pkg/inventory"

	"github.com/towline/towline/internal/deploy"
)

// A list of maps is merged by its keys. Whoever edits the key of an entry that we applied (a Service's port, say) makes it another entry, which is theirs; our
// apply then adds ours beside it, and the server may refuse the two together. Server-side apply removes only what the applier owns, so such entries are made ours
// first: the next apply, which does not have them, removes them.

// takeover is what was moved of one object.
type takeover struct {
	fields        metadata.ResourceInterface
	name          string
	before, after []metav1.ManagedFieldsEntry
}

// takeOver makes entries ours that stand in the way of an apply which the server refused as invalid. It returns nil where there are none, or where the object
// is not the one of that uid with our marks: the refusal is the answer then.
func (r *run) takeOver(ctx context.Context, u *unstructured.Unstructured, uid string, refusal error) *takeover {
	gvk := u.GroupVersionKind()
	mapping, err := r.clients.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil
	}
	t := &takeover{fields: r.engine.clients.Metadata.Resource(mapping.Resource).Namespace(u.GetNamespace()), name: u.GetName()}
	var entries []string
	err = r.reown(ctx, t, func(m *metav1.PartialObjectMetadata) (after []metav1.ManagedFieldsEntry, err error) {
		marks := &unstructured.Unstructured{Object: map[string]any{}}
		marks.SetAnnotations(m.Annotations)
		if string(m.UID) == uid && inventory.IDMatch(r.info, marks) == inventory.Match {
			t.before = m.ManagedFields
			after, entries, err = disown(m.ManagedFields, u, blamed(refusal))
		}
		return after, err
	})
	log := r.engine.log.With(zap.Stringer("target", r.target.Name), zap.Stringer("object", deploy.IDOf(u)), zap.Strings("entries", shownFields(u, entries)))
	if err != nil {
		log.Warn("foreign list entries could not be taken over", zap.Error(explain(u, err)))
		return nil
	}
	if t.after == nil {
		return nil
	}
	log.Info("foreign list entries taken over")
	return t
}

// giveBack undoes a takeover that did not help. Where anything but a status was written since, an apply of ours perhaps, ownership is left as it is.
func (r *run) giveBack(ctx context.Context, u *unstructured.Unstructured, t *takeover) {
	ctx, cancel := detached(ctx)
	defer cancel()
	isStatus := func(m metav1.ManagedFieldsEntry) bool { return m.Subresource != "" }
	isMain := func(m metav1.ManagedFieldsEntry) bool { return m.Subresource == "" }
	left := slices.DeleteFunc(slices.Clone(t.after), isStatus)
	err := r.reown(ctx, t, func(m *metav1.PartialObjectMetadata) ([]metav1.ManagedFieldsEntry, error) {
		if !equality.Semantic.DeepEqual(slices.DeleteFunc(slices.Clone(m.ManagedFields), isStatus), left) {
			return nil, nil
		}
		return slices.Concat(slices.DeleteFunc(slices.Clone(t.before), isStatus), slices.DeleteFunc(slices.Clone(m.ManagedFields), isMain)), nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		r.engine.log.Warn("foreign list entries could not be given back", zap.Stringer("target", r.target.Name), zap.Stringer("object", deploy.IDOf(u)), zap.Error(explain(u, err)))
	}
}

// reown changes who owns which fields; nil leaves it. What is written in between, a status most likely, makes it decide anew.
func (r *run) reown(ctx context.Context, t *takeover, decide func(*metav1.PartialObjectMetadata) ([]metav1.ManagedFieldsEntry, error)) error {
	return retryPausing(ctx, r.engine.pause, transient, func() error {
		m, err := t.fields.Get(ctx, t.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		entries, err := decide(m)
		if err != nil || entries == nil {
			return err
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": m.ResourceVersion, "managedFields": entries}})
		if err != nil {
			return err
		}
		if m, err = t.fields.Patch(ctx, t.name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: deploy.FieldManager}); err == nil {
			t.after = m.ManagedFields
		}
		return err
	})
}
