package build_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/deploy"
)

// marked are the secret fields of objects, by kind/name.
func marked(objects []*unstructured.Unstructured) map[string]string {
	out := make(map[string]string)
	for _, o := range objects {
		if a, ok := o.GetAnnotations()[deploy.AnnotationSecretFields]; ok {
			out[o.GetKind()+"/"+o.GetName()] = a
		}
	}
	return out
}

func TestFieldsFilledFromVariables(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "site.env")
	if err := os.WriteFile(dir, []byte("site=canary-site\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := build.New(build.Options{Read: holders{
		"Secret/ns/s":    {"token": []byte("canary-4711"), "port": []byte("8443"), "list": []byte("[canary, b]"), "over": []byte("canary"), "empty": nil},
		"ConfigMap/ns/c": {"over": []byte("public"), "open": []byte("public")},
	}.read})
	post := &deploy.PostBuild{
		Substitute:     map[string]string{"plain": "public"},
		SubstituteFrom: []deploy.SubstituteFrom{{Kind: "Secret", Name: "s"}, {Kind: "ConfigMap", Name: "c"}, {File: dir}},
	}
	for _, tc := range []struct{ name, manifest, want string }{
		{"no secret", "spec: {a: '${plain}', b: '${open}', c: text, d: '$${token}'}", ""},
		{"a text", "spec: {a: 'x ${token}', b: 1}", "/spec/a"},
		{"an item of a list", "spec: {ports: [{name: x, port: '${port}'}, {port: 2}], args: [a, '--token=${token}']}", "/spec/args/*,/spec/ports/*/port"},
		{"a value that becomes a list", "spec: {a: '${list}'}", "/spec/a"},
		{"a part of a value", "spec: {a: '${token:0:3}', b: '${token##*-}', c: '${token/a/b}'}", "/spec/a,/spec/b,/spec/c"},
		{"a value in another case, and its length", "spec: {a: '${token^^}', b: '${#token}'}", "/spec/a,/spec/b"},
		{"a default of another variable", "spec: {a: '${none:-x${token}}', b: '${plain:-${plain}}'}", "/spec/a"},
		{"what takes the place of an empty one", "spec: {a: '${empty:-x}'}", "/spec/a"},
		{"a variable of a file", "spec: {a: '${site}'}", "/spec/a"},
		{"a secret whose name a ConfigMap has too", "spec: {a: '${over}'}", ""},
		{"a key: all of the map that it is in", "spec: {a: {'${token}': 1, b: 2}, '${plain}': 1}", "/spec/a"},
		{"below a key that a variable makes", "spec: {'${plain}/x': {a: '${token}'}}", "/spec/public~1x/a"},
		{"labels and annotations", "metadata: {name: t, labels: {a: '${token}'}, annotations: {a.b/c: '${token}'}}", "/metadata/annotations/a.b~1c,/metadata/labels/a"},
		{"names, which are shown", "metadata: {name: 'n-${token}', namespace: 'n-${token}'}", ""},
		{"beside what the artifact says itself", "metadata: {name: t, annotations: {towline.dev/secret-fields: /spec/own}}\nspec: {a: '${token}', own: 1}", "/spec/a,/spec/own"},
		{"the data of a Secret, which is secret anyway", "kind: Secret\nstringData: {a: '${token}'}\ndata: {'${plain}': x}", ""},
		{"other fields of a Secret", "kind: Secret\nmetadata: {name: t, labels: {a: '${token}'}}\nstringData: {a: '${token}'}", "/metadata/labels/a"},
		{"an object that is no Secret though it is called so", "apiVersion: other/v1\nkind: Secret\ndata: {a: '${token}'}", "/data/a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			manifest := tc.manifest + "\n"
			for key, line := range map[string]string{"metadata:": "metadata: {name: t}\n", "kind:": "kind: Thing\n", "apiVersion:": "apiVersion: v1\n"} {
				if !strings.HasPrefix(manifest, key) && !strings.Contains(manifest, "\n"+key) {
					manifest = line + manifest
				}
			}
			o, err := built(t, b, manifest, post)
			if err != nil {
				t.Fatal(err)
			}
			got := (&unstructured.Unstructured{Object: o}).GetAnnotations()[deploy.AnnotationSecretFields]
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if strings.Contains(got, "canary") {
				t.Error("it shows the value")
			}
		})
	}
	t.Run("commonMetadata does not take it away", func(t *testing.T) {
		spec := deploy.KustomizationSpec{PostBuild: post, NamePrefix: "p-", CommonMetadata: &deploy.CommonMetadata{Annotations: map[string]string{deploy.AnnotationSecretFields: "/spec/common"}}}
		objects, err := b.Build(t.Context(), target(spec), write(t, files{
			"kustomization.yaml": "configMapGenerator: [{name: g, literals: ['a=${token}', b=c]}]\nresources: [d.yaml]\n",
			"d.yaml":             "apiVersion: v1\nkind: Pod\nmetadata: {name: d}\nspec: {volumes: [{name: v, configMap: {name: g}}]}\n",
		}))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"ConfigMap/" + objects[1].GetName(): "/data/a,/spec/common", "Pod/p-d": "/spec/common"}
		if d := cmp.Diff(want, marked(objects)); d != "" {
			t.Error(d)
		}
	})
}

// generated is what kustomize puts around a name.
var generated = regexp.MustCompile(`p-|(g)-[a-z0-9]{10}$`)

