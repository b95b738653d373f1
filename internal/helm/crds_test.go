package helm

import (
	"context"
	"errors"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

func crd(group, field string) string {
	return `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.` + group + `}
spec:
  group: ` + group + `
  names: {kind: Widget, plural: widgets, singular: widget}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {` + field + `: {type: string}}}}}}
status: {acceptedNames: {kind: "", plural: ""}, conditions: null, storedVersions: null}
`
}

func TestCRDs(t *testing.T) {
	e := newEnv(t)
	group := strings.ReplaceAll(e.ns, "-", "") + ".example.org"
	crds := dynamic.NewForConfigOrDie(e.config).Resource(apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions"))
	t.Cleanup(func() {
		if err := crds.Delete(context.Background(), "widgets."+group, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Log(err)
		}
	})
	field := func() string {
		t.Helper()
		u, err := crds.Get(t.Context(), "widgets."+group, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "none"
		}
		e.must(err)
		var c apiextensionsv1.CustomResourceDefinition
		e.must(runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &c))
		for name := range c.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties {
			return name
		}
		return "no field"
	}
	chart := func(version, field string) deploy.Revision {
		return e.revision(testenv.Chart("web", version, map[string]string{
			"crds/widget.yaml": crd(group, field),
			"templates/widget.yaml": "{{ if .Capabilities.APIVersions.Has \"" + group + "/v1\" }}\napiVersion: " + group +
				"/v1\nkind: Widget\nmetadata: {name: w}\nspec: {}\n{{ end }}\n",
			"templates/a.yaml": configMapNamed("a"),
		}))
	}
	install := func(p deploy.CRDsPolicy) func(*deploy.HelmReleaseSpec) {
		return func(s *deploy.HelmReleaseSpec) { s.Install = &deploy.Install{CRDs: p} }
	}
	upgrade := func(p deploy.CRDsPolicy) func(*deploy.HelmReleaseSpec) {
		return func(s *deploy.HelmReleaseSpec) { s.Upgrade = &deploy.Upgrade{CRDs: p} }
	}

	t.Run("Skip installs none", func(t *testing.T) {
		target := e.target("", install(deploy.CRDsSkip))
		e.bring(target, chart("1.0.0", "one"))
		wantEqual(t, "field", field(), "none")
		e.must(e.engine.Delete(t.Context(), target, nil))
	})
	t.Run("Create, the default, installs them, and the same chart can use them", func(t *testing.T) {
		e.bring(e.target(""), chart("1.0.0", "one"))
		wantEqual(t, "field", field(), "one")
		if got := e.last(e.ns, "web").Manifest; !strings.Contains(got, "kind: Widget") {
			t.Errorf("the templates did not see the new kind:\n%s", got)
		}
	})
	t.Run("an upgrade leaves them alone by default", func(t *testing.T) {
		e.bring(e.target(""), chart("1.1.0", "two"))
		wantEqual(t, "field", field(), "one")
	})
	t.Run("Create does not replace", func(t *testing.T) {
		e.bring(e.target("", upgrade(deploy.CRDsCreate)), chart("1.2.0", "two"))
		wantEqual(t, "field", field(), "one")
	})
	t.Run("CreateReplace replaces", func(t *testing.T) {
		e.bring(e.target("", upgrade(deploy.CRDsCreateReplace)), chart("1.3.0", "two"))
		wantEqual(t, "field", field(), "two")
	})
	t.Run("an uninstallation never deletes them", func(t *testing.T) {
		e.must(e.engine.Delete(t.Context(), e.target(""), nil))
		wantEqual(t, "field", field(), "two")
	})
	t.Run("a release can be uninstalled when its CRD is gone already", func(t *testing.T) {
		e.bring(e.target(""), chart("1.0.0", "two"))
		e.must(crds.Delete(t.Context(), "widgets."+group, metav1.DeleteOptions{}))
		testenv.Await(t, limit, "CRD gone", func() error {
			_, err := crds.Get(t.Context(), "widgets."+group, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err == nil {
				return errors.New("still there")
			}
			return err
		})
		e.restart()
		e.must(e.engine.Delete(t.Context(), e.target(""), nil))
		wantEqual(t, "objects", e.configMaps(e.ns), "")
		wantEqual(t, "history", e.history(e.ns, "web"), "release: not found")
	})
}
