package helm

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
)

// fieldsThatDiffer are the paths at which two objects differ, in order: spec.replicas, metadata.annotations["example.org/a"], spec.ports[0].port. Lists of different lengths differ as
// a whole. A field that is null is as good as absent.
func fieldsThatDiffer(a, b map[string]any) []string { return differences(a, b, "") }

func differences(a, b any, at string) (out []string) {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			break
		}
		all := maps.Clone(x)
		maps.Copy(all, y)
		for _, key := range slices.Sorted(maps.Keys(all)) {
			out = append(out, differences(x[key], y[key], below(at, key))...)
		}
		return out
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			break
		}
		for i := range x {
			out = append(out, differences(x[i], y[i], fmt.Sprintf("%s[%d]", at, i))...)
		}
		return out
	}
	if reflect.DeepEqual(a, b) {
		return nil
	}
	return []string{at}
}

// plainKey is a key that a path can hold without quotes.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func below(at, key string) string {
	switch {
	case !plainKey.MatchString(key):
		return fmt.Sprintf("%s[%q]", at, key)
	case at == "":
		return key
	}
	return at + "." + key
}
