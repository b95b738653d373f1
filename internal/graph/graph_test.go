package graph_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/graph"
)

func name(s string) deploy.Name {
	return deploy.Name{Kind: deploy.KindKustomization, Namespace: "ns", Name: s}
}

func names(words ...string) []deploy.Name {
	var out []deploy.Name
	for _, w := range words {
		out = append(out, name(w))
	}
	return out
}

func needs(edges map[string][]string) map[deploy.Name][]deploy.Name {
	out := map[deploy.Name][]deploy.Name{}
	for n, ds := range edges {
		out[name(n)] = names(ds...)
	}
	return out
}

func TestOrder(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edges map[string][]string
		want  []string
	}{
		{"is empty for no nodes", nil, nil},
		{"is by name where nothing depends on anything", map[string][]string{"c": nil, "a": nil, "b": nil}, []string{"a", "b", "c"}},
		{"puts what is needed first", map[string][]string{"a": {"z"}, "z": nil}, []string{"z", "a"}},
		{"follows chains", map[string][]string{"a": {"b"}, "b": {"c"}, "c": nil}, []string{"c", "b", "a"}},
		{"visits a diamond once", map[string][]string{"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": nil}, []string{"d", "b", "c", "a"}},
		{"takes a need that is written twice once", map[string][]string{"a": {"b", "b"}, "b": nil}, []string{"b", "a"}},
		{"leaves unknown needs out", map[string][]string{"a": {"nowhere"}}, []string{"a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := graph.New(needs(tc.edges)).Order()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(append([]deploy.Name{}, names(tc.want...)...), got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestOrderNamesTheCycle(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edges map[string][]string
		want  []string
	}{
		{"of one", map[string][]string{"a": {"a"}}, []string{"a", "a"}},
		{"of two", map[string][]string{"a": {"b"}, "b": {"a"}}, []string{"a", "b", "a"}},
		{"without the way to it", map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}, []string{"b", "c", "d", "b"}},
		{"beside parts that are fine", map[string][]string{"a": nil, "b": {"a"}, "x": {"y"}, "y": {"x", "a"}}, []string{"x", "y", "x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := graph.New(needs(tc.edges)).Order()
			var cycle *graph.CycleError
			if !errors.As(err, &cycle) {
				t.Fatalf("got %v, want a cycle", err)
			}
			if d := cmp.Diff(names(tc.want...), cycle.Path); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestCycleErrorReadsAsAPath(t *testing.T) {
	err := &graph.CycleError{Path: names("a", "b", "a")}
	want := "dependency cycle: kustomization/ns/a → kustomization/ns/b → kustomization/ns/a: remove one of these dependsOn"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestDependants(t *testing.T) {
	g := graph.New(needs(map[string][]string{"a": {"c"}, "b": {"c", "a"}, "c": nil}))
	t.Run("are the direct ones", func(t *testing.T) {
		if d := cmp.Diff(names("a", "b"), g.Dependants(name("c"))); d != "" {
			t.Error(d)
		}
	})
	t.Run("are none for the last in the chain", func(t *testing.T) {
		if got := g.Dependants(name("b")); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
}
