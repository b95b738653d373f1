package helm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// offline is a target and a revision without a cluster.
func offline(t *testing.T, values string, chart []byte) (deploy.Target, deploy.Revision) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "chart.tgz"), chart, 0o600); err != nil {
		t.Fatal(err)
	}
	return deploy.Target{
		Name:        deploy.Name{Kind: deploy.KindHelmRelease, Namespace: "apps", Name: "web"},
		HelmRelease: &deploy.HelmReleaseSpec{TargetNamespace: "prod", Values: deploy.Values(values)},
	}, deploy.Revision{Digest: "sha256:abc", Ref: "1.0", Dir: dir, File: "chart.tgz"}
}

const renderedHook = `apiVersion: batch/v1
kind: Job
metadata: {name: before, annotations: {helm.sh/hook: pre-install}}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}
`

func TestRender(t *testing.T) {
	files := map[string]string{
		"values.yaml":         "replicas: 1\nbig: 1\npassword: none\n",
		"crds/widget.yaml":    crd("example.org", "f"),
		"templates/z.yaml":    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}}\nspec: {replicas: {{ .Values.replicas }}}\n",
		"templates/b.yaml":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, labels: {mine: kept}}\ndata: {big: {{ .Values.big | quote }}, version: {{ .Chart.Version | replace \"+\" \"_\" }}}\n---\n# only a comment\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n",
		"templates/c.yaml":    "apiVersion: v1\nkind: Secret\nmetadata: {name: c}\nstringData: {old: {{ lookup \"v1\" \"Secret\" \"prod\" \"c\" | toJson | quote }}, kube: {{ .Capabilities.KubeVersion.Major | quote }}}\n",
		"templates/h.yaml":    renderedHook,
		"templates/_h.tpl":    "{{ define \"unused\" }}{{ end }}",
		"templates/NOTES.txt": "not: a manifest",
		"templates/no.yaml":   "{{ if .Values.never }}kind: ConfigMap{{ end }}",
	}
	render := func(t *testing.T, edit func(*deploy.HelmReleaseSpec)) []string {
		t.Helper()
		target, r := offline(t, `{"replicas":3,"big":1000000}`, testenv.Chart("web", "1.2.3", files))
		if edit != nil {
			edit(target.HelmRelease)
		}
		objects, err := Render(t.Context(), Options{}, target, r)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, o := range objects {
			out = append(out, deploy.IDOf(o).String())
			switch o.GetKind() {
			case "Deployment":
				wantEqual(t, "replicas", o.Object["spec"].(map[string]any)["replicas"].(int64), 3)
				wantEqual(t, "namespace", o.GetNamespace(), "prod")
				wantEqual(t, "name of the release", o.GetName(), "prod-web")
			case "ConfigMap":
				wantEqual(t, "its own label", o.GetLabels()["mine"], "kept")
				if d := cmp.Diff(map[string]any{"big": "1000000", "version": "1.2.3"}, o.Object["data"]); d != "" {
					t.Errorf("data (-want +got):\n%s", d)
				}
			case "Secret":
				wantEqual(t, "what lookup finds", o.Object["stringData"].(map[string]any)["old"].(string), "{}")
			}
			_, labelled := o.GetLabels()[deploy.LabelTarget]
			wantEqual(t, "label on "+o.GetKind(), labelled, o.GetKind() != "Job" && o.GetKind() != "CustomResourceDefinition")
		}
		return out
	}
	t.Run("says which fields are secret, of hooks too", func(t *testing.T) {
		files := map[string]string{"templates/h.yaml": strings.Replace(renderedHook, "image: a", "image: a, env: [{name: A, value: {{ .Values.password }}}]", 1)}
		target, r := offline(t, "", testenv.Chart("web", "1.2.3", files))
		target.HelmRelease.ValuesFrom = []deploy.ValuesFrom{{Kind: "Secret", Name: "s"}}
		objects, err := Render(t.Context(), Options{Read: held(map[string]map[string]string{"Secret/s": {"values.yaml": "password: swordfish"}})}, target, r)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "marked", objects[0].GetAnnotations()[deploy.AnnotationSecretFields], "/spec/template/spec/containers/*/env/*/value")
	})
	const widget = "CustomResourceDefinition.apiextensions.k8s.io/widgets.example.org"
	manifests := []string{"ServiceAccount/a", "Secret/c", "ConfigMap/b", "Deployment.apps/prod/prod-web"}
	t.Run("gives CRDs, manifests in the order of an installation, and hooks", func(t *testing.T) {
		want := append(append([]string{widget}, manifests...), "Job.batch/before")
		if d := cmp.Diff(want, render(t, nil)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
	t.Run("is the same every time", func(t *testing.T) {
		first := render(t, nil)
		for range 5 {
			if d := cmp.Diff(first, render(t, nil)); d != "" {
				t.Fatalf("(-first +later):\n%s", d)
			}
		}
	})
	t.Run("leaves out what an installation would: CRDs and hooks that are switched off", func(t *testing.T) {
		got := render(t, func(s *deploy.HelmReleaseSpec) {
			s.Install = &deploy.Install{CRDs: deploy.CRDsSkip, DisableHooks: true}
		})
		if d := cmp.Diff(manifests, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
	t.Run("keeps the order of more than ten documents", func(t *testing.T) {
		var doc strings.Builder
		var want []string
		for name := range strings.SplitSeq("abcdefghijklm", "") {
			doc.WriteString("---\n" + configMapNamed(name))
			want = append(want, "ConfigMap/"+name)
		}
		target, r := offline(t, "", plain("1.0.0", map[string]string{"all": doc.String()}))
		objects, err := Render(t.Context(), Options{}, target, r)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range objects {
			got = append(got, deploy.IDOf(o).String())
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

func TestRenderErrors(t *testing.T) {
	secret := "{\"password\":\"" + canary + "\"}"
	for _, tc := range []struct {
		name  string
		chart []byte
		want  string
	}{
		{"a template that fails", plain("1.0.0", map[string]string{"a": `{{ fail (printf "bad: %s" .Values.password) }}`}), "render chart plain: "},
		{"a template that cannot be parsed", plain("1.0.0", map[string]string{"a": `{{ if }}`}), "render chart plain: "},
		{"a rendered text that is no YAML", plain("1.0.0", map[string]string{"a": "a: {{ .Values.password }}: {\n"}), "render chart plain: "},
		{"a rendered text that is no object", plain("1.0.0", map[string]string{"a": "a: {{ .Values.password }}\n"}), "render chart plain: "},
		{"values against the schema", testenv.Chart("web", "1.0.0", map[string]string{"values.schema.json": `{"properties":{"password":{"type":"integer"}}}`}), "values of chart web: /password must be integer"},
		{"a library", testenv.Chart("lib", "1.0.0", map[string]string{"Chart.yaml": "apiVersion: v2\nname: lib\nversion: 1.0.0\ntype: library\n"}), "lib is a library chart"},
		{"something that is no archive", []byte("nothing"), "load the chart of 1.0@sha256:abc"},
	} {
		t.Run(tc.name+" is named by its chart, without paths of the cache and without values", func(t *testing.T) {
			target, r := offline(t, secret, tc.chart)
			_, err := Render(t.Context(), Options{}, target, r)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), r.Dir) || strings.Contains(err.Error(), canary) {
				t.Errorf("error %q: want %q in it, and neither %q nor %q", err, tc.want, r.Dir, canary)
			}
		})
	}
	t.Run("a context that has ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		target, r := offline(t, "", plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
		if _, err := Render(ctx, Options{}, target, r); err == nil {
			t.Error("no error")
		}
	})
}
