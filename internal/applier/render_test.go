package applier_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

// lostPatches fails every apply on its way.
func lostPatches(r *http.Request, next http.RoundTripper) (*http.Response, error) {
	if r.Method == http.MethodPatch {
		return nil, errors.New("no route")
	}
	return next.RoundTrip(r)
}

func TestStringData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secrets := w.kube.Kubernetes.CoreV1().Secrets(w.ns)
	secret := func(plain string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: %s}\ndata: {a: eA==, c: Yw==}\nstringData: {%s}\n---\n", w.ns, plain)
	}
	data := func(t *testing.T) map[string]string {
		out := map[string]string{}
		for k, v := range must(secrets.Get(t.Context(), "s", metav1.GetOptions{}))(t).Data {
			out[k] = string(v)
		}
		return out
	}
	w.text = secret("a: one, b: two")
	w.converge(false)
	wantEqual(t, "data", data(t), map[string]string{"a": "one", "b": "two", "c": "c"})
	wantEqual(t, "changes of a full run", w.converge(true), []string(nil))
	w.step(t, "a value that somebody changed is set back", func(t *testing.T) {
		must(secrets.Patch(t.Context(), "s", types.MergePatchType, []byte(`{"data":{"a":"eHg="}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"}))(t)
		w.converge(true)
		wantEqual(t, "data", data(t), map[string]string{"a": "one", "b": "two", "c": "c"})
	})
	w.step(t, "a key that the artifact drops goes", func(t *testing.T) {
		w.text = secret("a: one")
		w.converge(false)
		wantEqual(t, "data", data(t), map[string]string{"a": "one", "c": "c"})
	})
}

func TestNamelessObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nameless := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: g-, namespace: %s}\n---\n", w.ns)
	w.text = w.configMap("a", "1") + nameless + nameless
	_, err := w.run(t.Context(), false)
	wantFailure(t, err, deploy.ReasonApplyFailed, true, "metadata.name is required")
	wantEqual(t, "a", w.value("a"), "1")
	wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
}

func TestNamespaceOnClusterScopedObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.ns + ".example.org"
	definition := strings.Replace(crd(group, "Region"), "scope: Namespaced", "scope: Cluster", 1)
	region := fmt.Sprintf("apiVersion: %s/v1\nkind: Region\nmetadata: {name: one, namespace: %s}\n---\n", group, w.ns)
	w.text = definition + region
	regions := w.kube.Dynamic.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "regions"})
	w.step(t, "is dropped where the CRD is in the same artifact", func(t *testing.T) {
		w.converge(false)
		must(regions.Get(t.Context(), "one", metav1.GetOptions{}))(t)
		wantEqual(t, "changes", w.converge(true), []string(nil))
	})
	w.step(t, "and where the cluster knows the kind", func(t *testing.T) {
		w.restart()
		w.text = definition + strings.ReplaceAll(region, "name: one", "name: two")
		w.converge(false)
		list := must(regions.List(t.Context(), metav1.ListOptions{}))(t)
		var names []string
		for _, r := range list.Items {
			names = append(names, r.GetNamespace()+"/"+r.GetName())
		}
		wantEqual(t, "regions", names, []string{"/two"})
	})
	if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
		t.Fatal(err)
	}
}

// TestQuiet holds an artifact full of what servers fill in, rewrite or drop against full runs.
func TestQuiet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = strings.ReplaceAll(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS, creationTimestamp: null, uid: nonsense, resourceVersion: "1"}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, creationTimestamp: null}
    spec: {containers: [{name: c, image: example.org/x:1, resources: {limits: {cpu: 1000m, memory: 1024Mi}}, env: [{name: A, value: ""}], ports: [{containerPort: 80}]}]}
status: {replicas: 7}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NS}
spec: {selector: {app: web}, ports: [{port: 80}, {port: 81, name: b}, {port: 82, name: c}]}
status: {loadBalancer: {}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: empty, namespace: NS, labels: null, annotations: {}}
data: null
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: NS}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: c, namespace: NS}
spec: {schedule: "0 0 1 1 *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: example.org/x:1}]}}}}}
`, "NS", w.ns)
	w.text = strings.Replace(w.text, "ports: [{port: 80},", "ports: [{port: 80, name: a},", 1)
	w.converge(false)
	got := w.counted(func() { wantEqual(t, "changes", w.converge(false), []string(nil)) })
	wantEqual(t, "requests", got, []string(nil))
	for _, again := range []string{"a full run", "a full run after a restart"} {
		for _, r := range w.counted(func() { wantEqual(t, "changes of "+again, w.converge(true), []string(nil)) }) {
			if !strings.HasPrefix(r, http.MethodGet+" ") {
				t.Fatalf("%s sent %s", again, cmp.Diff("", r))
			}
		}
		w.restart()
	}
}
