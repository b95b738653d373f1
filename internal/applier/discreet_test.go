package applier_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/applier"
	"github.com/towline/towline/internal/deploy"
)

// filled is a manifest whose fields were filled from secrets, as a build gives it.
func (w *world) filled(kind, name, fields, body string) string {
	apiVersion, kind, ok := strings.Cut(kind, " ")
	if !ok {
		apiVersion, kind = "v1", apiVersion
	}
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: %s, namespace: %s, annotations: {%s: %q}}\n%s\n---\n", apiVersion, kind, name, w.ns, deploy.AnnotationSecretFields, fields, body)
}

// canaries are what the tests below fill in.
var canaries = []string{"canary", "74711", "74712"}

// quiet fails where something said shows a value.
func quiet(t *testing.T, said ...any) {
	t.Helper()
	for _, s := range said {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := s.(error); ok && e != nil {
			b = []byte(e.Error())
		}
		for _, c := range canaries {
			if strings.Contains(string(b), c) {
				t.Errorf("it shows %s: %s", c, b)
			}
		}
	}
}

func TestSecretFieldsInRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	core, logged := observer.New(zap.DebugLevel)
	w.engine = applier.New(applier.Options{Clients: w.clients, Builder: &w.manifests, Namespace: w.ns, Log: zap.New(core)})
	said := func(t *testing.T) {
		t.Helper()
		for _, l := range logged.TakeAll() {
			quiet(t, l.Message, fmt.Sprint(l.ContextMap()))
		}
	}
	refusal := func(t *testing.T, text, want string) {
		t.Helper()
		w.text = w.configMap("plain", "1") + text
		d, err := w.tryDiff(t)
		if err != nil || !strings.Contains(strings.Join(d, "\n"), want) {
			t.Errorf("the diff says %q, %v", d, err)
		}
		changes, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, true, want)
		if !strings.Contains(strings.Join(changes, "\n"), want) {
			t.Errorf("changes: %q", changes)
		}
		quiet(t, d, changes, err)
		said(t)
	}
	w.step(t, "a value that is out of range", func(t *testing.T) {
		refusal(t, w.filled("Service", "s", "/spec/ports/*/port", "spec: {ports: [{port: 74711}]}"), "the API server refused it (Invalid), spec.ports[0].port")
	})
	w.step(t, "a value of another type", func(t *testing.T) {
		refusal(t, w.filled("Service", "s", "/spec/ports/*/port", "spec: {ports: [{port: canary}]}"), "the API server refused it (HTTP 500)")
	})
	w.step(t, "a label", func(t *testing.T) {
		refusal(t, strings.Replace(w.filled("ConfigMap", "d", "/metadata/labels/a", "data: {a: b}"), "metadata: {", "metadata: {labels: {a: 'canary canary'}, ", 1),
			"the API server refused it (Invalid), metadata.labels")
	})
	w.step(t, "a key", func(t *testing.T) {
		refusal(t, w.filled("ConfigMap", "c", "/data", "data: {'canary canary': b}"), "the API server refused it (Invalid), data")
	})
	w.step(t, "a mark that nobody knows", func(t *testing.T) {
		refusal(t, strings.Replace(w.filled("ConfigMap", "c", "/metadata/annotations/towline.dev~1ssa", ""), "annotations: {", "annotations: {towline.dev/ssa: canary, ", 1), "an annotation or label of it is not valid")
	})
	w.step(t, "what it depends on", func(t *testing.T) {
		w.text = w.configMap("plain", "1") + strings.Replace(w.filled("ConfigMap", "c", "/metadata/annotations", ""), "annotations: {", "annotations: {config.kubernetes.io/depends-on: canary, ", 1)
		changes, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, true, "an annotation or label of it is not valid")
		quiet(t, changes, err)
	})
	fixed := func(value string) string {
		return w.filled("ConfigMap", "fixed", "/data/v", "immutable: true\ndata: {v: "+value+"}")
	}
	w.step(t, "an immutable field, with the advice what to do", func(t *testing.T) {
		w.text = fixed("canary-1")
		w.converge(false)
		w.text = fixed("canary-2")
		changes, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, "data cannot be changed", "or set force on the target", "the API server refused it (Invalid), data")
		d := must(w.tryDiff(t))(t)
		quiet(t, changes, err, d)
		said(t)
	})
	w.step(t, "one that is made anew", func(t *testing.T) {
		w.spec(func(s *deploy.KustomizationSpec) { s.Force = true })
		wantEqual(t, "diff", w.diff(t), []string{"recreate ConfigMap/NS/fixed data.v"})
		quiet(t, w.converge(false))
		wantEqual(t, "value", w.value("fixed"), "canary-2")
		said(t)
	})
	w.step(t, "one that would be made anew if the server took it", func(t *testing.T) {
		w.text = strings.Replace(fixed("canary-3"), "\ndata: {", "\ndata: {'canary canary': x, ", 1)
		changes, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, "the API server refused it (Invalid), data")
		quiet(t, changes, err, must(w.tryDiff(t))(t))
		wantEqual(t, "value", w.value("fixed"), "canary-2")
		said(t)
	})
	w.step(t, "a deletion that a webhook denies", func(t *testing.T) {
		w.text = w.configMap("plain", "1")
		w.interfere(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if r.Method == http.MethodDelete {
				return respond(r, http.StatusForbidden, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"denied: v is canary-2"}`), nil
			}
			return next.RoundTrip(r)
		})
		defer w.interfere(nil)
		changes, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneFailed, true, "the API server refused it (Forbidden)")
		quiet(t, changes, err)
		said(t)
	})
	w.step(t, "what no secret was put into is quoted as ever", func(t *testing.T) {
		w.text = strings.Replace(w.filled("Service", "s", "/spec", "spec: {ports: [{port: 74711}]}"), deploy.AnnotationSecretFields, "example.org/x", 1)
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, "74711")
	})
}

func TestSecretFieldsInDiffs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.filled("ConfigMap", "c", "/data/token,/metadata/labels", "data: {token: canary, open: x}")
	w.step(t, "paths end at a secret field", func(t *testing.T) {
		w.converge(false)
		w.text = strings.NewReplacer("token: canary", "token: canary-2", "open: x", "open: z", "metadata: {", "metadata: {labels: {canary: x}, ").Replace(w.text)
		wantEqual(t, "diff", w.diff(t), []string{"update ConfigMap/NS/c data.open data.token metadata.labels"})
	})
	w.step(t, "both versions say which fields are secret, and what goes does", func(t *testing.T) {
		w.text = w.configMap("c", "1")
		d := must(w.engine.Diff(t.Context(), w.work(false)))(t)
		if len(d) != 1 || d[0].Before == nil || deploy.SecretFieldsOf(d[0].Before).String() != "/data/token,/metadata/labels" || len(d[0].Fields) == 0 {
			t.Fatalf("%+v", d)
		}
		quiet(t, d[0].Fields)
		w.text = w.configMap("other", "1")
		for _, d := range must(w.engine.Diff(t.Context(), w.work(false)))(t) {
			if d.Object.Name == "c" && (d.Before == nil || !deploy.HoldsSecrets(d.Before)) {
				t.Errorf("%+v", d)
			}
		}
	})
	w.step(t, "what is let go loses the annotation", func(t *testing.T) {
		w.spec(func(s *deploy.KustomizationSpec) { s.Prune = false })
		w.text = w.configMap("other", "1")
		w.converge(false)
		cm := must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Get(t.Context(), "c", metav1.GetOptions{}))(t)
		if _, ok := cm.Annotations[deploy.AnnotationSecretFields]; ok || cm.Data["token"] != "canary" {
			t.Errorf("%+v", cm)
		}
	})
}

func TestSecretFieldsInHealth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.ns + ".example.org"
	w.spec(func(s *deploy.KustomizationSpec) { s.Wait = true })
	w.text = crd(group, "Widget")
	w.converge(false)
	widget := func(name, fields string) string {
		return w.filled(group+"/v1 Widget", name, fields, "spec: {token: canary}")
	}
	w.text += widget("hidden", "/spec/token") + strings.Replace(widget("open", "/"), deploy.AnnotationSecretFields, "example.org/x", 1)
	widgets := w.kube.Dynamic.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "widgets"}).Namespace(w.ns)
	fail := func(name string) {
		testAwait(t, func() error {
			u, err := widgets.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			_ = unstructured.SetNestedSlice(u.Object, []any{map[string]any{"type": "Stalled", "status": "True", "reason": "Bad", "message": "what canary is: " + name}}, "status", "conditions")
			body, err := json.Marshal(map[string]any{"status": u.Object["status"]})
			if err != nil {
				return err
			}
			_, err = widgets.Patch(t.Context(), name, types.MergePatchType, body, metav1.PatchOptions{})
			return err
		})
	}
	w.converge(false) // without a status they are healthy
	fail("hidden")
	fail("open")
	changes, err := w.run(t.Context(), true)
	wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "hidden: Failed; its message is not shown", "what canary is: open")
	live := must(w.engine.Objects(t.Context(), w.target))(t)
	for _, l := range live {
		switch l.Object.Name {
		case "hidden":
			quiet(t, l)
			wantEqual(t, "message", l.Message, "Failed; its message is not shown, since it may quote a secret")
		case "open":
			wantEqual(t, "message", l.Message, "what canary is: open")
		}
	}
	for _, said := range append(changes, strings.Split(err.Error(), "; ")...) {
		if strings.Contains(said, "hidden") {
			quiet(t, said)
		}
	}
}
