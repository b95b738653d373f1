package build_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/deploy"
)

func TestPatch(t *testing.T) {
	t.Parallel()
	const manifests = `# Source: web/templates/b.yaml
apiVersion: v1
kind: Service
metadata:
  name: b
  namespace: one
spec:
  ports:
  - port: 80
---
apiVersion: v1
kind: Service
metadata:
  name: b
  namespace: two
spec:
  ports:
  - port: 80
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: a
spec:
  template:
    spec:
      containers:
      - image: example.org/web:1
        name: web
`
	patched := func(t *testing.T, r deploy.KustomizeRenderer) string {
		t.Helper()
		out, err := build.Patch([]byte(manifests), r)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	t.Run("patches of both kinds, and images, in the order of the manifests", func(t *testing.T) {
		t.Parallel()
		got := patched(t, deploy.KustomizeRenderer{
			Patches: []deploy.Patch{
				{Patch: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: 3}\n"},
				{Patch: "- op: replace\n  path: /spec/ports/0/port\n  value: 81\n", Target: &deploy.Selector{Kind: "Service", Namespace: "two"}},
			},
			Images: []deploy.Image{{Name: "example.org/web", NewName: "mirror.example.org/web", NewTag: "2"}},
		})
		want := strings.NewReplacer("# Source: web/templates/b.yaml\n", "", "namespace: two\nspec:\n  ports:\n  - port: 80", "namespace: two\nspec:\n  ports:\n  - port: 81",
			"spec:\n  template", "spec:\n  replicas: 3\n  template", "example.org/web:1", "mirror.example.org/web:2").Replace(manifests)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
	t.Run("errors name the patch and quote nothing", func(t *testing.T) {
		t.Parallel()
		for words, p := range map[string]deploy.Patch{
			"patches[0].patch is not YAML": {Patch: "a: [canary"},
			"no matches for Id":            {Patch: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: none}\ndata: {a: canary}\n"},
		} {
			_, err := build.Patch([]byte(manifests), deploy.KustomizeRenderer{Patches: []deploy.Patch{p}})
			if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "canary") {
				t.Errorf("error %v, want one with %q", err, words)
			}
		}
	})
}
