package applier_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// marked is a ConfigMap with annotations.
func (w *world) marked(name, value, annotations string) string {
	return strings.Replace(w.configMap(name, value), "name: "+name+",", "name: "+name+", annotations: {"+annotations+"},", 1)
}

// mark sets an annotation and waits until the server's cache has it.
func (w *world) mark(t *testing.T, name, patch string) {
	t.Helper()
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	out := must(cms.Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{`+patch+`}}`), metav1.PatchOptions{FieldManager: "admin"}))(t)
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		cached := must(cms.Get(t.Context(), name, metav1.GetOptions{ResourceVersion: "0"}))(t)
		if cached.ResourceVersion == out.ResourceVersion {
			return
		}
	}
	t.Fatal("the server's cache stays behind")
}

func TestReconcileDisabled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1") + w.configMap("b", "1")
	w.converge(false)
	w.step(t, "a mark in the cluster stops applies, and says so once", func(t *testing.T) {
		w.mark(t, "a", `"annotations":{"towline.dev/reconcile":"disabled"}`)
		w.text = w.configMap("a", "2") + w.configMap("b", "2")
		wantEqual(t, "changes", w.converge(false), []string{"skip ConfigMap/NS/a", "apply ConfigMap/NS/b"})
		wantEqual(t, "values", w.value("a")+w.value("b"), "12")
		w.restart()
		must(w.run(t.Context(), false))(t) // reads the inventories
		got := w.counted(func() { wantEqual(t, "changes", w.converge(false), []string(nil)) })
		wantEqual(t, "requests of an unchanged target", got, []string(nil))
		got = writes(w.counted(func() { wantEqual(t, "changes of a full run", w.converge(true), []string(nil)) }))
		wantEqual(t, "writes of a full run", got, []string(nil))
	})
	w.step(t, "what somebody changes meanwhile stays", func(t *testing.T) {
		must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"v":"by hand"}}`), metav1.PatchOptions{}))(t)
		wantEqual(t, "changes", w.converge(true), []string(nil))
		wantEqual(t, "value", w.value("a"), "by hand")
	})
	w.step(t, "it is not pruned either", func(t *testing.T) {
		all := w.text
		w.text = w.configMap("b", "2")
		w.converge(false)
		wantEqual(t, "value", w.value("a"), "by hand")
		w.text = all
		w.converge(false)
		wantEqual(t, "value", w.value("a"), "by hand")
	})
	w.step(t, "without the mark it is applied by the next full run", func(t *testing.T) {
		w.mark(t, "a", `"annotations":{"towline.dev/reconcile":null}`)
		w.converge(true)
		wantEqual(t, "value", w.value("a"), "2")
		wantEqual(t, "changes", w.converge(true), []string(nil))
	})
	w.step(t, "Flux's label in the artifact does the same, and one that is new is never created", func(t *testing.T) {
		flux := func(name, value string) string {
			return strings.Replace(w.configMap(name, value), "name: "+name+",", "name: "+name+", labels: {kustomize.toolkit.fluxcd.io/reconcile: Disabled},", 1)
		}
		w.text = w.configMap("a", "2") + flux("b", "3") + flux("c", "3")
		wantEqual(t, "changes", w.converge(false), []string{"skip ConfigMap/NS/b", "skip ConfigMap/NS/c"})
		wantEqual(t, "values", w.value("b")+w.value("c"), "2")
		w.restart()
		wantEqual(t, "changes", w.converge(true), []string(nil))
		w.text = w.configMap("a", "2") + w.configMap("b", "3") + w.configMap("c", "3")
		w.converge(false)
		wantEqual(t, "values", w.value("b")+w.value("c"), "33")
	})
}

