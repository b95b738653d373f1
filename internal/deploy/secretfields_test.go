package deploy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
)

func annotated(text string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetAnnotations(map[string]string{deploy.AnnotationSecretFields: text})
	return u
}

func TestSecretFieldsAsText(t *testing.T) {
	var many deploy.SecretFields
	for i := range 1000 {
		many = append(many, []string{"data", fmt.Sprintf("key-%d", i)}, []string{"spec", "a", fmt.Sprint(i), "b"})
	}
	for _, tc := range []struct {
		name   string
		fields deploy.SecretFields
		want   string
	}{
		{"none", nil, ""},
		{"one", deploy.SecretFields{{"spec", "ports", "*", "port"}}, "/spec/ports/*/port"},
		{"each once, sorted", deploy.SecretFields{{"b"}, {"a", "x"}, {"b"}}, "/a/x,/b"},
		{"the outer of two", deploy.SecretFields{{"data", "a"}, {"data"}, {"data-b"}}, "/data,/data-b"},
		{"keys with a slash and a tilde", deploy.SecretFields{{"metadata", "annotations", "a.b/c~d"}}, "/metadata/annotations/a.b~1c~0d"},
		{"keys that a list of pointers cannot have", deploy.SecretFields{{"data", "a, b"}, {"spec", ""}}, "/data,/spec"},
		{"the whole object", deploy.SecretFields{{"data"}, {}}, "/"},
		{"too many", many, "/data,/spec"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.fields.String(); got != tc.want {
				t.Fatalf("got %.100s, want %s", got, tc.want)
			}
			if got := deploy.SecretFieldsOf(annotated(tc.want)).String(); got != tc.want {
				t.Errorf("read and written again: %s", got)
			}
		})
	}
	t.Run("what is no pointer is the whole object", func(t *testing.T) {
		for _, text := range []string{"true", "data", "/data,x", "/", " "} {
			if d := cmp.Diff(deploy.SecretFields{{}}, deploy.SecretFieldsOf(annotated(text))); d != "" {
				t.Errorf("%q: %s", text, d)
			}
		}
	})
}

func TestSecretFieldsAreHidden(t *testing.T) {
	object := func(port string) map[string]any {
		return map[string]any{
			"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "n", "namespace": "ns", "labels": map[string]any{"a": port}},
			"spec": map[string]any{"type": "x", "ports": []any{map[string]any{"name": "web", "port": port}, map[string]any{"port": port + "1"}}},
		}
	}
	hide := func(a, b any, both bool) (any, any) { return fmt.Sprint("#", both, a == b), "#" }
	for _, tc := range []struct{ fields, want string }{
		{"/spec/ports/*/port", "map[apiVersion:v1 kind:Service metadata:map[labels:map[a:8] name:n namespace:ns] spec:map[ports:[map[name:web port:#true false] map[port:#true false]] type:x]]"},
		{"/spec/ports/0/port", "map[apiVersion:v1 kind:Service metadata:map[labels:map[a:8] name:n namespace:ns] spec:map[ports:[map[name:web port:#true false] map[port:#true false]] type:x]]"},
		{"/spec/type,/none/x", "map[apiVersion:v1 kind:Service metadata:map[labels:map[a:8] name:n namespace:ns] spec:map[ports:[map[name:web port:8] map[port:81]] type:#true true]]"},
		{"/metadata/name,/kind", "map[apiVersion:v1 kind:Service metadata:map[labels:map[a:8] name:n namespace:ns] spec:map[ports:[map[name:web port:8] map[port:81]] type:x]]"},
	} {
		t.Run(tc.fields, func(t *testing.T) {
			a, b := object("8"), object("9")
			deploy.SecretFieldsOf(annotated(tc.fields)).Hide(a, b, hide)
			if got := fmt.Sprint(a); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
	t.Run("/ and /metadata leave what names the object", func(t *testing.T) {
		for _, fields := range []string{"/", "/metadata,/spec"} {
			a := object("canary")
			deploy.SecretFieldsOf(annotated(fields)).Hide(a, nil, func(_, _ any, both bool) (any, any) { return both, nil })
			want := map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "n", "namespace": "ns", "labels": false}, "spec": false}
			if d := cmp.Diff(want, a); d != "" {
				t.Errorf("%s: %s", fields, strings.ReplaceAll(d, "\u00a0", " "))
			}
		}
	})
}
