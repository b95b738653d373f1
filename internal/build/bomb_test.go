package build_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/deploy"
)

// aliasBomb is the end of a map in which 500 bytes stand for a billion texts.
func aliasBomb() string {
	var b strings.Builder
	b.WriteString("x:\n  a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "  a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	return b.String()
}

// doubled are folders that list the two next ones each, so that the last is reached in a million ways.
func doubled() files {
	const levels = 20
	f := files{"kustomization.yaml": "resources: [f0a, f0b]"}
	for i := range levels {
		for _, name := range []string{"a", "b"} {
			f[fmt.Sprintf("f%d%s/kustomization.yaml", i, name)] = fmt.Sprintf("namePrefix: p%s-\nresources: [../f%da, ../f%db]", name, i+1, i+1)
		}
	}
	for _, name := range []string{"a", "b"} {
		f[fmt.Sprintf("f%d%s/kustomization.yaml", levels, name)] = "resources: [a.yaml]"
		f[fmt.Sprintf("f%d%s/a.yaml", levels, name)] = configMap(name)
	}
	return f
}

func TestBuildRefusesWhatWouldFillTheMemory(t *testing.T) {
	const tooLarge = "its aliases make it too large"
	bomb := configMap("a") + aliasBomb()
	for _, tc := range []struct {
		name  string
		files files
		want  string
	}{
		{"a manifest of aliases of aliases", files{"a.yaml": bomb}, "read a.yaml: " + tooLarge},
		{"one that a kustomization lists", files{"kustomization.yaml": "resources: [a.yaml]", "a.yaml": bomb}, "read a.yaml: " + tooLarge},
		{"a kustomization file", files{"kustomization.yaml": "resources: [a.yaml]\n" + aliasBomb(), "a.yaml": configMap("a")}, "read kustomization.yaml: " + tooLarge},
		{"a patch in a kustomization file", files{
			"kustomization.yaml": "resources: [a.yaml]\npatches:\n- patch: |\n    " + strings.ReplaceAll(bomb, "\n", "\n    "), "a.yaml": configMap("a"),
		}, "read kustomization.yaml: " + tooLarge},
		{"a patch in quotes, with escapes", files{
			"kustomization.yaml": "resources: [a.yaml]\npatches:\n- patch: \"" + strings.NewReplacer("\n", `\n`, "&", `\x26`).Replace(bomb) + `"`, "a.yaml": configMap("a"),
		}, "read kustomization.yaml: " + tooLarge},
		{"a file with a patch", files{"kustomization.yaml": "resources: [a.yaml]\npatches: [{path: p.yaml}]", "a.yaml": configMap("a"), "p.yaml": bomb}, "read p.yaml: " + tooLarge},
		{"a file with replacements", files{
			"kustomization.yaml": "resources: [a.yaml]\nreplacements: [{path: p.yaml}]", "a.yaml": configMap("a"), "p.yaml": bomb,
		}, "read p.yaml: " + tooLarge},
		{"the configuration of a generator", files{"kustomization.yaml": "generators: [p.yaml]", "p.yaml": bomb}, "read p.yaml: " + tooLarge},
		{"the configuration of transformers", files{"kustomization.yaml": "resources: [a.yaml]\nconfigurations: [p.yaml]", "a.yaml": configMap("a"), "p.yaml": bomb}, "p.yaml: " + tooLarge},
		{"an OpenAPI schema", files{"kustomization.yaml": "resources: [a.yaml]\nopenapi: {path: p.yaml}", "a.yaml": configMap("a"), "p.yaml": bomb}, "p.yaml: " + tooLarge},
		{"a document that only kustomize sees, in a block of text", files{"a.yaml": configMap("a") + "data:\n  x: |\n    a\n---\n" + bomb}, "read a.yaml: " + tooLarge},
		{"an alias of what it lies in", files{"a.yaml": configMap("a") + "x: &a [*a]\n"}, "read a.yaml: one of its aliases stands for something that it is in itself"},
		{"one below a map", files{"a.yaml": configMap("a") + "x: &a {<<: *a}\n"}, "stands for something that it is in itself"},
		{"folders that list each other over and over", doubled(), "lists folders that list others"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := build.New(build.Options{}).Build(t.Context(), target(deploy.KustomizationSpec{NamePrefix: "p-"}), write(t, tc.files))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
		})
	}
	t.Run("but takes aliases as people use them", func(t *testing.T) {
		manifest := configMap("a") + "data:\n  a: &a text\n  b: *a\n  script: x && y &\n"
		objects, err := build.New(build.Options{}).Build(t.Context(), target(deploy.KustomizationSpec{NamePrefix: "p-"}), write(t, files{"a.yaml": manifest}))
		if err != nil || len(objects) != 1 {
			t.Fatalf("%d objects, %v", len(objects), err)
		}
	})
}