func TestServerSideApplyModes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	w.step(t, "IfNotPresent creates and never changes", func(t *testing.T) {
		once := "towline.dev/ssa: IfNotPresent"
		w.text = w.marked("once", "1", once)
		w.converge(false)
		wantEqual(t, "value", w.value("once"), "1")
		w.text = w.marked("once", "2", once)
		wantEqual(t, "changes", w.converge(false), []string{"skip ConfigMap/NS/once"})
		must(cms.Patch(t.Context(), "once", types.MergePatchType, []byte(`{"data":{"v":"theirs"}}`), metav1.PatchOptions{}))(t)
		wantEqual(t, "changes", w.converge(true), []string(nil))
		wantEqual(t, "value", w.value("once"), "theirs")
	})
	w.step(t, "and creates again what is missing", func(t *testing.T) {
		if err := cms.Delete(t.Context(), "once", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "changes", w.converge(true), []string{"create ConfigMap/NS/once"})
		wantEqual(t, "value", w.value("once"), "2")
	})
	w.step(t, "IfNotPresent leaves alone what was there before", func(t *testing.T) {
		us := must(parse(w.configMap("before", "theirs")))(t)
		must(w.kube.Dynamic.Resource(configMaps).Namespace(w.ns).Create(t.Context(), us[0], metav1.CreateOptions{}))(t)
		w.text += w.marked("before", "ours", "kustomize.toolkit.fluxcd.io/ssa: ifnotpresent")
		wantEqual(t, "changes", w.converge(false), []string{"skip ConfigMap/NS/before"})
		wantEqual(t, "value", w.value("before"), "theirs")
		w.text = w.configMap("x", "1")
		w.converge(false)
		wantEqual(t, "values after a prune", w.value("once")+w.value("before"), "theirs")
	})
	w.step(t, "Ignore sends nothing", func(t *testing.T) {
		w.text = w.configMap("x", "1") + w.marked("never", "1", "towline.dev/ssa: Ignore")
		got := patches(w.counted(func() { wantEqual(t, "changes", w.converge(false), []string{"skip ConfigMap/NS/never"}) }))
		wantEqual(t, "applies", len(got), 0)
	})
	w.step(t, "a value that nobody knows is the object's error", func(t *testing.T) {
		w.text = w.configMap("x", "2") + w.marked("never", "1", "towline.dev/ssa: Overide")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, true, `/never: towline.dev/ssa is "Overide": want Override, Merge, IfNotPresent, Ignore`)
		wantEqual(t, "the other", w.value("x"), "2")
	})
}

