package applier_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

func TestObjectThatDoesNotGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	finalizers := func(list string) {
		must(cms.Patch(t.Context(), "stuck", types.MergePatchType, []byte(`{"metadata":{"finalizers":`+list+`}}`), metav1.PatchOptions{}))(w.t)
	}
	a := w.configMap("a", "1")
	w.text = a + w.configMap("stuck", "1")
	w.converge(false)
	finalizers(`["example.org/f"]`)

	w.step(t, "is named with what holds it, stays in the inventory, and does not hold up the others", func(t *testing.T) {
		w.text = a
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneFailed, true, "/stuck: it is being deleted but does not go: it waits for example.org/f")
		w.text = w.configMap("a", "2")
		_, err = w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneFailed, true, "it waits for example.org/f since 20")
		wantEqual(t, "a", w.value("a"), "2")
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 2)
	})
	w.step(t, "does not count as applied when it is wanted again", func(t *testing.T) {
		w.text = w.configMap("a", "2") + w.configMap("stuck", "2")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, true, "/stuck: it is being deleted")
	})
	w.step(t, "and is made anew as soon as it is gone, within the run", func(t *testing.T) {
		free := time.AfterFunc(time.Second, func() { finalizers("null") })
		defer free.Stop()
		w.converge(false)
		wantEqual(t, "stuck", w.value("stuck"), "2")
	})
}

func TestNamespaceWithOthersObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	name := w.ns + "-shared"
	namespaces := w.kube.Kubernetes.CoreV1().Namespaces()
	t.Cleanup(func() { _ = namespaces.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	own := fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %[1]s, annotations: {towline.dev/prune: enabled}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ours, namespace: %[1]s}\n---\n", name)
	w.text = w.configMap("a", "1") + own
	w.converge(false)
	inside := w.kube.Kubernetes.CoreV1().ConfigMaps(name)
	must(inside.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}}, metav1.CreateOptions{}))(t)

	w.step(t, "is not deleted though it may be, and the status names one of them", func(t *testing.T) {
		w.text = w.configMap("a", "1")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneFailed, true, "Namespace/"+name+": not deleted: ConfigMap/"+name+"/theirs is in it")
		wantEqual(t, "phase", must(namespaces.Get(t.Context(), name, metav1.GetOptions{}))(t).Status.Phase, corev1.NamespaceActive)
	})
	w.step(t, "is let go when the target is deleted", func(t *testing.T) {
		w.text = w.configMap("a", "1") + own
		w.converge(false)
		if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
			t.Fatal(err)
		}
		ns := must(namespaces.Get(t.Context(), name, metav1.GetOptions{}))(t)
		wantEqual(t, "phase and label", string(ns.Status.Phase)+ns.Labels[deploy.LabelTarget], "Active")
		must(inside.Get(t.Context(), "theirs", metav1.GetOptions{}))(t)
	})
	w.step(t, "goes when they have gone", func(t *testing.T) {
		w.converge(true)
		if err := inside.Delete(t.Context(), "theirs", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		w.text = w.configMap("a", "1")
		testAwait(t, func() error {
			_, err := w.run(t.Context(), false)
			return err
		})
		_, err := namespaces.Get(t.Context(), name, metav1.GetOptions{})
		wantEqual(t, "it is gone", apierrors.IsNotFound(err), true)
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
	})
}

func TestDeadlineNamesObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1")
	w.interfere(lostPatches)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := w.run(ctx, false)
	wantFailure(t, err, deploy.ReasonTimeout, false, "context deadline exceeded", "/a: no route")
}