func TestFieldsFilledFromEncryptedFiles(t *testing.T) {
	env, blob := sopsFile(t, "encrypted/app.env"), sopsFile(t, "encrypted/note.txt")
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: d}\nspec: {volumes: [{name: v, configMap: {name: g}}, {name: s, secret: {secretName: h}}]}\n"
	thing := strings.Replace(sopsFile(t, "encrypted/maconly.yaml"), "kind: Secret", "kind: Thing", 1) // its sum is over what is encrypted only
	for _, tc := range []struct {
		name  string
		files files
		spec  deploy.KustomizationSpec
		want  map[string]string
	}{
		{"Secrets alone", files{"s.yaml": sopsFile(t, "encrypted/regex.yaml"), "c.yaml": configMap("c")}, deploy.KustomizationSpec{}, map[string]string{}},
		{"a Secret that is encrypted as a whole", files{"s.yaml": sopsFile(t, "encrypted/age.yaml")}, deploy.KustomizationSpec{NamePrefix: "p-"}, map[string]string{"Secret/database": "/type"}},
		{"a file that nothing lists", files{"s.yaml": thing, "c.yaml": configMap("c")}, deploy.KustomizationSpec{}, map[string]string{"Thing/database": "/stringData/password,/stringData/user"}},
		{"a patch", files{"p.yaml": thing, "s.yaml": "apiVersion: v1\nkind: Thing\nmetadata: {name: database, namespace: shop}\nspec: {open: x}\n", "kustomization.yaml": "resources: [s.yaml]\npatches: [{path: p.yaml}]"},
			deploy.KustomizationSpec{}, map[string]string{"Thing/database": "/stringData/password,/stringData/user"}},
		{"an object whose keys variables change", files{"s.yaml": strings.Replace(thing, "metadata:", "${k}: {x: y}\nmetadata:", 1), "c.yaml": configMap("c")},
			deploy.KustomizationSpec{PostBuild: &deploy.PostBuild{Substitute: map[string]string{"k": "spec"}}}, map[string]string{"Thing/database": "/stringData/password,/stringData/user"}},
		{"a build that needs to know what was encrypted", files{"p.yaml": sopsFile(t, "encrypted/note.txt"), "c.yaml": configMap("c"), "s.yaml": thing, "kustomization.yaml": `
resources: [c.yaml, s.yaml]
patches: [{patch: "- {op: test, path: /stringData/user, value: shop}\n- {op: add, path: /spec, value: x}", target: {kind: Thing}}]
`}, deploy.KustomizationSpec{}, map[string]string{"ConfigMap/c": "/", "Thing/database": "/"}},
		{"what generators make, and not what refers to it by its name", files{"app.env": env, "d.yaml": pod, "kustomization.yaml": `
resources: [d.yaml]
configMapGenerator: [{name: g, envs: [app.env], literals: [open=x]}]
secretGenerator: [{name: h, envs: [app.env]}]
`}, deploy.KustomizationSpec{NamePrefix: "p-"}, map[string]string{"ConfigMap/g": "/data/MULTI,/data/PASSWORD,/data/QUOTED,/data/USER"}},
		{"a file of other text", files{"n.txt": blob, "kustomization.yaml": "configMapGenerator: [{name: g, files: [n.txt], literals: [open=x]}]"}, deploy.KustomizationSpec{}, map[string]string{"ConfigMap/g": "/data/n.txt"}},
		{"what replacements copy, and parts of it", files{"app.env": env, "c.yaml": configMap("c") + "data: {all: x, part: 'a-b', not: x}\n", "kustomization.yaml": `
resources: [c.yaml]
generatorOptions: {disableNameSuffixHash: true}
configMapGenerator: [{name: g, envs: [app.env]}]
replacements:
- source: {kind: ConfigMap, name: g, fieldPath: data.PASSWORD}
  targets: [{select: {name: c}, fieldPaths: [data.all]}]
- source: {kind: ConfigMap, name: g, fieldPath: data.PASSWORD, options: {delimiter: '=', index: 0}}
  targets: [{select: {name: c}, fieldPaths: [data.part], options: {delimiter: '-', index: 1}}]
`}, deploy.KustomizationSpec{}, map[string]string{"ConfigMap/g": "/data/MULTI,/data/PASSWORD,/data/QUOTED,/data/USER", "ConfigMap/c": "/data/all,/data/part"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := tc.spec
			spec.Decryption = decryptWith("keys")
			objects, err := build.New(withKeys(t)).Build(t.Context(), target(spec), write(t, tc.files))
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]string)
			for id, fields := range marked(objects) {
				got[generated.ReplaceAllString(id, "$1")] = fields
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// BenchmarkSubstitute is what variables cost a target of 10,000 objects.
func BenchmarkSubstitute(b *testing.B) {
	const count = 10_000
	var text strings.Builder
	for i := range count {
		fmt.Fprintf(&text, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d}\ndata: {a: '${v}', b: text, c: {d: [1, 2]}}\n---\n", i)
	}
	dir := write(b, files{"a.yaml": text.String()})
	read := holders{"Secret/ns/s": {"v": []byte("x")}, "ConfigMap/ns/s": {"v": []byte("x")}}.read
	for _, kind := range []string{"none", "ConfigMap", "Secret"} {
		b.Run(kind, func(b *testing.B) {
			spec := deploy.KustomizationSpec{}
			if kind != "none" {
				spec.PostBuild = &deploy.PostBuild{SubstituteFrom: []deploy.SubstituteFrom{{Kind: kind, Name: "s"}}}
			}
			for b.Loop() {
				if _, err := build.New(build.Options{Read: read}).Build(b.Context(), target(spec), dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
