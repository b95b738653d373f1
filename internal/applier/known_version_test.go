package applier_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

// TestMarksOfKnownVersions has marks that only the cluster has, on objects whose version the agent still knows: it must not send anything without having seen them.
func TestMarksOfKnownVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := *w.target.Kustomization
	spec.Ignore = []deploy.IgnoreRule{{Paths: []string{"/data/left"}}}
	w.target.Kustomization = &spec
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	left := func(name, value string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: " + w.ns + "}\ndata: {left: x, v: \"" + value + "\"}\n---\n"
	}
	w.text = left("ignored", "1") + w.configMap("merged", "1") + w.configMap("paused", "1")
	w.converge(false)
	w.step(t, "reconcile: disabled holds beside a field that is left to others", func(t *testing.T) {
		w.mark(t, "ignored", `"annotations":{"towline.dev/reconcile":"disabled"}`)
		w.mark(t, "paused", `"annotations":{"towline.dev/reconcile":"disabled"}`)
		w.text = left("ignored", "2") + w.configMap("merged", "1") + w.configMap("paused", "2")
		wantEqual(t, "changes", w.converge(false), []string{"skip ConfigMap/NS/ignored", "skip ConfigMap/NS/paused"})
		wantEqual(t, "values", w.value("ignored")+w.value("paused"), "11")
	})
	w.step(t, "ssa: Merge holds at every later apply, not only at the first that sees it", func(t *testing.T) {
		edit := `{"metadata":{"annotations":{"towline.dev/ssa":"Merge"}},"data":{"mine":"x"}}`
		must(cms.Patch(t.Context(), "merged", types.MergePatchType, []byte(edit), metav1.PatchOptions{FieldManager: "kubectl-edit"}))(t)
		for _, v := range []string{"2", "3", "4"} {
			w.text = w.configMap("merged", v)
			w.converge(false)
			wantEqual(t, "what kubectl set after value "+v, must(cms.Get(t.Context(), "merged", metav1.GetOptions{}))(t).Data, map[string]string{"v": v, "mine": "x"})
		}
	})
	w.step(t, "an owner that came since is seen", func(t *testing.T) {
		w.text = left("ignored", "1")
		spec.Prune = false
		w.converge(false)
		w.text = left("ignored2", "1")
		w.converge(false)
		must(cms.Patch(t.Context(), "ignored2", types.MergePatchType, []byte(`{"metadata":{"annotations":{"config.k8s.io/owning-inventory":"theirs"}}}`), metav1.PatchOptions{}))(t)
		w.text = left("ignored2", "2")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, "it belongs to ")
		wantEqual(t, "value", w.value("ignored2"), "1")
	})
}
