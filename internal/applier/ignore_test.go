package applier_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

func TestIgnoredFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := *w.target.Kustomization
	spec.Ignore = []deploy.IgnoreRule{
		{Paths: []string{"/spec/replicas"}, Target: &deploy.Selector{Kind: "Deployment", Name: "web.*"}},
		{Paths: []string{"/spec/template/spec/containers/0/image"}, Target: &deploy.Selector{Kind: "Deployment"}},
		{Paths: []string{"/data/x"}},
	}
	w.target.Kustomization = &spec
	deployments := w.kube.Kubernetes.AppsV1().Deployments(w.ns)
	web := func(replicas, annotations string) string {
		return strings.Replace(w.deployment("web", annotations), "spec:\n", "spec:\n  replicas: "+replicas+"\n", 1)
	}
	replicas := func(t *testing.T) int32 {
		t.Helper()
		return *must(deployments.Get(t.Context(), "web", metav1.GetOptions{}))(t).Spec.Replicas
	}
	w.step(t, "are set at creation", func(t *testing.T) {
		w.text = web("0", "") + w.configMap("a", "1")
		w.converge(false)
		wantEqual(t, "replicas", replicas(t), int32(0))
	})
	w.step(t, "are not sent when the artifact changes them", func(t *testing.T) {
		w.text = web("3", "") + w.configMap("a", "1")
		wantEqual(t, "changes", w.converge(false), []string(nil))
		wantEqual(t, "replicas", replicas(t), int32(0))
	})
	w.step(t, "stay as they are when something else is applied and they are ours alone", func(t *testing.T) {
		w.text = web("3", "v: a") + w.configMap("a", "1")
		wantEqual(t, "changes", w.converge(false), []string{"apply Deployment.apps/NS/web"})
		wantEqual(t, "replicas", replicas(t), int32(0))
		wantEqual(t, "image", must(deployments.Get(t.Context(), "web", metav1.GetOptions{}))(t).Spec.Template.Spec.Containers[0].Image, "example.org/x:1")
	})
	w.step(t, "may be taken by somebody else, which is no drift", func(t *testing.T) {
		scale := []byte(`{"spec":{"replicas":2}}`)
		must(deployments.Patch(t.Context(), "web", types.MergePatchType, scale, metav1.PatchOptions{FieldManager: "autoscaler"}, "scale"))(t)
		wantEqual(t, "changes", w.converge(true), []string(nil))
		w.text = web("3", "v: b") + w.configMap("a", "1")
		w.converge(false)
		wantEqual(t, "replicas", replicas(t), int32(2))
		wantEqual(t, "changes", w.converge(true), []string(nil))
	})
	w.step(t, "may be edited with kubectl", func(t *testing.T) {
		edit := `[{"op":"replace","path":"/spec/replicas","value":1},{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"example.org/x:9"}]`
		must(deployments.Patch(t.Context(), "web", types.JSONPatchType, []byte(edit), metav1.PatchOptions{FieldManager: "kubectl-edit"}))(t)
		wantEqual(t, "changes", w.converge(true), []string(nil))
		w.text = web("3", "v: c") + w.configMap("a", "1")
		w.converge(false)
		wantEqual(t, "replicas", replicas(t), int32(1))
		wantEqual(t, "image", must(deployments.Get(t.Context(), "web", metav1.GetOptions{}))(t).Spec.Template.Spec.Containers[0].Image, "example.org/x:9")
		wantEqual(t, "changes", w.converge(true), []string(nil))
	})
	w.step(t, "a drift beside them is repaired without them", func(t *testing.T) {
		must(deployments.Patch(t.Context(), "web", types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/template/metadata/annotations/v","value":"z"}]`), metav1.PatchOptions{FieldManager: "x"}))(t)
		wantEqual(t, "changes", w.converge(true), []string{"apply Deployment.apps/NS/web"})
		wantEqual(t, "replicas", replicas(t), int32(1))
		wantEqual(t, "changes", w.converge(true), []string(nil))
	})
	w.step(t, "a path that is none is said", func(t *testing.T) {
		spec := spec
		spec.Ignore = []deploy.IgnoreRule{{Paths: []string{"spec.replicas"}}}
		w.target.Kustomization, w.target.Hash = &spec, "spec-2"
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonBuildFailed, false, `ignore[0]: path "spec.replicas": want a JSON pointer`)
	})
}
