package helm

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestFieldsThatDiffer(t *testing.T) {
	a := map[string]any{"spec": map[string]any{"replicas": int64(1), "ports": []any{map[string]any{"port": int64(80)}}, "args": []any{"a"}, "same": nil}}
	b := map[string]any{"spec": map[string]any{"replicas": int64(2), "ports": []any{map[string]any{"port": int64(81)}}, "args": []any{"a", "b"}}, "data": map[string]any{"a.b": "c"}}
	if d := cmp.Diff([]string{"data", "spec.args", "spec.ports[0].port", "spec.replicas"}, fieldsThatDiffer(a, b)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got := fieldsThatDiffer(a, a); got != nil {
		t.Errorf("of equal objects: %v", got)
	}
	quoted := fieldsThatDiffer(map[string]any{"data": map[string]any{"e": "f"}}, map[string]any{"data": b["data"]})
	if d := cmp.Diff([]string{`data["a.b"]`, "data.e"}, quoted); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestOverlay(t *testing.T) {
	for _, tc := range []struct {
		name              string
		live, chart, want map[string]any
	}{
		{
			"merges lists of built-in kinds by key, as the server does",
			map[string]any{"apiVersion": "v1", "kind": "Service", "spec": map[string]any{"type": "NodePort", "ports": []any{map[string]any{"port": int64(80), "nodePort": int64(30080)}}}},
			map[string]any{"apiVersion": "v1", "kind": "Service", "spec": map[string]any{"ports": []any{map[string]any{"port": int64(80), "name": "http"}}}},
			map[string]any{"apiVersion": "v1", "kind": "Service", "spec": map[string]any{"type": "NodePort", "ports": []any{map[string]any{"port": int64(80), "name": "http", "nodePort": int64(30080)}}}},
		},
		{
			"replaces lists of other kinds, and keeps what the chart does not mention",
			map[string]any{"apiVersion": "example.org/v1", "kind": "Widget", "spec": map[string]any{"a": []any{"x", "y"}, "b": "stays", "c": map[string]any{"d": "stays"}}},
			map[string]any{"apiVersion": "example.org/v1", "kind": "Widget", "spec": map[string]any{"a": []any{"z"}, "c": map[string]any{"e": int64(1)}}},
			map[string]any{"apiVersion": "example.org/v1", "kind": "Widget", "spec": map[string]any{"a": []any{"z"}, "b": "stays", "c": map[string]any{"d": "stays", "e": int64(1)}}},
		},
		{
			"takes null for nothing said",
			map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"a": "b"}},
			map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"a": nil, "c": "d"}},
			map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"a": "b", "c": "d"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := overlay(&unstructured.Unstructured{Object: tc.live}, &unstructured.Unstructured{Object: tc.chart})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got.Object); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
