package helm

import (
	"context"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/towline/towline/internal/deploy"
)

func TestDroppedCRD(t *testing.T) {
	e := newEnv(t)
	group := strings.ReplaceAll(e.ns, "-", "") + ".dropped.example.org"
	client := dynamic.NewForConfigOrDie(e.config)
	crds := client.Resource(apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions"))
	t.Cleanup(func() {
		if err := crds.Delete(context.Background(), "ships."+group, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Log(err)
		}
	})
	ships := client.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "ships"}).Namespace(e.ns)
	with := e.revision(plain("1.0.0", map[string]string{"crd": strings.ReplaceAll(shipCRD, "GROUP", group), "m": configMapNamed("m")}))
	without := e.revision(plain("1.1.0", map[string]string{"m": configMapNamed("m")}))
	target := e.target("")
	exists := func() bool {
		t.Helper()
		_, err := crds.Get(t.Context(), "ships."+group, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		return err == nil
	}
	e.bring(target, with)
	for _, name := range []string{"a", "b"} {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": group + "/v1", "kind": "Ship", "metadata": map[string]any{"name": name}}}
		_, err := ships.Create(t.Context(), u, metav1.CreateOptions{})
		e.must(err)
	}
	t.Run("an upgrade that would delete people's objects is refused", func(t *testing.T) {
		_, err := e.run(t.Context(), target, without, false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "CustomResourceDefinition.apiextensions.k8s.io/ships."+group+" is not part of the chart any more, and 2 objects of its kind would be deleted")
		wantEqual(t, "the CRD is there", exists(), true)
	})
	t.Run("and done once they are gone", func(t *testing.T) {
		for _, name := range []string{"a", "b"} {
			e.must(ships.Delete(t.Context(), name, metav1.DeleteOptions{}))
		}
		e.bring(target, without)
		for deadline := time.Now().Add(limit); exists(); time.Sleep(20 * time.Millisecond) { // the server empties it first
			if time.Now().After(deadline) {
				t.Fatal("the CRD is still there")
			}
		}
	})
}
