package applier_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

// as makes the target called name the current one, with what its artifact says.
func (w *world) as(name, text string) {
	w.target.Name.Name, w.text = name, text
}

func (w *world) uid(name string) types.UID {
	w.t.Helper()
	return must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Get(w.t.Context(), name, metav1.GetOptions{}))(w.t).UID
}

func TestObjectThatMovesToAnotherTarget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		leave func(*world) error
	}{
		{"lives on when its first target drops it", func(w *world) error {
			w.as("first", w.configMap("a", "1"))
			_, err := w.run(w.t.Context(), false)
			return err
		}},
		{"lives on when its first target is deleted, even if that waits for the end", func(w *world) error {
			w.as("first", "")
			spec := *w.target.Kustomization
			spec.DeletionPolicy = deploy.DeletionWait
			target := w.target
			target.Kustomization = &spec
			return w.engine.Delete(w.t.Context(), target, nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.as("first", w.configMap("x", "1")+w.configMap("a", "1"))
			w.converge(false)
			uid := w.uid("x")
			both := w.configMap("x", "2") + w.configMap("b", "1")
			w.as("second", both)
			_, err := w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonApplyFailed, true, "/x: it belongs to ")
			w.restart() // who waits for what is remembered
			if err := c.leave(w); err != nil {
				t.Fatal(err)
			}
			w.as("second", both)
			wantEqual(t, "changes", w.converge(false), []string{"apply ConfigMap/NS/x"})
			wantEqual(t, "value", w.value("x"), "2")
			wantEqual(t, "the same object", w.uid("x"), uid)
			w.as("second", w.configMap("b", "1"))
			wantEqual(t, "changes of its new target", w.converge(false), []string{"prune ConfigMap/NS/x"})
		})
	}
}

func TestClaimThatMovesToAnotherTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := fmt.Sprintf("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: %s}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n---\n", w.ns)
	w.as("first", w.configMap("a", "1")+claim)
	w.converge(false)
	w.as("first", w.configMap("a", "1"))
	w.converge(false)
	w.as("second", claim)
	wantEqual(t, "changes", w.converge(false), []string{"create PersistentVolumeClaim/NS/data"})
	w.as("first", w.configMap("a", "1"))
	w.converge(true)
	wantEqual(t, "lines of both inventories", strings.Count(w.inventory(), "\n"), 2)
	pvc := must(w.kube.Kubernetes.CoreV1().PersistentVolumeClaims(w.ns).Get(t.Context(), "data", metav1.GetOptions{}))(t)
	wantEqual(t, "label", pvc.Labels[deploy.LabelTarget], "kustomization.apps.second")
}

func TestForeignObjectsAreNotPruned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	create := func(t *testing.T, name string, immutable bool) {
		t.Helper()
		cm := must(cms.Get(t.Context(), "a", metav1.GetOptions{}))(t)
		cm.ObjectMeta = metav1.ObjectMeta{Name: name}
		cm.Immutable = &immutable
		must(cms.Create(t.Context(), cm, metav1.CreateOptions{}))(t)
	}
	w.text = w.configMap("a", "1") + w.configMap("b", "1") + w.configMap("c", "1")
	w.converge(false)
	w.step(t, "when somebody made them anew", func(t *testing.T) {
		if err := cms.Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		create(t, "b", false)
		w.text = w.configMap("a", "1") + w.configMap("c", "1")
		wantEqual(t, "changes", w.converge(false), []string{"keep ConfigMap/NS/b: it is not the one that was applied here"})
		wantEqual(t, "b", w.value("b"), "1")
	})
	w.step(t, "when they were there before an apply that was refused", func(t *testing.T) {
		create(t, "old", true)
		w.text = w.configMap("a", "1") + w.configMap("c", "1") + w.configMap("old", "2")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, true, "/old: ")
		w.text = w.configMap("a", "1") + w.configMap("c", "1")
		w.converge(false)
		wantEqual(t, "old", w.value("old"), "1")
	})
	w.step(t, "when they were let go, and the agent died before it wrote that down", func(t *testing.T) {
		spec := *w.target.Kustomization
		spec.Prune = false
		w.target.Kustomization = &spec
		w.text = w.configMap("a", "1")
		ctx, die := context.WithCancel(t.Context())
		released := false
		w.interfere(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if released {
				return nil, errors.New("dead")
			}
			released = r.Method == http.MethodPatch
			return next.RoundTrip(r)
		})
		_, err := w.run(ctx, false)
		die()
		if err == nil {
			t.Fatal("it should not have ended well")
		}
		w.interfere(nil)
		w.restart()
		w.target.Kustomization = &deploy.KustomizationSpec{Prune: true}
		w.converge(false)
		wantEqual(t, "c", w.value("c"), "1")
	})
	wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
}

func TestObjectUnderAnotherGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	event := func(apiVersion, involved string) string {
		return fmt.Sprintf("apiVersion: %s\nkind: Event\nmetadata: {name: e, namespace: %s}\n%s: {kind: Namespace, name: x, namespace: %[2]s}\nreportingInstance: a\naction: a\nreason: a\ntype: Normal\neventTime: \"2026-01-01T00:00:00.000000Z\"\n---\n", apiVersion, w.ns, involved)
	}
	w.text = event("v1", "involvedObject") + w.configMap("a", "1")
	w.text = strings.Replace(w.text, "reportingInstance: a", "reportingInstance: a\nreportingComponent: example.org/a", 1)
	w.converge(false)
	moved := strings.Replace(event("events.k8s.io/v1", "regarding"), "reportingInstance: a", "reportingInstance: a\nreportingController: example.org/a", 1)
	w.step(t, "is not deleted under its old one while something else fails", func(t *testing.T) {
		w.text = moved + strings.Replace(w.configMap("a", "1"), "data: {v:", "data: {v: {}, w:", 1)
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, true, "/a: ")
	})
	w.step(t, "nor by a later run that does not apply it again", func(t *testing.T) {
		w.text = moved + w.configMap("a", "2")
		w.converge(false)
		must(w.kube.Kubernetes.CoreV1().Events(w.ns).Get(t.Context(), "e", metav1.GetOptions{}))(t)
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 2)
	})
}

func TestDeleteWithoutInventory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1") + w.configMap("b", "1")
	w.converge(false)
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	if err := cms.Delete(t.Context(), "towline-inventory.kustomization.apps.web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "what is left", w.value("a")+w.value("b")+w.inventory(), "")
}

func TestInventoryThatLostLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1") + w.configMap("b", "1") + w.configMap("c", "1")
	w.converge(false)
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	cm := must(cms.Get(t.Context(), "towline-inventory.kustomization.apps.web", metav1.GetOptions{}))(t)
	cm.Data["objects"] = cm.Data["objects"][:strings.Index(cm.Data["objects"], "\n")+1]
	must(cms.Update(t.Context(), cm, metav1.UpdateOptions{}))(t)
	w.restart()
	w.text = w.configMap("a", "1") + w.configMap("b", "1")
	w.converge(false)
	w.converge(false)
	wantEqual(t, "c", w.value("c"), "")
}

func TestObjectThatMovesWhileItsNewTargetStillPlans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as("first", w.configMap("x", "1")+w.configMap("a", "1"))
	w.converge(false)
	uid := w.uid("x")
	w.as("second", w.configMap("x", "2"))
	work := w.work(false)
	plan := must(w.engine.Plan(t.Context(), work))(t)

	first := make(chan error, 1)
	waits := make(chan struct{})
	w.as("first", w.configMap("a", "1"))
	drop := w.work(false)
	p := must(w.engine.Plan(t.Context(), drop))(t)
	go func() {
		_, err := w.engine.Apply(t.Context(), drop, p, func(phase deploy.Phase, _ string) {
			if phase == deploy.PhasePruning {
				close(waits)
			}
		})
		first <- err
	}()
	<-waits
	_, err := w.engine.Apply(t.Context(), work, plan, nil)
	if failure := <-first; failure != nil {
		t.Fatal(failure)
	}
	if err != nil { // it was there a moment too early: refused, and remembered
		w.as("second", w.configMap("x", "2"))
		w.converge(false)
	}
	wantEqual(t, "the same object", w.uid("x"), uid)
	wantEqual(t, "value", w.value("x"), "2")
}
