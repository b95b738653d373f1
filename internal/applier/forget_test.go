package applier_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

// TestKindThatIsSwitchedOff is about a CRD that stays while none of its versions is served: discovery does not have the kind, but the objects are still stored.
func TestKindThatIsSwitchedOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.ns + ".example.org"
	definition := crd(group, "Widget")
	widgets := schema.GroupVersionResource{Group: group, Version: "v1", Resource: "widgets"}
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	serve := func(served bool) {
		t.Helper()
		patch := fmt.Appendf(nil, `[{"op":"replace","path":"/spec/versions/0/served","value":%v}]`, served)
		must(w.kube.Dynamic.Resource(crds).Patch(t.Context(), "widgets."+group, types.JSONPatchType, patch, metav1.PatchOptions{}))(t)
		testAwait(t, func() error {
			w.kube.Mapper.Reset()
			if _, err := w.kube.Mapper.RESTMapping(schema.GroupKind{Group: group, Kind: "Widget"}); (err == nil) != served {
				return fmt.Errorf("discovery says %w", err)
			}
			return nil
		})
	}
	w.text = w.configMap("a", "1") + definition + fmt.Sprintf("apiVersion: %s/v1\nkind: Widget\nmetadata: {name: one, namespace: %s}\n---\n", group, w.ns)
	w.converge(false)
	serve(false)
	w.restart()
	w.text = w.configMap("a", "2") + definition
	_, err := w.run(t.Context(), false)
	wantFailure(t, err, deploy.ReasonPruneFailed, true, "/one: its kind is defined by the CustomResourceDefinition widgets."+group+" but not served now")
	wantEqual(t, "it is in the inventory", strings.Contains(w.inventory(), "/Widget/"), true)
	serve(true)
	testAwait(t, func() error {
		_, err := w.run(t.Context(), false)
		return err
	})
	list := must(w.kube.Dynamic.Resource(widgets).Namespace(w.ns).List(t.Context(), metav1.ListOptions{}))(t)
	wantEqual(t, "widgets left", len(list.Items), 0)
	if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
		t.Fatal(err)
	}
}

func TestArtifactCannotWriteTheAgentsState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1")
	w.converge(false)
	before := w.inventory()
	for _, manifest := range []string{
		w.configMap("towline-inventory.kustomization.apps.web", ""),
		w.configMap("towline-record.kustomization.apps.web", ""),
		strings.Replace(w.configMap("b", "1"), "name: b,", "name: b, labels: {towline.dev/state: inventory},", 1),
	} {
		w.text = w.configMap("a", "1") + strings.Replace(manifest, "data: {", `data: {objects: "", `, 1)
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, true, "it is part of the agent's own state")
	}
	wantEqual(t, "inventory", w.inventory(), before)
}
