package build_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/deploy"
)

// component is a kustomization file of a component with more lines.
func component(more string) string {
	return "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n" + more + "\n"
}

func TestComponents(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files files
		spec  deploy.KustomizationSpec
		want  []string
	}{
		{"change plain files", files{"app/a.yaml": configMap("a"), "c/kustomization.yaml": component("nameSuffix: -c")},
			deploy.KustomizationSpec{Path: "app", Components: []string{"../c"}}, []string{"ConfigMap/a-c"}},
		{"change what a kustomization lists", files{"app/kustomization.yaml": "resources: [a.yaml]", "app/a.yaml": configMap("a"), "c/kustomization.yaml": component("nameSuffix: -c")},
			deploy.KustomizationSpec{Path: "app", Components: []string{"../c"}}, []string{"ConfigMap/a-c"}},
		{"come in their order", files{"a.yaml": configMap("a"), "c/kustomization.yaml": component("nameSuffix: -c"), "d/kustomization.yaml": component("nameSuffix: -d")},
			deploy.KustomizationSpec{Components: []string{"d", "./c"}}, []string{"ConfigMap/a-d-c"}},
		{"come before the changes of the spec", files{"a.yaml": configMap("a"), "c/kustomization.yaml": component("nameSuffix: -c")},
			deploy.KustomizationSpec{Components: []string{"c"}, NameSuffix: "-s"}, []string{"ConfigMap/a-c-s"}},
		{"bring objects", files{"a.yaml": configMap("a"), "c/kustomization.yaml": component("resources: [b.yaml]"), "c/b.yaml": configMap("b")},
			deploy.KustomizationSpec{Components: []string{"c"}}, []string{"ConfigMap/a", "ConfigMap/b"}},
		{"bring objects where there are none", files{"app/README.md": "", "c/kustomization.yaml": component("resources: [b.yaml]"), "c/b.yaml": configMap("b")},
			deploy.KustomizationSpec{Path: "app", Components: []string{"../c"}}, []string{"ConfigMap/b"}},
		{"list components of their own", files{"a.yaml": configMap("a"), "c/kustomization.yaml": component("components: [../d]"), "d/kustomization.yaml": component("nameSuffix: -d")},
			deploy.KustomizationSpec{Components: []string{"c", "d"}}, []string{"ConfigMap/a-d-d"}},
		{"are left out where they are missing and may be", files{"a.yaml": configMap("a"), "c/kustomization.yaml": component("nameSuffix: -c")},
			deploy.KustomizationSpec{Components: []string{"no", "c"}, IgnoreMissingComponents: true}, []string{"ConfigMap/a-c"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			objects, err := build.New(build.Options{}).Build(t.Context(), target(tc.spec), write(t, tc.files))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, ids(objects)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestComponentsAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		files  files
		folder string
		want   string
	}{
		{"where they are missing", files{"app/a.yaml": configMap("a")}, "../c", "components: ../c is not in the artifact: there is no c"},
		{"where they leave the artifact", files{"app/a.yaml": configMap("a")}, "../../c", "components: ../../c leaves the artifact"},
		{"where they are absolute", files{"app/a.yaml": configMap("a")}, "/c", "components: /c leaves the artifact"},
		{"where they are remote", files{"app/a.yaml": configMap("a")}, "https://example.com/c", "components: https://example.com/c is not in the artifact"},
		{"where they are no folder with a kustomization file", files{"app/a.yaml": configMap("a"), "c/b.yaml": configMap("b")}, "../c", "components: ../c is no component: c has no kustomization.yaml"},
		{"where they are a file", files{"app/a.yaml": configMap("a"), "c.yaml": configMap("b")}, "../c.yaml", "components: ../c.yaml is no component"},
		{"where they are a Kustomization", files{"app/a.yaml": configMap("a"), "c/kustomization.yaml": "namePrefix: x-"}, "../c",
			"components: ../c is no component: c/kustomization.yaml has the kind Kustomization, not Component"},
		{"where they list what is outside", files{"app/a.yaml": configMap("a"), "c/kustomization.yaml": component("resources: [../../x]")}, "../c", "c/kustomization.yaml: resources: ../../x is outside of the artifact"},
		{"where they list what is remote", files{"app/a.yaml": configMap("a"), "c/kustomization.yaml": component("components: ['github.com/org/repo']")}, "../c",
			"c/kustomization.yaml: components: github.com/org/repo is not in the artifact, and nothing is fetched from elsewhere"},
		{"where they generate from what is outside", files{"app/a.yaml": configMap("a"), "c/kustomization.yaml": component("configMapGenerator: [{name: g, envs: [../../../etc/passwd]}]")}, "../c", "/etc/passwd is outside of the artifact"},
		{"where a patch is missing", files{"app/a.yaml": configMap("a"), "c/kustomization.yaml": component("patches: [{path: p.yaml}]")}, "../c", "c/kustomization.yaml: patches: p.yaml is not in the artifact"},
		{"where they want charts", files{"app/a.yaml": configMap("a"), "c/kustomization.yaml": component("helmCharts: [{name: x}]")}, "../c", "c/kustomization.yaml: charts are not inflated here"},
		{"where they want programs", files{"app/a.yaml": configMap("a"), "c/kustomization.yaml": component("transformers: [t.yaml]"), "c/t.yaml": "apiVersion: x/v1\nkind: Y\nmetadata: {name: z}\n"}, "../c", "external plugins disabled"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := write(t, tc.files)
			objects, err := build.New(build.Options{}).Build(t.Context(), target(deploy.KustomizationSpec{Path: "app", Components: []string{tc.folder}}), dir)
			if err == nil {
				t.Fatalf("it was built: %v", ids(objects))
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
			if strings.Contains(err.Error(), dir) {
				t.Errorf("the error names a place of this machine: %v", err)
			}
		})
	}
	t.Run("where a link leads out, also if they may be missing", func(t *testing.T) {
		outside := write(t, files{"kustomization.yaml": component("nameSuffix: -c")})
		dir := write(t, files{"a.yaml": configMap("a")})
		if err := os.Symlink(outside, filepath.Join(dir, "c")); err != nil {
			t.Fatal(err)
		}
		_, err := build.New(build.Options{}).Build(t.Context(), target(deploy.KustomizationSpec{Components: []string{"c"}, IgnoreMissingComponents: true}), dir)
		if err == nil || !strings.Contains(err.Error(), "components: c: a link leads out of the artifact") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("where they leave, also if they may be missing", func(t *testing.T) {
		_, err := build.New(build.Options{}).Build(t.Context(), target(deploy.KustomizationSpec{Components: []string{"../no"}, IgnoreMissingComponents: true}), write(t, nil))
		if err == nil || !strings.Contains(err.Error(), "leaves the artifact") {
			t.Errorf("got %v", err)
		}
	})
}

// All by which a kustomization file names other files stays in the artifact, in components too.
func TestNothingOutsideIsRead(t *testing.T) {
	outside := write(t, files{"x.yaml": configMap("canary-4711"), "x.env": "canary=4711\n"})
	up := strings.Repeat("../", 30)
	for name, line := range map[string]string{
		"files of a generator":     "configMapGenerator: [{name: g, files: ['%s/x.yaml']}]",
		"variables of a generator": "secretGenerator: [{name: g, envs: ['%s/x.env']}]",
		"a variable file":          "secretGenerator: [{name: g, env: '%s/x.env'}]",
		"patches":                  "patches: [{path: '%s/x.yaml'}]",
		"strategic merges":         "patchesStrategicMerge: ['%s/x.yaml']",
		"JSON patches":             "patchesJson6902: [{path: '%s/x.yaml', target: {version: v1, kind: ConfigMap, name: a}}]",
		"replacements":             "replacements: [{path: '%s/x.yaml'}]",
		"a schema":                 "openapi: {path: '%s/x.yaml'}",
		"kinds of their own":       "crds: ['%s/x.yaml']",
		"configurations":           "configurations: ['%s/x.yaml']",
		"resources":                "resources: ['%s/x.yaml']",
		"components":               "components: ['%s']",
		"generators":               "generators: ['%s/x.yaml']",
		"transformers":             "transformers: ['%s/x.yaml']",
		"validators":               "validators: ['%s/x.yaml']",
		"inline generators":        "generators: [\"apiVersion: builtin\\nkind: ConfigMapGenerator\\nmetadata: {name: g}\\nfiles: ['%s/x.yaml']\\n\"]",
	} {
		for where, to := range map[string]string{"absolute": outside, "relative": up + strings.TrimPrefix(outside, "/")} {
			t.Run(name+", "+where, func(t *testing.T) {
				dir := write(t, files{"app/a.yaml": configMap("a"), "c/kustomization.yaml": component(strings.ReplaceAll(line, "%s", to))})
				objects, err := build.New(build.Options{}).Build(t.Context(), target(deploy.KustomizationSpec{Path: "app", Components: []string{"../c"}}), dir)
				if err == nil {
					t.Fatalf("it was built: %v", ids(objects))
				}
				if text := err.Error(); !strings.Contains(text, "outside of the artifact") || strings.Contains(text, "canary") {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}
