package applier_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

// TestDeviates asks of objects as the API server shows them, after each thing that may happen to them.
func TestDeviates(t *testing.T) {
	w := newWorld(t)
	maps, deployments := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	w.text = w.configMap("a", "1") + w.deployment("web", "") + w.configMap("dropped", "1")
	holds := func() deploy.ObjectKinds {
		_, kinds := w.engine.Holds(w.target)
		return kinds
	}
	wantEqual(t, "what is held before anything was applied", holds(), deploy.ObjectKinds{})
	w.converge(false)
	w.text = w.configMap("a", "1") + w.deployment("web", "")
	w.converge(false)
	wantEqual(t, "what is held", holds(), deploy.ObjectKinds{{Kind: "ConfigMap"}: {w.ns}, {Group: "apps", Kind: "Deployment"}: {w.ns}})

	live := func(r schema.GroupVersionResource, name string) *metav1.PartialObjectMetadata {
		t.Helper()
		return must(w.kube.Metadata.Resource(r).Namespace(w.ns).Get(t.Context(), name, metav1.GetOptions{}))(t)
	}
	id := func(r schema.GroupVersionResource, name string) deploy.ObjectID {
		kind := "ConfigMap"
		if r == deployments {
			kind = "Deployment"
		}
		return deploy.ObjectID{Group: r.Group, Kind: kind, Namespace: w.ns, Name: name}
	}
	deviates := func(r schema.GroupVersionResource, name string) bool {
		t.Helper()
		m := live(r, name)
		return w.engine.Deviates(w.target, id(r, name), m.UID, m)
	}
	patch := func(r schema.GroupVersionResource, name, manager, body string, subresource ...string) {
		t.Helper()
		_, err := w.kube.Dynamic.Resource(r).Namespace(w.ns).Patch(t.Context(), name, types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: manager}, subresource...)
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: deviates %t, want %t", what, got, want)
		}
	}

	requests := w.counted(func() {
		is("as it was applied", deviates(maps, "a"), false)
		is("a Deployment whose controller has written to it", deviates(deployments, "web"), false)
	})
	wantEqual(t, "requests", requests, []string(nil))
	patch(maps, "a", "somebody", `{"data":{"more":"1"},"metadata":{"labels":{"more":"1"}}}`)
	is("more than what we set", deviates(maps, "a"), false)
	patch(maps, "a", "kubectl-edit", `{"data":{"hand":"1"}}`)
	is("more, set with kubectl", deviates(maps, "a"), true)
	w.converge(true)
	is("put right", deviates(maps, "a"), false)
	patch(maps, "a", "somebody", `{"data":{"v":"2"}}`)
	is("a value of ours that somebody changed", deviates(maps, "a"), true)
	w.converge(true)
	patch(maps, "a", "somebody", `{"metadata":{"labels":{"towline.dev/target":null}}}`)
	is("our label that somebody removed", deviates(maps, "a"), true)
	w.converge(true)
	patch(deployments, "web", "somebody", `{"spec":{"replicas":2}}`)
	is("a field that we do not set", deviates(deployments, "web"), false)

	w.target.Kustomization.Ignore = []deploy.IgnoreRule{{Paths: []string{"/data/v"}, Target: &deploy.Selector{Kind: "ConfigMap"}}}
	w.target.Hash = "spec-2"
	w.converge(false)
	patch(maps, "a", "somebody", `{"data":{"v":"3"}}`)
	is("a value that is left to others", deviates(maps, "a"), false)
	patch(maps, "a", "kubectl-edit", `{"data":{"v":"4"}}`)
	is("the same, set with kubectl", deviates(maps, "a"), false)
	patch(maps, "a", "somebody", `{"metadata":{"labels":{"towline.dev/target":"x"}}}`)
	is("our label beside a value that is left to others", deviates(maps, "a"), true)
	w.target.Kustomization.Ignore, w.target.Hash = nil, "spec-3"
	w.converge(true)
	is("a value that is left to nobody any more, put right", deviates(maps, "a"), false)

	before := live(maps, "a").UID
	is("gone", w.engine.Deviates(w.target, id(maps, "a"), before, nil), true)
	is("gone, one of the name that never was ours", w.engine.Deviates(w.target, id(maps, "a"), "other", nil), false)
	is("gone, as it was dropped", w.engine.Deviates(w.target, id(maps, "dropped"), "any", nil), false)
	if err := w.kube.Metadata.Resource(maps).Namespace(w.ns).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	body := w.configMap("a", "1")
	if _, err := w.kube.Dynamic.Resource(maps).Namespace(w.ns).Create(t.Context(), must(parse(body))(t)[0], metav1.CreateOptions{FieldManager: "somebody"}); err != nil {
		t.Fatal(err)
	}
	is("another one of the same name", deviates(maps, "a"), true)
}
