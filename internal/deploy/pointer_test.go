package deploy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
)

func TestPointer(t *testing.T) {
	t.Parallel()
	body := func() map[string]any {
		return map[string]any{"a/b": map[string]any{"~1": "x", "": "empty"}, "list": []any{"one", map[string]any{"k": "v"}}}
	}
	for path, want := range map[string]any{
		"/a~1b/~01": "x", "/a~1b/": "empty", "/list/0": "one", "/list/1/k": "v", "/list/2": nil, "/list/-1": nil, "/list/x": nil, "/list/0/k": nil, "/none": nil, "/a/b": nil,
	} {
		t.Run("finds "+path, func(t *testing.T) {
			t.Parallel()
			p, err := deploy.ParsePointer(path)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := p.In(body())
			if got != want || ok != (want != nil) {
				t.Errorf("got %v %v, want %v", got, ok, want)
			}
			b := body()
			p.Put(b, "new")
			if got, there := p.In(b); there && got != "new" || ok && !there {
				t.Errorf("after it was set: %v %v", got, there)
			}
		})
	}
	for _, bad := range []string{"", "/", "spec", "spec/replicas"} {
		if _, err := deploy.ParsePointer(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestCompileIgnore(t *testing.T) {
	t.Parallel()
	t.Run("gives the fields that an object has, each once", func(t *testing.T) {
		t.Parallel()
		rules, err := deploy.CompileIgnore([]deploy.IgnoreRule{
			{Paths: []string{"/spec/replicas", "/spec/none", "/metadata/annotations/a~1b"}},
			{Paths: []string{"/spec/replicas"}, Target: &deploy.Selector{Kind: "A"}},
			{Paths: []string{"/spec"}, Target: &deploy.Selector{Kind: "B"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{Object: map[string]any{
			"kind": "A", "spec": map[string]any{"replicas": int64(1)}, "metadata": map[string]any{"annotations": map[string]any{"a/b": "x"}},
		}}
		if d := cmp.Diff([]deploy.Pointer{{"spec", "replicas"}, {"metadata", "annotations", "a/b"}}, rules.Of(u)); d != "" {
			t.Errorf("fields (-want +got):\n%s", d)
		}
	})
	for name, tc := range map[string]struct {
		rule deploy.IgnoreRule
		want string
	}{
		"what is no pointer":            {deploy.IgnoreRule{Paths: []string{"spec.replicas"}}, `ignore[0]: path "spec.replicas": want a JSON pointer`},
		"the kind":                      {deploy.IgnoreRule{Paths: []string{"/kind"}}, "what names an object"},
		"the metadata as a whole":       {deploy.IgnoreRule{Paths: []string{"/metadata"}}, "what names an object"},
		"the name":                      {deploy.IgnoreRule{Paths: []string{"/metadata/name"}}, "what names an object"},
		"something below the namespace": {deploy.IgnoreRule{Paths: []string{"/metadata/namespace/x"}}, "what names an object"},
		"a broken selector":             {deploy.IgnoreRule{Target: &deploy.Selector{Kind: "("}}, "ignore[0].target.kind: "},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			if _, err := deploy.CompileIgnore([]deploy.IgnoreRule{tc.rule}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}
