package applier

import (
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// maxMeddlers is how many other managers a reason names.
const maxMeddlers = 3

// meddlers are those who own fields now that are rendered and not ours any more: who changed the object. Empty where nobody does, as after a deletion. Pure.
func meddlers(managed []metav1.ManagedFieldsEntry, rendered map[string]any) []string {
	ours := slices.IndexFunc(managed, isOurs)
	sets, err := fieldSets(managed)
	if err != nil {
		return nil // it is only for people, and what cannot be decoded is said where it matters
	}
	mine := fieldpath.NewSet()
	if ours >= 0 {
		mine = sets[ours]
	}
	var names []string
	for i, m := range managed {
		if i == ours || m.Subresource == "status" || slices.Contains(names, m.Manager) {
			continue
		}
		meddles := false
		for path := range sets[i].All() { // it cannot be left early
			meddles = meddles || len(path) > 0 && !mine.Has(path) && hasPath(rendered, path)
		}
		if meddles {
			names = append(names, m.Manager)
		}
	}
	return names
}

// hasPath reports whether a body has a value at a path of managed fields.
func hasPath(body any, path fieldpath.Path) bool {
	for _, pe := range path {
		switch b := body.(type) {
		case map[string]any:
			if pe.FieldName == nil {
				return false
			}
			next, ok := b[*pe.FieldName]
			if !ok {
				return false
			}
			body = next
		case []any:
			i := -1
			switch {
			case pe.Key != nil:
				i = slices.IndexFunc(b, func(item any) bool { return hasKey(item, *pe.Key) })
			case pe.Value != nil:
				i = slices.IndexFunc(b, func(item any) bool { return value.Equals(*pe.Value, value.NewValueInterface(item)) })
			case pe.Index != nil && *pe.Index < len(b):
				i = *pe.Index
			}
			if i < 0 {
				return false
			}
			body = b[i]
		default:
			return false
		}
	}
	return true
}

// driftedBy is the reason of a correction, with who made it necessary.
func driftedBy(names []string) string {
	if len(names) == 0 {
		return reasonDrifted
	}
	more := ""
	if n := len(names) - maxMeddlers; n > 0 {
		names, more = names[:maxMeddlers], " and "+strconv.Itoa(n)+" more"
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return "by " + strings.Join(quoted, ", ") + more
}
