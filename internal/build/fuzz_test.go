package build

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Whatever text and value are: nothing panics, fields without a variable stay as they are, what is undefined is an error, no error shows the value, and every field that holds
// it is said to be secret.
func FuzzSubstitute(f *testing.F) {
	for _, text := range []string{
		"${v}", "a ${v:-b} c", "$${v}", "${#v}${v^^}", "${v:1:2}", "${v##*/}", "${v//a/b}", "${v-x}", "${", "$", "${v:?w}", "x: ${v} # y\n  z\n", "${v:=[1, \"${v}\"]}", "${v:0:9223372036854775807}",
		"${none}", "${v#[}", "\x00${v}", "é${v}\u2028",
	} {
		for _, value := range []string{"", "text", "3", "a: b", "\"", "'", "[", "{a: 1}", "# x", "&a b", "*a", "a\nb: c", "a\rkind: X", "|", "- x", "---", "!!str 1", "%", "é\u0085", "<<: x"} {
			f.Add(text, value)
		}
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		if len(text) > 1<<12 || len(value) > 1<<12 {
			return // the library's matching of patterns takes its time
		}
		const mark = "canary-4711"
		for _, value := range []string{value, mark + value} {
			spec := map[string]any{"a": "first", "list": []any{"1.10", text, "yes"}, "text": text, "z": int64(1), "deep": map[string]any{"k": text, "same": "on"}}
			o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Thing", "metadata": map[string]any{"name": "n", "namespace": "ns"}, "spec": spec}}
			before := o.DeepCopy()
			vars := variables{values: map[string]string{"v": lineBreaks.Replace(value)}, secret: map[string]bool{"v": true}}
			fields, err := substituteObject(o, vars, newBudget())
			if err != nil {
				if strings.Contains(err.Error(), mark) && !strings.Contains(text, mark) {
					t.Errorf("the error shows the value: %v", err)
				}
				if d := cmp.Diff(before, o); d != "" {
					t.Errorf("it failed and changed the object: %s", d)
				}
				continue
			}
			shown := o.DeepCopy()
			fields.Hide(shown.Object, nil, func(_, _ any, _ bool) (any, any) { return "hidden", nil })
			if s := fmt.Sprint(shown.Object); strings.Contains(s, mark) && !strings.Contains(text, mark) {
				t.Errorf("a field is not known to hold the value: %v in %s", fields, s)
			}
			got, _ := o.Object["spec"].(map[string]any)
			list, _ := got["list"].([]any)
			deep, _ := got["deep"].(map[string]any)
			if len(o.Object) != 4 || len(got) != 5 || len(list) != 3 || len(deep) != 2 {
				t.Fatalf("fields came or went: %v", o.Object)
			}
			kept := []any{o.GetAPIVersion(), o.GetKind(), o.GetName(), o.GetNamespace(), got["a"], got["z"], list[0], list[2], deep["same"]}
			if d := cmp.Diff([]any{"v1", "Thing", "n", "ns", "first", int64(1), "1.10", "yes", "on"}, kept); d != "" {
				t.Error(d)
			}
			if !strings.Contains(text, "$") && got["text"] != text {
				t.Errorf("%q became %q without a variable", text, got["text"])
			}
		}
		harmless := strings.NewReplacer("$", "", "{", "", "}", "").Replace(text)
		for _, end := range []string{"${none}", "${none^^}", "${v:-${none}}", "${none:?why}", "$$${none}", "${#none}", "${none/x/y}"} {
			o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Thing", "metadata": map[string]any{"name": "n"}, "spec": harmless + end}}
			_, err := substituteObject(o, variables{values: map[string]string{"v": lineBreaks.Replace(value)}}, newBudget())
			if err == nil {
				t.Errorf("%q passed though none is undefined: %v", harmless+end, o.Object["spec"])
			}
		}
	})
}
