package applier_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestApply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	inv := "/api/v1/namespaces/" + w.ns + "/configmaps"
	a, b := inv+"/a", inv+"/b"

	w.step(t, "creates with one write before and one after the objects", func(t *testing.T) {
		w.text = w.configMap("a", "1") + w.configMap("b", "1")
		got := w.counted(func() {
			wantEqual(t, "changes", w.converge(false), []string{"create ConfigMap/NS/a", "create ConfigMap/NS/b"})
		})
		wantEqual(t, "first, before and after", []string{got[0], got[1], got[len(got)-1]}, []string{
			"GET " + inv, "POST " + inv, "PUT " + inv + "/towline-inventory.kustomization.apps.web"})
		wantEqual(t, "requests", len(got), 5)
		wantEqual(t, "value", w.value("a"), "1")
	})
	w.step(t, "an unchanged target costs no request", func(t *testing.T) {
		wantEqual(t, "requests", w.counted(func() { wantEqual(t, "changes", w.converge(false), []string(nil)) }), []string(nil))
	})
	w.step(t, "an unchanged target costs one read after a restart", func(t *testing.T) {
		w.restart()
		wantEqual(t, "requests", w.counted(func() { wantEqual(t, "changes", w.converge(false), []string(nil)) }), []string{"GET " + inv})
	})
	w.step(t, "a full run of an unchanged target only reads", func(t *testing.T) {
		got := w.counted(func() { wantEqual(t, "changes", w.converge(true), []string(nil)) })
		wantEqual(t, "requests", len(got), 2)
		for _, r := range got {
			wantEqual(t, "method", strings.HasPrefix(r, "GET "), true)
		}
	})
	w.step(t, "only what changed is sent", func(t *testing.T) {
		w.text = w.configMap("a", "1") + w.configMap("b", "2")
		got := w.counted(func() { wantEqual(t, "changes", w.converge(false), []string{"apply ConfigMap/NS/b"}) })
		wantEqual(t, "requests", len(got), 4)
		wantEqual(t, "the look at its marks", got[0], "GET "+b)
		wantEqual(t, "the apply", got[2], "PATCH "+b)
		wantEqual(t, "value", w.value("b"), "2")
	})
	w.step(t, "a full run repairs what drifted and what is missing", func(t *testing.T) {
		cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
		must(cms.Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"v":"edited","more":"x"}}`), metav1.PatchOptions{FieldManager: "somebody"}))(t)
		if err := cms.Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "changes", w.converge(true), []string{"apply ConfigMap/NS/a", "create ConfigMap/NS/b"})
		wantEqual(t, "values", w.value("a")+w.value("b"), "12")
		wantEqual(t, "changes", w.converge(true), []string(nil))
	})
	w.step(t, "what the artifact drops is pruned after the rest is applied", func(t *testing.T) {
		w.text = w.configMap("a", "3")
		got := w.counted(func() {
			wantEqual(t, "changes", w.converge(false), []string{"apply ConfigMap/NS/a", "prune ConfigMap/NS/b"})
		})
		wantEqual(t, "writes in order", writes(got), []string{"PUT " + inv + "/towline-inventory.kustomization.apps.web", "PATCH " + a, "DELETE " + b,
			"PUT " + inv + "/towline-inventory.kustomization.apps.web"})
		wantEqual(t, "value", w.value("b"), "")
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
	})
}

func writes(requests []string) []string {
	var out []string
	for _, r := range requests {
		if !strings.HasPrefix(r, "GET ") {
			out = append(out, r)
		}
	}
	return out
}

func TestFullRunOfMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 10 {
		w.text += w.configMap(fmt.Sprintf("c%d", i), "1")
	}
	w.converge(false)
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	w.step(t, "reads all objects of a kind and namespace at once", func(t *testing.T) {
		got := w.counted(func() { wantEqual(t, "changes", w.converge(true), []string(nil)) })
		wantEqual(t, "requests", got, []string{"GET /api/v1/namespaces/" + w.ns + "/configmaps"})
	})
	w.step(t, "sees what was edited, deleted, or lost our label; foreign additions are none of ours", func(t *testing.T) {
		for name, patch := range map[string]string{
			"c1": `{"data":{"v":"edited"}}`,
			"c2": `{"metadata":{"labels":{"towline.dev/target":null}}}`,
			"c3": `{"data":{"foreign":"x"},"metadata":{"annotations":{"a":"b"}}}`,
		} {
			must(cms.Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "somebody"}))(t)
		}
		if err := cms.Delete(t.Context(), "c4", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "changes", w.converge(true), []string{"apply ConfigMap/NS/c1", "create ConfigMap/NS/c2", "create ConfigMap/NS/c4"})
		wantEqual(t, "changes", w.converge(true), []string(nil))
		wantEqual(t, "values", w.value("c1")+w.value("c2")+w.value("c3")+w.value("c4"), "1111")
	})
}
