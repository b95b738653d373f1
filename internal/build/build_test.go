package build_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/deploy"
)

// files are the content of an artifact by path.
type files map[string]string

// write unpacks files into a folder.
func write(t testing.TB, f files) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range f {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func target(spec deploy.KustomizationSpec) deploy.Target {
	return deploy.Target{Name: deploy.Name{Kind: deploy.KindKustomization, Namespace: "ns", Name: "app"}, Kustomization: &spec}
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n"
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "nginx:1.0"}]}
`

func ids(objects []*unstructured.Unstructured) []string {
	var out []string
	for _, o := range objects {
		out = append(out, deploy.IDOf(o).String())
	}
	return out
}

func TestBuildFindsObjects(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files files
		spec  deploy.KustomizationSpec
		want  []string
	}{
		{"of all .yaml and .yml files below the path, in the order of their names",
			files{"b.yaml": configMap("b"), "a.yml": configMap("a"), "c/d.yaml": configMap("d"), "notes.txt": "no", "x.json": "{}"}, deploy.KustomizationSpec{},
			[]string{"ConfigMap/a", "ConfigMap/b", "ConfigMap/d"}},
		{"of a path only", files{"app/a.yaml": configMap("a"), "b.yaml": configMap("b")}, deploy.KustomizationSpec{Path: "./app"}, []string{"ConfigMap/a"}},
		{"of a path that begins with a slash", files{"app/a.yaml": configMap("a")}, deploy.KustomizationSpec{Path: "/app/"}, []string{"ConfigMap/a"}},
		{"that a kustomization.yaml lists", files{"kustomization.yaml": "resources: [a.yaml]", "a.yaml": configMap("a"), "b.yaml": configMap("b")}, deploy.KustomizationSpec{},
			[]string{"ConfigMap/a"}},
		{"that a Kustomization file lists", files{"Kustomization": "resources: [a.yaml]", "a.yaml": configMap("a")}, deploy.KustomizationSpec{}, []string{"ConfigMap/a"}},
		{"that a kustomization.yml lists", files{"kustomization.yml": "resources: [a.yaml]", "a.yaml": configMap("a")}, deploy.KustomizationSpec{}, []string{"ConfigMap/a"}},
		{"of a subfolder with a kustomization of its own as that says",
			files{"a.yaml": configMap("a"), "sub/kustomization.yaml": "resources: [b.yaml]\nnamePrefix: sub-", "sub/b.yaml": configMap("b"), "sub/deep/c.yaml": configMap("c")},
			deploy.KustomizationSpec{}, []string{"ConfigMap/a", "ConfigMap/sub-b"}},
		{"of bases beside the path", files{"base/kustomization.yaml": "resources: [a.yaml]", "base/a.yaml": configMap("a"), "overlays/prod/kustomization.yaml": "resources: [../../base]\nnamePrefix: prod-"},
			deploy.KustomizationSpec{Path: "overlays/prod"}, []string{"ConfigMap/prod-a"}},
		{"of files beside the path", files{"shared.yaml": configMap("a"), "app/kustomization.yaml": "resources: [../shared.yaml]"}, deploy.KustomizationSpec{Path: "app"}, []string{"ConfigMap/a"}},
		{"inside of lists", files{"a.yaml": `{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}, {apiVersion: v1, kind: ConfigMapList, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}]}]}`},
			deploy.KustomizationSpec{}, []string{"ConfigMap/a", "ConfigMap/b"}},
		{"between empty documents", files{"a.yaml": "---\n# nothing\n---\n" + configMap("a") + "---\n\n---\n" + configMap("b"), "empty.yaml": "", "comment.yaml": "# nothing\n"}, deploy.KustomizationSpec{},
			[]string{"ConfigMap/a", "ConfigMap/b"}},
		{"nowhere in an empty artifact", files{"README.md": "nothing here"}, deploy.KustomizationSpec{}, nil},
		{"nowhere in an empty artifact, with changes on top", files{"README.md": "nothing here"}, deploy.KustomizationSpec{NamePrefix: "x-"}, nil},
		{"of generators", files{"kustomization.yaml": "configMapGenerator: [{name: g, files: [f.txt]}]\ngeneratorOptions: {disableNameSuffixHash: true}", "f.txt": "x"}, deploy.KustomizationSpec{}, []string{"ConfigMap/g"}},
		{"of components", files{"kustomization.yaml": "resources: [a.yaml]\ncomponents: [c]", "a.yaml": configMap("a"), "c/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnameSuffix: -c"},
			deploy.KustomizationSpec{}, []string{"ConfigMap/a-c"}},
		{"with the names and the namespace of the spec, which kustomize gives Namespaces too", files{"a.yaml": deployment + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n"},
			deploy.KustomizationSpec{TargetNamespace: "prod", NamePrefix: "p-", NameSuffix: "-s"}, []string{"Deployment.apps/prod/p-web-s", "Namespace/prod"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			objects, err := build.Builder{}.Build(t.Context(), target(tc.spec), write(t, tc.files))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, ids(objects)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestBuildChangesObjects(t *testing.T) {
	for _, tc := range []struct {
		name string
		spec deploy.KustomizationSpec
		path []string
		want any
	}{
		{"by strategic merge patches", deploy.KustomizationSpec{Patches: []deploy.Patch{{Patch: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 5}\n"}}},
			[]string{"spec", "replicas"}, int64(5)},
		{"by strategic merge patches that keep lists by key", deploy.KustomizationSpec{Patches: []deploy.Patch{{Target: &deploy.Selector{Kind: "Deployment"},
			Patch: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: any}\nspec: {template: {spec: {containers: [{name: web, tty: true}]}}}\n"}}},
			[]string{"spec", "template", "spec", "containers"}, []any{map[string]any{"image": "nginx:1.0", "name": "web", "tty": true}}},
		{"by JSON 6902 patches with a target", deploy.KustomizationSpec{Patches: []deploy.Patch{{Patch: `[{"op": "replace", "path": "/spec/replicas", "value": 7}]`,
			Target: &deploy.Selector{Group: "apps", Kind: "Deployment", Name: "web", LabelSelector: "app=web"}}}}, []string{"spec", "replicas"}, int64(7)},
		{"by JSON 6902 patches in YAML's flow style", deploy.KustomizationSpec{Patches: []deploy.Patch{{Patch: `[{op: replace, path: /spec/replicas, value: 7}]`, Target: &deploy.Selector{Kind: "Deployment"}}}},
			[]string{"spec", "replicas"}, int64(7)},
		{"by images", deploy.KustomizationSpec{Images: []deploy.Image{{Name: "nginx", NewName: "r.example/nginx", NewTag: "2.0"}}},
			[]string{"spec", "template", "spec", "containers"}, []any{map[string]any{"image": "r.example/nginx:2.0", "name": "web"}}},
		{"by common metadata, on the object", deploy.KustomizationSpec{CommonMetadata: &deploy.CommonMetadata{Labels: map[string]string{"team": "a", "app": "over"}}},
			[]string{"metadata", "labels"}, map[string]any{"app": "over", "team": "a"}},
		{"by common metadata, not in templates", deploy.KustomizationSpec{CommonMetadata: &deploy.CommonMetadata{Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"b": "c"}}},
			[]string{"spec", "template", "metadata"}, map[string]any{"labels": map[string]any{"app": "web"}}},
	} {
		for kind, f := range map[string]files{
			"plain files":     {"a.yaml": deployment},
			"a kustomization": {"kustomization.yaml": "resources: [d.yaml]", "d.yaml": deployment},
		} {
			t.Run(tc.name+", of "+kind, func(t *testing.T) {
				objects, err := build.Builder{}.Build(t.Context(), target(tc.spec), write(t, f))
				if err != nil {
					t.Fatal(err)
				}
				got, _, err := unstructured.NestedFieldCopy(objects[0].Object, tc.path...)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(tc.want, got); d != "" {
					t.Error(d)
				}
			})
		}
	}
}

func TestBuildKeepsValues(t *testing.T) {
	const text = "apiVersion: v1\nkind: Thing\nmetadata: {name: a, generation: 3}\nspec:\n  big: 9007199254740993\n  float: 1.5\n  octal: \"0644\"\n  word: yes\n  version: \"1.10\"\n  no: {On: true}\n"
	want := map[string]any{
		"big": int64(9007199254740993), "float": 1.5, "octal": "0644", "word": "yes", "version": "1.10", "no": map[string]any{"On": true},
	}
	for name, spec := range map[string]deploy.KustomizationSpec{"as they are": {}, "through kustomize": {NameSuffix: "-x"}} {
		t.Run(name, func(t *testing.T) {
			objects, err := build.Builder{}.Build(t.Context(), target(spec), write(t, files{"a.yaml": text}))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, objects[0].Object["spec"]); d != "" {
				t.Error(d)
			}
			if objects[0].GetGeneration() != 3 {
				t.Errorf("the generation is %v", objects[0].Object["metadata"])
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: canary-4711}\n"
	for _, tc := range []struct {
		name  string
		files files
		spec  deploy.KustomizationSpec
		want  string
	}{
		{"a path that is not there", files{"app/a.yaml": "", "b.yaml": ""}, deploy.KustomizationSpec{Path: "ap"}, `path "ap" is not in the artifact: its root has app/, b.yaml`},
		{"a path that is a file", files{"a.yaml": ""}, deploy.KustomizationSpec{Path: "a.yaml"}, `path "a.yaml" is a file: give the folder that it is in`},
		{"a path that leaves", files{}, deploy.KustomizationSpec{Path: "../x"}, `path "../x" leaves the artifact: give a path below its root`},
		{"YAML that is none", files{"a.yaml": "a: [\n"}, deploy.KustomizationSpec{}, "a.yaml is not YAML: yaml: line 1: did not find expected node content"},
		{"an object without a kind", files{"sub/a.yaml": configMap("a") + "---\napiVersion: v1\nmetadata: {name: x}\n"}, deploy.KustomizationSpec{},
			"sub/a.yaml, document 2: not a Kubernetes object: it has no kind: remove it from the path, or list the files that count in a kustomization.yaml"},
		{"values of a chart among the files", files{"values.yaml": "replicaCount: 2\n"}, deploy.KustomizationSpec{},
			"values.yaml: not a Kubernetes object: it has no apiVersion: remove it from the path, or list the files that count in a kustomization.yaml"},
		{"a list of something", files{"a.yaml": "[1, 2]\n"}, deploy.KustomizationSpec{},
			"a.yaml: not a Kubernetes object: it is not a map: remove it from the path, or list the files that count in a kustomization.yaml"},
		{"an item of a list, counted as its field is", files{"a.yaml": "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}, text]}"}, deploy.KustomizationSpec{},
			"a.yaml: items[1] of the List: not a Kubernetes object: it is not a map: remove it from the path, or list the files that count in a kustomization.yaml"},
		{"an object without a name", files{"a.yaml": "apiVersion: v1\nkind: ConfigMap\n"}, deploy.KustomizationSpec{}, "a.yaml: a ConfigMap has no metadata.name"},
		{"a name that the server would make up", files{"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x-}\n"}, deploy.KustomizationSpec{},
			"a.yaml: a ConfigMap has a generateName: an object that is kept in place needs a name"},
		{"an object without a name in a listed file", files{"kustomization.yaml": "resources: [a.yaml]", "a.yaml": "apiVersion: v1\nkind: ConfigMap\n"}, deploy.KustomizationSpec{}, "a.yaml: a ConfigMap has no metadata.name"},
		{"one object in two files", files{"a.yaml": configMap("x"), "b.yaml": configMap("x")}, deploy.KustomizationSpec{}, "ConfigMap/x is in a.yaml and in b.yaml: remove one of them"},
		{"one object twice in a file", files{"a.yaml": configMap("x") + "---\n" + configMap("x")}, deploy.KustomizationSpec{}, "ConfigMap/x is in a.yaml twice: remove one of them"},
		{"one object in two listed files", files{"kustomization.yaml": "resources: [a.yaml, b.yaml]", "a.yaml": configMap("x"), "b.yaml": configMap("x")}, deploy.KustomizationSpec{}, "ConfigMap/x is in a.yaml and in b.yaml: remove one of them"},
		{"one object in two versions", files{"kustomization.yaml": "resources: [a, b]", "a/kustomization.yaml": "resources: [d.yaml]", "a/d.yaml": deployment, "b/kustomization.yaml": "resources: [d.yaml]", "b/d.yaml": strings.Replace(deployment, "apps/v1", "apps/v1beta1", 1)},
			deploy.KustomizationSpec{}, "one object is there twice, as Deployment.apps/web (apps/v1) and as Deployment.apps/web (apps/v1beta1): remove one of them"},
		{"objects that the target namespace makes one", files{"a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: a}\nstringData: {p: canary-4711}\n", "b.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: b}\n"},
			deploy.KustomizationSpec{TargetNamespace: "x"}, "Secret/b/s is in a.yaml and in b.yaml: remove one of them"},
		{"two kustomization files", files{"kustomization.yaml": "", "kustomization.yml": ""}, deploy.KustomizationSpec{}, "kustomization.yaml and kustomization.yml are both there: keep one of them"},
		{"an unknown field of a kustomization", files{"kustomization.yaml": "resource: [a.yaml]"}, deploy.KustomizationSpec{}, `kustomization.yaml: invalid Kustomization: json: unknown field "resource"`},
		{"a listed file that is not there", files{"sub/kustomization.yaml": "resources: [a.yaml]"}, deploy.KustomizationSpec{Path: "sub"}, "sub/kustomization.yaml: resources: a.yaml is not in the artifact"},
		{"a listed folder without a kustomization", files{"kustomization.yaml": "resources: [sub]", "sub/a.yaml": configMap("a")}, deploy.KustomizationSpec{}, "sub is listed but has no kustomization.yaml: add one, or list its files"},
		{"a base outside", files{"kustomization.yaml": "resources: [../base]"}, deploy.KustomizationSpec{}, "kustomization.yaml: resources: ../base is outside of the artifact: put what you need into the artifact"},
		{"an absolute path", files{"kustomization.yaml": "resources: [/etc/passwd]"}, deploy.KustomizationSpec{}, "kustomization.yaml: resources: /etc/passwd is outside of the artifact: put what you need into the artifact"},
		{"a remote file", files{"kustomization.yaml": "resources: ['https://example.com/a.yaml']"}, deploy.KustomizationSpec{},
			"kustomization.yaml: resources: https://example.com/a.yaml is not in the artifact, and nothing is fetched from elsewhere: put it into the artifact"},
		{"charts in a kustomization", files{"kustomization.yaml": "helmCharts: [{name: x, repo: 'https://example.com'}]"}, deploy.KustomizationSpec{}, "kustomization.yaml: charts are not inflated here: use a helmRelease"},
		{"plugins that are programs", files{"kustomization.yaml": "resources: [a.yaml]\ntransformers: [t.yaml]", "a.yaml": configMap("a"), "t.yaml": "apiVersion: x/v1\nkind: Y\nmetadata: {name: z, annotations: {config.kubernetes.io/function: 'exec: {path: ./x}'}}\n"},
			deploy.KustomizationSpec{}, "kustomize: recursed accumulation of path 'the artifact's root': external plugins disabled; unable to load external plugin 'Y'"},
		{"a generator that reads outside", files{"kustomization.yaml": "configMapGenerator: [{name: g, files: [../../../../etc/passwd]}]"}, deploy.KustomizationSpec{}, "kustomize: recursed accumulation of path 'the artifact's root': loading KV pairs: file sources: [../../../../etc/passwd]: /etc/passwd is outside of the artifact"},
		{"a patch for nothing that is there", files{"a.yaml": configMap("a")}, deploy.KustomizationSpec{Patches: []deploy.Patch{{Patch: deployment}}}, `kustomize: no resource matches strategic merge patch "Deployment.v1.apps/web.[noNs]": no matches for Id Deployment.v1.apps/web.[noNs]; failed to find unique target for patch Deployment.v1.apps/web.[noNs]`},
		{"a cycle of bases", files{"a/kustomization.yaml": "resources: [../b]", "b/kustomization.yaml": "resources: [../a]"}, deploy.KustomizationSpec{Path: "a"}, "cycle detected"},
		{"a patch that is none, without showing it", files{"a.yaml": secret}, deploy.KustomizationSpec{Patches: []deploy.Patch{{Patch: `[{"op": "what", "value": "canary-4711"}]`, Target: &deploy.Selector{Kind: "Secret"}}}}, "kustomize: "},
		{"a patch that is not YAML, without showing it", files{"a.yaml": secret}, deploy.KustomizationSpec{Patches: []deploy.Patch{{Patch: "{}"}, {Patch: "a: [canary-4711\n"}}}, "patches[1].patch is not YAML: yaml: line 1: did not find expected ',' or ']'"},
		{"a patch that is something else, without showing it", files{"a.yaml": secret}, deploy.KustomizationSpec{Patches: []deploy.Patch{{Patch: "password: canary-4711", Target: &deploy.Selector{Kind: "Secret"}}}}, "kustomize: "},
		{"a generator that wants what is not the artifact's", files{"kustomization.yaml": "configMapGenerator: [{name: g, files: [../overlay/kustomization.yaml]}]"}, deploy.KustomizationSpec{}, "/overlay/kustomization.yaml is outside of the artifact"},
		{"a literal that is none, without showing it", files{"kustomization.yaml": "secretGenerator: [{name: s, literals: [canary-4711]}]"}, deploy.KustomizationSpec{}, "kustomize: "},
		{"a value of the wrong type, without showing it", files{"a.yaml": strings.Replace(secret, "{name: s}", "canary-4711", 1)}, deploy.KustomizationSpec{}, "a.yaml: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := build.Builder{}.Build(t.Context(), target(tc.spec), write(t, tc.files))
			if err == nil {
				t.Fatal("it was built")
			}
			if got := err.Error(); !strings.Contains(got, tc.want) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows a secret: %s", err)
			}
		})
	}
}

func TestBuildRefusesEveryFormOfRemote(t *testing.T) {
	for _, ref := range []string{
		"github.com/org/repo", "GitHub.com/org/repo//deploy?ref=v1", "github.com:org/repo", "git@example.com:org/repo.git", "ssh://git@example.com/org/repo", "file:///etc",
		"git::https://example.com/org/repo", "HTTP://example.com/a.yaml", "https:example.com/a.yaml", "me@host/org/repo",
	} {
		t.Run(ref, func(t *testing.T) {
			quoted, err := json.Marshal(ref)
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range []string{"resources", "components", "bases", "generators", "transformers", "validators"} {
				dir := write(t, files{"kustomization.yaml": fmt.Sprintf("%s: [%s]", field, quoted), "github.com/org/repo/kustomization.yaml": "resources: []"})
				if _, err := (build.Builder{}).Build(t.Context(), target(deploy.KustomizationSpec{}), dir); err == nil || !strings.Contains(err.Error(), "nothing is fetched from elsewhere") {
					t.Errorf("%s: got %v", field, err)
				}
			}
		})
	}
	for name, text := range map[string]string{
		"crds":                  "crds: ['https://example.com/x']",
		"configurations":        "configurations: ['https://example.com/x']",
		"patch paths":           "patches: [{path: 'https://example.com/x'}]",
		"strategic merges":      "patchesStrategicMerge: ['https://example.com/x']",
		"generated files":       "configMapGenerator: [{name: g, files: ['k=https://example.com/x']}]",
		"generated environment": "secretGenerator: [{name: g, envs: ['https://example.com/x']}]",
		"schemas":               "openapi: {path: 'https://example.com/x'}",
		"replacements":          "replacements: [{path: 'https://example.com/x'}]",
		"inline plugins":        "generators: [\"apiVersion: builtin\\nkind: ConfigMapGenerator\\nmetadata: {name: g}\\nfiles: ['https://example.com/x']\\n\"]",
	} {
		t.Run("in "+name, func(t *testing.T) {
			_, err := build.Builder{}.Build(t.Context(), target(deploy.KustomizationSpec{}), write(t, files{"kustomization.yaml": text}))
			if err == nil || !strings.Contains(err.Error(), "nothing is fetched from elsewhere") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestBuildDoesNotFollowLinksOut(t *testing.T) {
	outside := write(t, files{"secret.yaml": configMap("outside"), "kustomization.yaml": "resources: [secret.yaml]"})
	link := func(t *testing.T, dir, to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		make func(*testing.T) (dir, path string)
	}{
		{"a path that is a link", func(t *testing.T) (string, string) {
			dir := write(t, nil)
			link(t, dir, outside, "out")
			return dir, "out"
		}},
		{"a manifest that is a link", func(t *testing.T) (string, string) {
			dir := write(t, nil)
			link(t, dir, filepath.Join(outside, "secret.yaml"), "a.yaml")
			return dir, ""
		}},
		{"a listed folder that is a link", func(t *testing.T) (string, string) {
			dir := write(t, files{"kustomization.yaml": "resources: [out]"})
			link(t, dir, outside, "out")
			return dir, ""
		}},
		{"a generator's file that is a link", func(t *testing.T) (string, string) {
			dir := write(t, files{"kustomization.yaml": "configMapGenerator: [{name: g, files: [out]}]"})
			link(t, dir, filepath.Join(outside, "secret.yaml"), "out")
			return dir, ""
		}},
		{"a link to a folder inside that would be skipped", func(t *testing.T) (string, string) {
			dir := write(t, files{"app/a.yaml": configMap("a"), "other/b.yaml": configMap("b")})
			link(t, filepath.Join(dir, "app"), "../other", "more")
			return dir, "app"
		}},
		{"folders that link to themselves", func(t *testing.T) (string, string) {
			dir := write(t, files{"kustomization.yaml": "resources: [self]"})
			link(t, dir, ".", "self")
			return dir, ""
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, path := tc.make(t)
			objects, err := build.Builder{}.Build(t.Context(), target(deploy.KustomizationSpec{Path: path}), dir)
			if err == nil {
				t.Errorf("it was built: %v", ids(objects))
			} else if strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), outside) {
				t.Errorf("the error names a place of this machine: %v", err)
			}
		})
	}
	t.Run("but links to files inside are read", func(t *testing.T) {
		dir := write(t, files{"x/a.txt": configMap("a")})
		link(t, dir, "x/a.txt", "a.yaml")
		objects, err := build.Builder{}.Build(t.Context(), target(deploy.KustomizationSpec{}), dir)
		if err != nil || len(objects) != 1 {
			t.Errorf("got %v, %v", ids(objects), err)
		}
	})
}

func TestBuildLeavesTheArtifactAlone(t *testing.T) {
	dir := write(t, files{"a.yaml": deployment, "sub/kustomization.yaml": "resources: [b.yaml]", "sub/b.yaml": configMap("b")})
	before := snapshot(t, dir)
	if _, err := (build.Builder{}).Build(t.Context(), target(deploy.KustomizationSpec{NamePrefix: "x-"}), dir); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, snapshot(t, dir)); d != "" {
		t.Error(d)
	}
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		out[p] = fmt.Sprint(info.Mode(), info.ModTime())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBuildEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := build.Builder{}.Build(ctx, target(deploy.KustomizationSpec{NamePrefix: "x-"}), write(t, files{"a.yaml": configMap("a")}))
	if err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("got %v", err)
	}
}

// A schema that one artifact brings must not reach another's build, at the same time or later.
func TestBuildsRunSideBySide(t *testing.T) {
	const schema = `{"definitions": {"v1.Thing": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "example.com", "kind": "Thing", "version": "v1"}],
		"properties": {"spec": {"type": "object", "properties": {"items": {"type": "array", "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge",
		"items": {"type": "object"}}}}}}}}`
	const thing = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t}\nspec: {items: [{name: a, x: 1}]}\n"
	const patch = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t}\nspec: {items: [{name: b}]}\n"
	with := write(t, files{"kustomization.yaml": "resources: [t.yaml]\nopenapi: {path: schema.json}\npatches: [{path: p.yaml}]", "t.yaml": thing, "p.yaml": patch, "schema.json": schema})
	without := write(t, files{"kustomization.yaml": "resources: [t.yaml]\npatches: [{path: p.yaml}]", "t.yaml": thing, "p.yaml": patch})
	broken := write(t, files{"kustomization.yaml": "resources: [t.yaml]\nopenapi: {path: schema.json}\npatches: [{path: p.yaml}]", "t.yaml": thing, "p.yaml": patch, "schema.json": "{"})
	native := write(t, files{"a.yaml": deployment})
	items := func(dir string) (int, error) {
		objects, err := build.Builder{}.Build(t.Context(), target(deploy.KustomizationSpec{}), dir)
		if err != nil {
			return 0, err
		}
		list, _, err := unstructured.NestedSlice(objects[0].Object, "spec", "items")
		return len(list), err
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if n, err := items(with); n != 2 || err != nil {
				t.Errorf("with its schema: %d items, %v; want 2", n, err)
			}
		})
		wg.Go(func() {
			if n, err := items(without); n != 1 || err != nil {
				t.Errorf("without a schema: %d items, %v; want 1", n, err)
			}
		})
		wg.Go(func() {
			if _, err := items(broken); err == nil {
				t.Error("a broken schema was taken")
			}
		})
		wg.Go(func() {
			spec := deploy.KustomizationSpec{TargetNamespace: "x", Patches: []deploy.Patch{{Patch: strings.Replace(deployment, "replicas: 2", "replicas: 3", 1)}}}
			if _, err := (build.Builder{}).Build(t.Context(), target(spec), native); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func BenchmarkBuild(b *testing.B) {
	f := files{}
	for i := range 4 {
		f[fmt.Sprintf("%d.yaml", i)] = strings.ReplaceAll(deployment, "web", fmt.Sprintf("web%d", i))
	}
	dir := write(b, f)
	for name, spec := range map[string]deploy.KustomizationSpec{"plain": {}, "namespace": {TargetNamespace: "x"}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (build.Builder{}).Build(b.Context(), target(spec), dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
