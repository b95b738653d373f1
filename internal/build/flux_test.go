package build

import (
	"strings"
	"testing"

	"github.com/fluxcd/pkg/envsubst"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// inText substitutes as Flux does: in the YAML text of the whole object.
func inText(t *testing.T, o *unstructured.Unstructured, vars map[string]string) *unstructured.Unstructured {
	t.Helper()
	text, err := yaml.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	replaced, err := envsubst.Eval(string(text), func(name string) (string, bool) {
		value, ok := vars[name]
		return value, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := yaml.YAMLToJSON([]byte(replaced))
	if err != nil {
		t.Fatal(err)
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSubstituteFieldByFieldIsSubstituteInText(t *testing.T) {
	values := []string{
		"3", "1.5", "true", "yes", "off", "~", "0644", "1e3", "some text", "a/b:c", "example.com:80", "[a, 1]", `"3"`, "{}", "2024-01-01", "a#b", "12:30", "a,b", "x=y", "-x", "é", "1.10", "tab\tx", "",
		"sha256:0123", "p@ss&w*rd!", "0x10", "-1", "+1", "null", "=", "back\\slash", "a-b_c", strings.Repeat("long words ", 30) + "end",
	}
	for _, value := range values {
		t.Run(value, func(t *testing.T) {
			o := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "apps/v1", "kind": "Deployment",
				"metadata": map[string]any{"name": "n-${name}", "labels": map[string]any{"l": "x-${name:0:2}", "m": "y"}},
				"spec": map[string]any{
					"alone": "${v}", "among": "a ${v} b", "end": "x-${v}", "lines": "first\n  ${w}\nlast ${w}\n", "default": "${none:=5}", "escaped": "$${v} $$ $5", "big": int64(1) << 60,
					"list": []any{"${v}", "x${v}", map[string]any{"in": "${v}"}, []any{"${v}"}}, "upper": "${name^^}", "text": "1.10", "quoted": "${q}${name}${q}", "${name}": "key",
					"empty": map[string]any{}, "none": []any{}, "nil": nil, "script": "if [ \"$${x}\" = \"y\" ]; then\n\techo ${name}; fi",
				},
			}}
			vars := map[string]string{"v": value, "w": "word", "name": "app", "q": `"`}
			want := inText(t, o, vars)
			if _, err := substituteObject(o, variables{values: vars}, newBudget()); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want.Object, o.Object); d != "" {
				t.Error(d)
			}
		})
	}
}
