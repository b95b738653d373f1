package applier_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

func TestDelete(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		policy deploy.DeletionPolicy
		prune  bool
		stays  bool
	}{
		{"mirrors prune: off", deploy.DeletionMirrorPrune, false, true},
		{"mirrors prune: on", deploy.DeletionMirrorPrune, true, false},
		{"mirrors prune by default", "", true, false},
		{"deletes", deploy.DeletionDelete, false, false},
		{"deletes and waits", deploy.DeletionWait, false, false},
		{"orphans", deploy.DeletionOrphan, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.text = w.configMap("a", "1") + w.configMap("b", "1") + w.deployment("web", "")
			w.target.Kustomization = &deploy.KustomizationSpec{Prune: c.prune, DeletionPolicy: c.policy}
			w.converge(false)
			w.restart() // the record and the inventory are all there is
			if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
				t.Fatal(err)
			}
			wantEqual(t, "a stays", w.value("a") == "1", c.stays)
			wantEqual(t, "inventory", w.inventory(), "")
			if c.stays {
				cm := must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Get(t.Context(), "a", metav1.GetOptions{}))(t)
				wantEqual(t, "our marks", len(cm.Labels)+len(cm.Annotations), 0)
				wantEqual(t, "its fields are owned as before", cm.ManagedFields[0].Manager+" "+string(cm.ManagedFields[0].Operation), "towline Apply")
			}
			got := w.counted(func() {
				if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
					t.Fatal(err)
				}
			})
			wantEqual(t, "requests of a second time", got, []string(nil))
		})
	}
}

func TestDeleteStuck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target.Kustomization = &deploy.KustomizationSpec{DeletionPolicy: deploy.DeletionWait}
	w.target.Timeout = time.Second
	w.text = w.configMap("a", "1") + strings.Replace(w.configMap("stuck", "1"), "name: stuck,", "name: stuck, finalizers: [example.org/f],", 1)
	w.converge(false)
	w.step(t, "an object that does not go is named and stays in the inventory; the others go", func(t *testing.T) {
		var said []string
		err := w.engine.Delete(t.Context(), w.target, func(_ deploy.Phase, words string) { said = append(said, words) })
		wantFailure(t, err, deploy.ReasonPruneFailed, true, "/stuck: it is being deleted but does not go: it waits for example.org/f since 20")
		if last := said[len(said)-1]; !strings.HasPrefix(last, "waiting for ConfigMap/"+w.ns+"/stuck: it is being deleted: it waits for example.org/f since 20") {
			t.Fatalf("meanwhile it says %q", last)
		}
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
		wantEqual(t, "a", w.value("a"), "")
	})
	w.step(t, "another attempt writes nothing into the inventory", func(t *testing.T) {
		got := w.counted(func() {
			wantFailure(t, w.engine.Delete(t.Context(), w.target, nil), deploy.ReasonPruneFailed, true, "/stuck: ")
		})
		for _, r := range writes(got) {
			if strings.Contains(r, "towline-inventory.") {
				t.Fatal(r)
			}
		}
	})
	w.step(t, "and the next one ends it when the finalizer is gone", func(t *testing.T) {
		must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Patch(t.Context(), "stuck", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))(t)
		if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "inventory", w.inventory(), "")
	})
}

func TestRecreatedObjectIsNotPruned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1") + w.configMap("b", "1")
	w.converge(false)
	w.text = w.configMap("a", "1")
	work := w.work(false)
	p := must(w.engine.Plan(t.Context(), work))(t)
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	if err := cms.Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b := must(cms.Get(t.Context(), "a", metav1.GetOptions{}))(t)
	b.ObjectMeta = metav1.ObjectMeta{Name: "b"}
	must(cms.Create(t.Context(), b, metav1.CreateOptions{}))(t)
	_, err := w.engine.Apply(t.Context(), work, p, nil)
	wantFailure(t, err, deploy.ReasonPruneFailed, true, "/b: ")
	wantEqual(t, "b", w.value("b"), "1")
}

func TestHiddenAPIGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.ns + ".example.org"
	custom := fmt.Sprintf("apiVersion: %s/v1\nkind: Gadget\nmetadata: {name: one, namespace: %s}\n---\n", group, w.ns)
	definition := crd(group, "Gadget")
	w.text = w.configMap("a", "1") + definition + custom
	w.converge(false)
	w.restart()
	w.interfere(func(r *http.Request, next http.RoundTripper) (*http.Response, error) { return hide(r, next, group) })

	w.step(t, "an unchanged object of it holds nothing up", func(t *testing.T) {
		w.text = w.configMap("a", "2") + definition + custom
		wantEqual(t, "changes", w.converge(false), []string{"apply ConfigMap/NS/a"})
	})
	w.step(t, "a dropped object of it is not forgotten", func(t *testing.T) {
		w.text = w.configMap("a", "3") + definition
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneFailed, true, "Gadget."+group, "not available")
		wantEqual(t, "a", w.value("a"), "3")
		wantEqual(t, "it is in the inventory", strings.Contains(w.inventory(), "/Gadget/"), true)
	})
	w.step(t, "and pruned when the group is back", func(t *testing.T) {
		w.interfere(nil)
		testAwait(t, func() error {
			changes, err := w.run(t.Context(), false)
			if err == nil && len(changes) != 1 {
				err = fmt.Errorf("changes: %v", changes)
			}
			return err
		})
		wantEqual(t, "it is in the inventory", strings.Contains(w.inventory(), "/Gadget/"), false)
	})
}

func TestCancelBetweenObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 40 {
		w.text += w.configMap(fmt.Sprintf("c%d", i), "1")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	patches := 0
	w.interfere(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if r.Method == http.MethodPatch {
			if patches++; patches == 10 {
				cancel()
			}
		}
		return next.RoundTrip(r)
	})
	_, err := w.run(ctx, false)
	wantFailure(t, err, deploy.ReasonCanceled, false)
	wantEqual(t, "is context.Canceled", errors.Is(err, context.Canceled), true)
	w.interfere(nil)
	w.mu.Lock()
	first := patches
	w.mu.Unlock()
	if first >= 40 {
		t.Fatalf("%d of 40 objects were sent after the cancel", first-10)
	}
	wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 40)
	again := len(w.converge(false))
	if again >= 40 || again < 40-first {
		t.Fatalf("%d objects sent before the cancel, %d afterwards: what was confirmed should have been recorded", first, again)
	}
}

func TestPlanThatIsOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target.Kustomization = &deploy.KustomizationSpec{Prune: true, Wait: true}
	w.text = w.configMap("a", "1") + w.configMap("b", "1") + w.configMap("c", "1")
	w.converge(false)
	w.text = w.configMap("a", "1")
	work := w.work(false)
	p := must(w.engine.Plan(t.Context(), work))(t)
	annotate := func(name, annotations string) {
		patch := []byte(`{"metadata":{"annotations":` + annotations + `}}`)
		must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}))(t)
	}
	annotate("b", `{"towline.dev/prune":"disabled"}`)
	annotate("c", `{"config.k8s.io/owning-inventory":"stranger"}`)
	_, err := w.engine.Apply(t.Context(), work, p, nil)
	wantFailure(t, err, deploy.ReasonPruneFailed, true, "/b: not deleted: its towline.dev/prune is disabled")
	wantEqual(t, "values", w.value("b")+w.value("c"), "11")
	w.converge(false)
	wantEqual(t, "values", w.value("b")+w.value("c"), "11")
	wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
}
