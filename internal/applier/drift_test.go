package applier_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

// TestDriftModes is of what is done about what others change, as the entry and the objects say.
func TestDriftModes(t *testing.T) {
	w := newWorld(t)
	client := w.kube.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(w.ns)
	mode := func(m deploy.DriftMode, ignored ...string) {
		w.target.Kustomization.DriftDetection = &deploy.DriftDetection{Mode: m}
		if len(ignored) > 0 {
			w.target.Kustomization.DriftDetection.Ignore = []deploy.IgnoreRule{{Paths: ignored}}
		}
		w.target.Hash = "spec " + string(m) + strings.Join(ignored, " ")
	}
	meddle := func(name, body string) {
		t.Helper()
		if _, err := client.Patch(t.Context(), name, types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := client.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	diff := func() (out []string) {
		t.Helper()
		for _, d := range must(w.engine.Diff(t.Context(), w.work(true)))(t) {
			out = append(out, string(d.Action)+" "+d.Object.Name)
		}
		return out
	}
	w.text = w.configMap("a", "1") + w.configMap("b", "1") + w.configMap("c", "1")
	w.converge(false)

	mode(deploy.DriftWarn)
	wantEqual(t, "another mode alone", w.converge(false), []string(nil))
	meddle("a", `{"data":{"v":"theirs"}}`)
	remove("b")
	for range 2 {
		var changes []string
		var err error
		requests := w.counted(func() { changes, err = w.run(t.Context(), true) })
		wantFailure(t, err, deploy.ReasonDriftDetected, true, "2 of 3 objects are not as the artifact has them", `ConfigMap/`+w.ns+`/a: changed by "somebody"`, `/b: missing in the cluster`)
		wantEqual(t, "changes", changes, []string{"drift ConfigMap/NS/a", "drift ConfigMap/NS/b"})
		wantEqual(t, "writes", writes(requests), []string(nil))
	}
	wantEqual(t, "diff", diff(), []string{"drift a", "drift b"})
	w.text = w.configMap("a", "2") + w.configMap("b", "1") + w.configMap("c", "1")
	changes, err := w.run(t.Context(), true)
	wantFailure(t, err, deploy.ReasonDriftDetected, true, "1 of 3 objects", "/b: missing")
	wantEqual(t, "changes of a new artifact", changes, []string{"apply ConfigMap/NS/a", "drift ConfigMap/NS/b"})

	mode(deploy.DriftEnabled)
	wantEqual(t, "put right", w.converge(true), []string{"create ConfigMap/NS/b"})
	if !w.engine.Minds(w.target) {
		t.Error("nobody would watch it")
	}

	mode(deploy.DriftDisabled)
	w.converge(false)
	meddle("a", `{"data":{"v":"theirs"}}`)
	remove("c")
	wantEqual(t, "a full check where drift is left", w.converge(true), []string(nil))
	wantEqual(t, "diff", diff(), []string{"drift a", "drift c"})
	if w.engine.Minds(w.target) {
		t.Error("it would be watched for nothing")
	}
	w.text = strings.Replace(w.text, `"1"`, `"3"`, 1) // b
	wantEqual(t, "the next revision, of what it changes", w.converge(true), []string{"apply ConfigMap/NS/b"})

	mode(deploy.DriftEnabled, "/data/v")
	w.converge(false)
	wantEqual(t, "what is gone", w.converge(true), []string(nil)) // the run before was full where the entry changed
	meddle("b", `{"data":{"v":"theirs"}}`)
	wantEqual(t, "fields that are left to others", w.converge(true), []string(nil))

	mode(deploy.DriftEnabled)
	w.converge(true)
	meddle("b", `{"data":{"v":"theirs"},"metadata":{"annotations":{"towline.dev/driftDetection":"disabled"}}}`)
	wantEqual(t, "an object that wants to be left", w.converge(true), []string(nil))
	m := must(w.kube.Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(w.ns).Get(t.Context(), "b", metav1.GetOptions{}))(t)
	if w.engine.Deviates(w.target, deploy.ObjectID{Kind: "ConfigMap", Namespace: w.ns, Name: "b"}, m.UID, m) {
		t.Error("its events are taken for drift")
	}
}