func TestKubectl(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	data := func(t *testing.T, name string) string {
		t.Helper()
		cm := must(cms.Get(t.Context(), name, metav1.GetOptions{}))(t)
		var out []string
		for k, v := range cm.Data {
			out = append(out, k+"="+v)
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	edit := func(t *testing.T, name, patch string) {
		t.Helper()
		must(cms.Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"}))(t)
	}
	w.text = w.configMap("a", "1")
	w.converge(false)
	w.step(t, "fields that kubectl added go with the next full run, and it is quiet after", func(t *testing.T) {
		edit(t, "a", `{"data":{"extra":"x"},"metadata":{"annotations":{"note":"x"}}}`)
		wantEqual(t, "changes", w.converge(true), []string{"apply ConfigMap/NS/a"})
		wantEqual(t, "data", data(t, "a"), "v=1")
		cm := must(cms.Get(t.Context(), "a", metav1.GetOptions{}))(t)
		wantEqual(t, "annotation", cm.Annotations["note"], "")
		wantEqual(t, "managers", managers(cm), []string{deploy.FieldManager})
		wantEqual(t, "changes", w.converge(true), []string(nil))
	})
	w.step(t, "and with an apply, in four more requests", func(t *testing.T) {
		edit(t, "a", `{"data":{"extra":"x"}}`)
		w.text = w.configMap("a", "2")
		path := "PATCH /api/v1/namespaces/" + w.ns + "/configmaps/a"
		wantEqual(t, "patches", patches(w.counted(func() { w.converge(false) })), []string{path, path, path, path}) // refused at the version that was ours, applied, taken over, applied
		wantEqual(t, "data", data(t, "a"), "v=2")
		wantEqual(t, "patches without any", len(patches(w.counted(func() { w.text = w.configMap("a", "3"); w.converge(false) }))), 1)
	})
	w.step(t, "other managers keep theirs", func(t *testing.T) {
		must(cms.Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"op":"x"}}`), metav1.PatchOptions{FieldManager: "operator"}))(t)
		wantEqual(t, "changes", w.converge(true), []string(nil))
		w.text = w.configMap("a", "4")
		w.converge(false)
		wantEqual(t, "data", data(t, "a"), "op=x v=4")
	})
	w.step(t, "with ssa: Merge kubectl keeps its own too", func(t *testing.T) {
		w.text = w.marked("m", "1", "towline.dev/ssa: Merge")
		w.converge(false)
		edit(t, "m", `{"data":{"extra":"x"}}`)
		wantEqual(t, "changes", w.converge(true), []string(nil))
		w.text = w.marked("m", "2", "towline.dev/ssa: Merge")
		w.converge(false)
		wantEqual(t, "data", data(t, "m"), "extra=x v=2")
	})
	old := func(name string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%[1]q,"namespace":%[2]q,"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}"}},
			"data":{"v":"0","gone":"x"}}`, name, w.ns)
	}
	create := func(t *testing.T, name string) {
		t.Helper()
		us := must(parse(old(name)))(t)
		must(w.kube.Dynamic.Resource(configMaps).Namespace(w.ns).Create(t.Context(), us[0], metav1.CreateOptions{FieldManager: "kubectl-client-side-apply"}))(t)
	}
	w.step(t, "what was applied with kubectl before is taken over whole, its annotation included", func(t *testing.T) {
		create(t, "old")
		w.text = w.configMap("old", "1")
		w.converge(false)
		wantEqual(t, "data", data(t, "old"), "v=1")
		cm := must(cms.Get(t.Context(), "old", metav1.GetOptions{}))(t)
		wantEqual(t, "annotation", cm.Annotations["kubectl.kubernetes.io/last-applied-configuration"], "")
		wantEqual(t, "managers", managers(cm), []string{deploy.FieldManager})
		wantEqual(t, "changes", w.converge(true), []string(nil))
	})
	w.step(t, "but not with ssa: Merge", func(t *testing.T) {
		create(t, "old2")
		w.text = w.marked("old2", "1", "towline.dev/ssa: Merge")
		w.converge(false)
		wantEqual(t, "data", data(t, "old2"), "gone=x v=1")
	})
}

func TestRecreate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	frozen := func(value, annotations string) string {
		return strings.Replace(w.marked("f", value, annotations), "\ndata:", "\nimmutable: true\ndata:", 1)
	}
	const force = "kustomize.toolkit.fluxcd.io/force: enabled"
	w.text = frozen("1", "")
	w.converge(false)
	first := must(cms.Get(t.Context(), "f", metav1.GetOptions{}))(t)
	w.step(t, "an immutable field is refused with its name and what to do", func(t *testing.T) {
		w.text = frozen("2", "")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, "data cannot be changed", "towline.dev/force: enabled", "or set force on the target")
	})
	w.step(t, "nothing is deleted where the new object would be refused", func(t *testing.T) {
		w.text = strings.Replace(frozen("2", force), `v: "2"`, `"not a key": "2"`, 1)
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, "not a key")
		wantEqual(t, "uid", must(cms.Get(t.Context(), "f", metav1.GetOptions{}))(t).UID, first.UID)
	})
	w.step(t, "with force it is made anew", func(t *testing.T) {
		w.text = frozen("2", force)
		wantEqual(t, "changes", w.converge(false), []string{"recreate ConfigMap/NS/f"})
		wantEqual(t, "value", w.value("f"), "2")
		wantEqual(t, "another object", must(cms.Get(t.Context(), "f", metav1.GetOptions{}))(t).UID != first.UID, true)
		wantEqual(t, "changes", w.converge(true), []string(nil))
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
	})
	spec := *w.target.Kustomization
	spec.Force = true
	w.target.Kustomization = &spec
	w.step(t, "with spec.force too, a Job among others", func(t *testing.T) {
		job := func(image string) string {
			return fmt.Sprintf("apiVersion: batch/v1\nkind: Job\nmetadata: {name: j, namespace: %s}\nspec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: c, image: %s}]}}}\n---\n", w.ns, image)
		}
		w.text = job("example.org/x:1")
		w.converge(false)
		w.text = job("example.org/x:2")
		wantEqual(t, "changes", w.converge(false), []string{"recreate Job.batch/NS/j"})
		j := must(w.kube.Kubernetes.BatchV1().Jobs(w.ns).Get(t.Context(), "j", metav1.GetOptions{}))(t)
		wantEqual(t, "image", j.Spec.Template.Spec.Containers[0].Image, "example.org/x:2")
	})
	w.step(t, "a Service gets another address", func(t *testing.T) {
		service := func(ip string) string {
			return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: %s}\nspec: {clusterIP: %s, selector: {app: x}, ports: [{port: 80}]}\n---\n", w.ns, ip)
		}
		w.text = service(`""`)
		w.converge(false)
		w.text = service("None")
		wantEqual(t, "changes", w.converge(false), []string{"recreate Service/NS/s"})
		s := must(w.kube.Kubernetes.CoreV1().Services(w.ns).Get(t.Context(), "s", metav1.GetOptions{}))(t)
		wantEqual(t, "address", s.Spec.ClusterIP, "None")
	})
	w.step(t, "a claim never is", func(t *testing.T) {
		claim := func(mode string) string {
			return fmt.Sprintf("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: %s}\nspec: {accessModes: [%s], resources: {requests: {storage: 1Gi}}}\n---\n", w.ns, mode)
		}
		w.text = claim("ReadWriteOnce")
		w.converge(false)
		w.text = claim("ReadWriteMany")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, "a PersistentVolumeClaim is never deleted to be created anew")
	})
	w.step(t, "what held it is named, and the next run goes on", func(t *testing.T) {
		w.target.Timeout = 2 * time.Second
		w.text = frozen("3", force)
		w.converge(false)
		must(cms.Patch(t.Context(), "f", types.MergePatchType, []byte(`{"metadata":{"finalizers":["example.org/hold"]}}`), metav1.PatchOptions{}))(t)
		w.text = frozen("4", force)
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, "it waits for example.org/hold")
		w.target.Timeout = 30 * time.Second
		must(cms.Patch(t.Context(), "f", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))(t)
		_, err = cms.Get(t.Context(), "f", metav1.GetOptions{})
		wantEqual(t, "gone", apierrors.IsNotFound(err), true)
		w.converge(false)
		wantEqual(t, "value", w.value("f"), "4")
	})
}
