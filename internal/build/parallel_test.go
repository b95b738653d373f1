package build_test

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/deploy"
)

// Builds of all sorts at once, by one Builder: each gives what it gives alone.
func TestBuildsOfAllSortsRunSideBySide(t *testing.T) {
	const schema = `{"definitions": {"v1.Thing": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "example.com", "kind": "Thing", "version": "v1"}],
		"properties": {"spec": {"type": "object", "properties": {"items": {"type": "array", "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge",
		"items": {"type": "object"}}}}}}}}`
	const thing = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t}\nspec: {items: [{name: a, x: 1}]}\n"
	const patch = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t}\nspec: {items: [{name: b}]}\n"
	b := build.New(build.Options{Read: holders{"ConfigMap/ns/c": {"v": []byte("5")}, "Secret/ns/s": {"w": []byte("word")}}.read})
	post := &deploy.PostBuild{SubstituteFrom: []deploy.SubstituteFrom{{Kind: "ConfigMap", Name: "c"}, {Kind: "Secret", Name: "s"}}}
	withSchema := "openapi: {path: schema.json}\npatches: [{path: p.yaml}]"
	sorts := []struct {
		files files
		spec  deploy.KustomizationSpec
		get   func(map[string]any) any
		want  any
	}{
		{files{"kustomization.yaml": "resources: [t.yaml]\n" + withSchema, "t.yaml": thing, "p.yaml": patch, "schema.json": schema}, deploy.KustomizationSpec{}, items, 2},
		{files{"app/t.yaml": thing, "c/kustomization.yaml": component(withSchema), "c/p.yaml": patch, "c/schema.json": schema}, deploy.KustomizationSpec{Path: "app", Components: []string{"../c"}}, items, 2},
		{files{"app/t.yaml": thing, "c/kustomization.yaml": component("patches: [{path: p.yaml}]"), "c/p.yaml": patch}, deploy.KustomizationSpec{Path: "app", Components: []string{"../c"}}, items, 1},
		{files{"a.yaml": deployment + "  paused: ${v}\n"}, deploy.KustomizationSpec{TargetNamespace: "${w}", PostBuild: post},
			func(o map[string]any) any {
				return []any{o["spec"].(map[string]any)["paused"], o["metadata"].(map[string]any)["namespace"]}
			}, []any{int64(5), "word"}},
		{files{"a.yaml": configMap("x") + "data: {k: '${w}'}"}, deploy.KustomizationSpec{PostBuild: post}, func(o map[string]any) any { return o["data"] }, map[string]any{"k": "word"}},
		{files{"a.yaml": deployment}, deploy.KustomizationSpec{Images: []deploy.Image{{Name: "nginx", NewTag: "2"}}, NameSuffix: "-s"}, func(o map[string]any) any { return o["metadata"].(map[string]any)["name"] }, "web-s"},
		{files{"kustomization.yaml": "configMapGenerator: [{name: g, literals: ['k=${v}x']}]\ngeneratorOptions: {disableNameSuffixHash: true}"}, deploy.KustomizationSpec{PostBuild: post},
			func(o map[string]any) any { return o["data"] }, map[string]any{"k": "5x"}},
	}
	var wg sync.WaitGroup
	for i, s := range sorts {
		dir := write(t, s.files)
		for range 6 {
			wg.Go(func() {
				objects, err := b.Build(t.Context(), target(s.spec), dir)
				if err != nil || len(objects) != 1 {
					t.Errorf("sort %d: %v, %v", i, ids(objects), err)
					return
				}
				if d := cmp.Diff(s.want, s.get(objects[0].Object)); d != "" {
					t.Errorf("sort %d: %s", i, d)
				}
			})
		}
	}
	wg.Wait()
}

func items(o map[string]any) any { return len(o["spec"].(map[string]any)["items"].([]any)) }
