package applier_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

// TestRepair is of attempts that are for drifted objects alone.
func TestRepair(t *testing.T) {
	w := newWorld(t)
	maps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	client := w.kube.Dynamic.Resource(maps).Namespace(w.ns)
	w.text = w.configMap("a", "1") + w.configMap("b", "1") + w.configMap("c", "1")
	w.converge(false)
	w.converge(true)
	id := func(name string) deploy.ObjectID {
		return deploy.ObjectID{Kind: "ConfigMap", Namespace: w.ns, Name: name}
	}
	meddle := func(names ...string) {
		t.Helper()
		for _, n := range names {
			if _, err := client.Patch(t.Context(), n, types.MergePatchType, []byte(`{"data":{"v":"meddled"}}`), metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	value := func(name string) string {
		t.Helper()
		u := must(client.Get(t.Context(), name, metav1.GetOptions{}))(t)
		return u.Object["data"].(map[string]any)["v"].(string)
	}
	// repair makes an attempt for the named objects, and returns what it changed and asked for, namespaces and versions left out.
	repair := func(names ...string) (changes, requests []string) {
		t.Helper()
		work := w.work(true)
		for _, n := range names {
			work.Drifted = append(work.Drifted, id(n))
		}
		requests = w.counted(func() {
			p, err := w.engine.Plan(t.Context(), work)
			if err != nil {
				t.Fatal(err)
			}
			if p.Empty() {
				return
			}
			done, err := w.engine.Apply(t.Context(), work, p, nil)
			if err != nil {
				t.Fatal(err)
			}
			changes = w.lines(done)
		})
		for i, r := range requests {
			r, _, _ = strings.Cut(r, "?")
			requests[i] = strings.ReplaceAll(strings.ReplaceAll(r, w.ns, "NS"), "/api/v1/namespaces/NS/configmaps/", "")
		}
		return changes, requests
	}
	t.Run("reads and writes what drifted, and nothing else", func(t *testing.T) {
		meddle("a", "b")
		changes, requests := repair("a")
		wantEqual(t, "changes", changes, []string{"apply ConfigMap/NS/a"})
		if len(requests) < 2 || requests[0] != "GET a" || requests[1] != "PATCH a" {
			t.Errorf("requests %v", requests)
		}
		for _, r := range requests {
			if strings.HasSuffix(r, " b") || strings.HasSuffix(r, " c") {
				t.Errorf("it asked for another object: %s", r)
			}
		}
		wantEqual(t, "values", []string{value("a"), value("b")}, []string{"1", "meddled"})
		repair("b")
	})
	t.Run("finds nothing to do where it is put right already", func(t *testing.T) {
		changes, requests := repair("a")
		wantEqual(t, "changes", changes, []string(nil))
		wantEqual(t, "requests", requests, []string{"GET a"})
	})
	t.Run("makes anew what was deleted, and remembers that", func(t *testing.T) {
		if err := client.Delete(t.Context(), "c", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		changes, requests := repair("c")
		wantEqual(t, "changes", changes, []string{"create ConfigMap/NS/c"})
		wantEqual(t, "first requests", requests[:2], []string{"GET c", "PATCH c"}) // nothing is written before
		wantEqual(t, "a full check", w.converge(true), []string(nil))
	})
	t.Run("looks at everything where more than that is to be done", func(t *testing.T) {
		meddle("a", "b")
		w.text = strings.Replace(w.text, `data: {v: "1"}`, `data: {v: "2"}`, 1) // of a
		changes, _ := repair("b")
		wantEqual(t, "changes", changes, []string{"apply ConfigMap/NS/a", "apply ConfigMap/NS/b"})
	})
	t.Run("looks at everything where it is told of an object that is not the target's", func(t *testing.T) {
		meddle("a")
		changes, _ := repair("stranger")
		wantEqual(t, "changes", changes, []string{"apply ConfigMap/NS/a"})
	})
	t.Run("that fails is believed by nobody afterwards", func(t *testing.T) {
		meddle("b")
		w.interfere(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/configmaps/b") {
				return nil, errors.New("cut off")
			}
			return next.RoundTrip(r)
		})
		work := w.work(true)
		work.Drifted = []deploy.ObjectID{id("b")}
		p, err := w.engine.Plan(t.Context(), work)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // what is cut off is tried again until then
		defer cancel()
		if _, err := w.engine.Apply(ctx, work, p, nil); err == nil {
			t.Fatal("it did not fail")
		}
		w.interfere(nil)
		wantEqual(t, "the next attempt, which does not look at the cluster", w.converge(false), []string{"apply ConfigMap/NS/b"})
	})
}
