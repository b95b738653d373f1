package applier_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

// diff compares, with every request refused that could write. The differences are written as "action Object fields: error".
func (w *world) diff(t *testing.T) []string {
	t.Helper()
	out := must(w.tryDiff(t))(t)
	return out
}

func (w *world) tryDiff(t *testing.T) ([]string, error) {
	t.Helper()
	w.interfere(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method != http.MethodGet && r.URL.Query().Get("dryRun") != "All" {
			return nil, fmt.Errorf("a diff must not send %s %s", r.Method, r.URL)
		}
		return next.RoundTrip(r)
	})
	defer w.interfere(nil)
	found, err := w.engine.Diff(t.Context(), w.work(false))
	var out []string
	for _, d := range found {
		s := strings.TrimSpace(fmt.Sprintf("%s %s %s", d.Action, d.Object, strings.Join(d.Fields, " ")))
		if d.Err != nil {
			s += ": " + d.Err.Error()
		}
		if d.Before == nil {
			s += " <new>"
		}
		if d.After == nil {
			s += " <gone>"
		}
		out = append(out, strings.ReplaceAll(s, w.ns, "NS"))
	}
	slices.Sort(out)
	return out, err
}

func TestDiff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.step(t, "shows what is new as created, with what the server adds", func(t *testing.T) {
		w.text = w.configMap("a", "1") + w.configMap("b", "1")
		wantEqual(t, "diff", w.diff(t), []string{"create ConfigMap/NS/a <new>", "create ConfigMap/NS/b <new>"})
		if w.value("a") != "" || w.inventory() != "" {
			t.Fatal("it was written")
		}
	})
	w.step(t, "finds nothing where all is applied", func(t *testing.T) {
		w.converge(false)
		wantEqual(t, "diff", w.diff(t), []string(nil))
	})
	w.step(t, "names the paths that change, and what would be pruned", func(t *testing.T) {
		before := w.inventory()
		w.text = w.configMap("a", "2")
		wantEqual(t, "diff", w.diff(t), []string{"prune ConfigMap/NS/b <gone>", "update ConfigMap/NS/a data.v"})
		wantEqual(t, "inventory", w.inventory(), before)
	})
	w.step(t, "does not keep the engine from doing it afterwards", func(t *testing.T) {
		wantEqual(t, "changes", w.converge(false), []string{"apply ConfigMap/NS/a", "prune ConfigMap/NS/b"})
		wantEqual(t, "diff", w.diff(t), []string(nil))
		wantEqual(t, "requests of a settled run", w.counted(func() { w.converge(false) }), []string(nil))
	})
	w.step(t, "finds drift that no attempt has seen", func(t *testing.T) {
		must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"v":"drift"}}`),
			metav1.PatchOptions{FieldManager: "somebody"}))(t)
		wantEqual(t, "diff", w.diff(t), []string{"update ConfigMap/NS/a data.v"})
		if w.value("a") != "drift" {
			t.Fatal("the diff repaired it")
		}
	})
	w.step(t, "shows that what was set with kubectl goes", func(t *testing.T) {
		must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"v":"2","extra":"by hand"},"metadata":{"annotations":{"x.y/z":"1"}}}`),
			metav1.PatchOptions{FieldManager: "kubectl-edit"}))(t)
		wantEqual(t, "diff", w.diff(t), []string{`update ConfigMap/NS/a data.extra metadata.annotations["x.y/z"]`})
		w.converge(true)
		wantEqual(t, "diff after a full run", w.diff(t), []string(nil))
	})
	w.step(t, "an object that the server refuses hurts only itself", func(t *testing.T) {
		w.text = w.configMap("a", "3") + fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: bad, namespace: %s}\nspec: {ports: [{port: 99999}]}\n---\n", w.ns)
		got := w.diff(t)
		if len(got) != 2 || !strings.HasPrefix(got[0], "create Service/NS/bad: ") || !strings.Contains(got[0], "99999") || got[1] != "update ConfigMap/NS/a data.v" {
			t.Fatalf("got %q", got)
		}
	})
	w.step(t, "an immutable field is refused, and with force the object is created anew", func(t *testing.T) {
		w.text = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed, namespace: %s}\nimmutable: true\ndata: {v: '1'}\n---\n", w.ns)
		w.converge(false)
		w.text = strings.Replace(w.text, "'1'", "'2'", 1)
		if got := w.diff(t); len(got) != 1 || !strings.HasPrefix(got[0], "update ConfigMap/NS/fixed: ") {
			t.Fatalf("got %q", got)
		}
		spec := *w.target.Kustomization
		defer func(old *deploy.KustomizationSpec) { w.target.Kustomization = old }(w.target.Kustomization)
		spec.Force = true
		w.target.Kustomization = &spec
		wantEqual(t, "diff", w.diff(t), []string{"recreate ConfigMap/NS/fixed data.v"})
	})
	w.step(t, "an artifact without objects shows that its prune is blocked", func(t *testing.T) {
		w.text = ""
		got := must(w.engine.Diff(t.Context(), w.work(false)))(t)
		if len(got) != 1 || got[0].Action != deploy.ActionKeep || !got[0].Blocked || !strings.Contains(got[0].Reason, "allowMassPrune") || got[0].After == nil {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestDiffOfWhatNeedsEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.ns + ".example.org"
	w.text = fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.%[1]s}
spec:
  group: %[1]s
  scope: Namespaced
  names: {kind: Gadget, plural: gadgets, singular: gadget, listKind: GadgetList}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: %[1]s/v1
kind: Gadget
metadata: {name: g, namespace: %[2]s}
spec: {size: 3}
---
apiVersion: v1
kind: Namespace
metadata: {name: %[2]s-new}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c, namespace: %[2]s-new}
data: {v: x}
---
`, group, w.ns)
	got := w.diff(t)
	want := []string{
		"create ConfigMap/NS-new/c <new>", "create CustomResourceDefinition.apiextensions.k8s.io/gadgets.NS.example.org <new>",
		"create Gadget.NS.example.org/NS/g <new>", "create Namespace/NS-new <new>",
	}
	wantEqual(t, "diff", got, want)
}

func TestDiffWithFieldsOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1")
	w.target.Kustomization.Ignore = []deploy.IgnoreRule{{Paths: []string{"/data/v"}}}
	w.converge(false)
	w.text = w.configMap("a", "2") + w.configMap("b", "1")
	wantEqual(t, "diff", w.diff(t), []string{"create ConfigMap/NS/b <new>"})
}

func TestDiffOfForeignObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1")
	w.converge(false)
	w.target.Name.Name = "other"
	got := w.diff(t)
	if len(got) != 1 || !strings.Contains(got[0], "it belongs to ") {
		t.Fatalf("got %q", got)
	}
}

func TestDiffWithoutCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1")
	w.interfere(func(*http.Request, http.RoundTripper) (*http.Response, error) { return nil, errors.New("down") })
	_, err := w.engine.Diff(t.Context(), w.work(true))
	wantFailure(t, err, deploy.ReasonPlanFailed, false, "down")
}

func TestObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.step(t, "has none before anything is applied", func(t *testing.T) {
		if got := must(w.engine.Objects(t.Context(), w.target))(t); got != nil {
			t.Fatalf("got %v", got)
		}
	})
	w.step(t, "tells of each object and what controllers made of it", func(t *testing.T) {
		w.text = w.configMap("a", "1") + w.deployment("web", "")
		w.target.Kustomization.Wait = true
		w.converge(false)
		w.text = w.configMap("a", "1") + w.deployment("web", "new: 'yes'") // the old ReplicaSet stays, without Pods
		w.converge(false)
		if err := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		got := must(w.engine.Objects(t.Context(), w.target))(t)
		if d := cmp.Diff([]string{"ConfigMap NotFound", "Deployment Current", " ReplicaSet Current", "  Pod Current"}, health(got, "")); d != "" {
			t.Fatal(d)
		}
		if got[1].Created.IsZero() {
			t.Fatal("no creation time")
		}
	})
}

func health(all []deploy.Live, indent string) []string {
	var out []string
	for _, l := range all {
		out = append(out, indent+l.Object.Kind+" "+l.Health)
		out = append(out, health(l.Children, indent+" ")...)
	}
	return out
}
