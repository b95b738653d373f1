package applier

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMeddlers(t *testing.T) {
	t.Parallel()
	rendered := map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"a": "b"}, "finalizers": []any{"x"}},
		"spec": map[string]any{
			"replicas": int64(1), "paused": true,
			"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "web", "image": "i"}}}},
		},
	}
	entry := func(manager string, op metav1.ManagedFieldsOperationType, sub, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: op, Subresource: sub, APIVersion: "apps/v1", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}
	}
	update := func(manager, fields string) metav1.ManagedFieldsEntry {
		return entry(manager, metav1.ManagedFieldsOperationUpdate, "", fields)
	}
	ours := entry("towline", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:paused":{}}}`)
	for _, c := range []struct {
		name    string
		managed []metav1.ManagedFieldsEntry
		want    string
	}{
		{"nobody", []metav1.ManagedFieldsEntry{ours}, reasonDrifted},
		{"a field that was ours", []metav1.ManagedFieldsEntry{ours, update("kubectl-edit", `{"f:spec":{"f:replicas":{}}}`)}, `by "kubectl-edit"`},
		{"through a subresource", []metav1.ManagedFieldsEntry{ours, entry("kubectl", "Update", "scale", `{"f:spec":{"f:replicas":{}}}`)}, `by "kubectl"`},
		{"an entry of a list", []metav1.ManagedFieldsEntry{
			ours, update("e", `{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{"f:image":{}}}}}}}`),
		}, `by "e"`},
		{"a member of a set", []metav1.ManagedFieldsEntry{ours, update("e", `{"f:metadata":{"f:finalizers":{"v:\"x\"":{}}}}`)}, `by "e"`},
		{"fields that are not rendered", []metav1.ManagedFieldsEntry{
			ours, update("e", `{"f:spec":{"f:minReadySeconds":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"other\"}":{"f:image":{}}}}}}}`),
		}, reasonDrifted},
		{"the status", []metav1.ManagedFieldsEntry{ours, entry("controller", "Update", "status", `{"f:spec":{"f:replicas":{}}}`)}, reasonDrifted},
		{"a field that is ours too", []metav1.ManagedFieldsEntry{ours, update("e", `{"f:spec":{"f:paused":{}}}`)}, reasonDrifted},
		{"many, one of them twice", []metav1.ManagedFieldsEntry{
			update("d", `{"f:spec":{"f:replicas":{}}}`), update("c", `{"f:spec":{"f:replicas":{}}}`), update("c", `{"f:spec":{"f:paused":{}}}`),
			update("b", `{"f:spec":{"f:replicas":{}}}`), update("a", `{"f:spec":{"f:replicas":{}}}`),
		}, `by "d", "c", "b" and 1 more`},
		{"fields that cannot be decoded", []metav1.ManagedFieldsEntry{ours, update("e", `{"f:spec":`)}, reasonDrifted},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(c.want, driftedBy(meddlers(c.managed, rendered))); d != "" {
				t.Error(d)
			}
		})
	}
}
