package applier

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/inventory"

	"github.com/towline/towline/internal/deploy"
)

// visible is a copy of an object without what the server alone writes, and without our own marks: what people mean by the object.
func visible(u *unstructured.Unstructured) *unstructured.Unstructured {
	out := u.DeepCopy()
	for _, f := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"} {
		unstructured.RemoveNestedField(out.Object, "metadata", f)
	}
	for _, mark := range [][]string{{"metadata", "labels", deploy.LabelTarget}, {"metadata", "annotations", inventory.OwningInventoryKey}} {
		unstructured.RemoveNestedField(out.Object, mark...)
		if m, _, err := unstructured.NestedMap(out.Object, mark[:2]...); err == nil && len(m) == 0 {
			unstructured.RemoveNestedField(out.Object, mark[:2]...)
		}
	}
	delete(out.Object, "status")
	return out
}

// differing are the paths at which two objects differ, in order. Lists of different lengths differ as a whole.
func differing(a, b map[string]any) []string {
	var out []string
	differ(a, b, "", &out)
	return out
}

func differ(a, b any, path string, out *[]string) {
	switch a := a.(type) {
	case map[string]any:
		if b, ok := b.(map[string]any); ok {
			differMaps(a, b, path, out)
			return
		}
	case []any:
		if b, ok := b.([]any); ok && len(a) == len(b) {
			for i := range a {
				differ(a[i], b[i], fmt.Sprintf("%s[%d]", path, i), out)
			}
			return
		}
	}
	if !reflect.DeepEqual(a, b) {
		*out = append(*out, path)
	}
}

func differMaps(a, b map[string]any, path string, out *[]string) {
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		left, inA := a[k]
		right, inB := b[k]
		at := step(path, k)
		if !inA || !inB {
			if !inA {
				left = right
			}
			if below, _ := left.(map[string]any); len(below) > 0 { // say which of them came or went
				differMaps(below, nil, at, out)
			} else {
				*out = append(*out, at)
			}
			continue
		}
		differ(left, right, at, out)
	}
}

// plainKey needs no quotes in a path.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func step(path, key string) string {
	switch {
	case !plainKey.MatchString(key):
		return fmt.Sprintf("%s[%q]", path, key)
	case path == "":
		return key
	}
	return path + "." + key
}
