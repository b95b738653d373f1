package applier

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/towline/towline/internal/deploy"
)

// What people set by hand with kubectl would stay beside what is applied: server-side apply removes only what the applier owns. So kubectl's fields are made ours, and the
// next apply removes those that the artifact does not have, kubectl's own annotation of the last applied configuration among them. Other managers keep their fields.

// Managers whose fields are taken over: kubectl, kubectl-edit, kubectl-client-side-apply and so on, and the one that the server made of what was there before it
// kept account of managers.
const (
	kubectlPrefix    = "kubectl"
	beforeFirstApply = "before-first-apply"
)

// byHand reports whether an entry says what people set with kubectl. Subresources (kubectl scale) are not among it: they take a field from us and are set back as any other
// drift. Fields in another version of the API have other paths; they stay as they are.
func byHand(m metav1.ManagedFieldsEntry, apiVersion string) bool {
	return m.Subresource == "" && m.APIVersion == apiVersion && m.FieldsV1 != nil && (strings.HasPrefix(m.Manager, kubectlPrefix) || m.Manager == beforeFirstApply)
}

func anyByHand(managed []metav1.ManagedFieldsEntry, apiVersion string) bool {
	return slices.ContainsFunc(managed, func(m metav1.ManagedFieldsEntry) bool { return byHand(m, apiVersion) })
}

// setByHand reports whether there is anything to take over.
func setByHand(managed []metav1.ManagedFieldsEntry, rendered *unstructured.Unstructured, ignored []deploy.Pointer) bool {
	after, err := absorb(managed, rendered, ignored)
	return err == nil && after != nil
}

// absorb moves what was set by hand into the ownership of our apply, but for fields that are left to others. It returns nil where there is nothing to move. Pure; an error
// is a set of fields that cannot be decoded.
func absorb(managed []metav1.ManagedFieldsEntry, rendered *unstructured.Unstructured, ignored []deploy.Pointer) ([]metav1.ManagedFieldsEntry, error) {
	ours := slices.IndexFunc(managed, isOurs)
	if ours < 0 || managed[ours].APIVersion != rendered.GetAPIVersion() || !anyByHand(managed, rendered.GetAPIVersion()) {
		return nil, nil
	}
	sets, err := fieldSets(managed)
	if err != nil {
		return nil, err
	}
	var after []metav1.ManagedFieldsEntry
	all, moved := sets[ours], false
	for i, m := range managed {
		switch {
		case i == ours:
		case byHand(m, rendered.GetAPIVersion()):
			left := fieldpath.NewSet()
			for path := range sets[i].All() {
				if covered(path, ignored, rendered.Object) {
					left.Insert(path.Copy())
				}
			}
			moved = moved || !sets[i].Difference(left).Empty()
			all = all.Union(sets[i].Difference(left))
			if !left.Empty() { // under a name that is not asked about again
				if m, err = withFields(m, left); err != nil {
					return nil, err
				}
				after = append(after, m)
			}
		default:
			after = append(after, m)
		}
	}
	if !moved {
		return nil, nil
	}
	mine, err := withFields(managed[ours], all)
	if err != nil {
		return nil, err
	}
	return append(after, mine), nil
}

func withFields(m metav1.ManagedFieldsEntry, s *fieldpath.Set) (metav1.ManagedFieldsEntry, error) {
	raw, err := s.ToJSON()
	if err != nil {
		return m, fmt.Errorf("fields of %s: %w", m.Manager, err)
	}
	m.FieldsV1 = metav1.NewFieldsV1(string(raw))
	return m, nil
}

// absorb makes what was set by hand on an object ours. It returns nil where there was nothing, or where the object is not that of the uid any more.
func (r *run) absorb(ctx context.Context, u *unstructured.Unstructured, uid types.UID, ignored []deploy.Pointer) (*takeover, error) {
	gvk := u.GroupVersionKind()
	mapping, err := r.clients.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	t := &takeover{fields: r.engine.clients.Metadata.Resource(mapping.Resource).Namespace(u.GetNamespace()), name: u.GetName()}
	err = r.reown(ctx, t, func(m *metav1.PartialObjectMetadata) ([]metav1.ManagedFieldsEntry, error) {
		if m.UID != uid {
			return nil, nil
		}
		t.before = m.ManagedFields
		return absorb(m.ManagedFields, u, ignored)
	})
	if err != nil {
		return nil, fmt.Errorf("take over what was set with kubectl: %w", err)
	}
	if t.after == nil {
		return nil, nil
	}
	r.engine.log.Info("fields set with kubectl taken over", zap.Stringer("target", r.target.Name), zap.Stringer("object", deploy.IDOf(u)))
	return t, nil
}
