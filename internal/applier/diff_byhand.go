package applier

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/towline/towline/internal/deploy"
)

// settled is the answer of a dry run without what was set by hand and nobody else owns: a run takes that over first, so that its apply removes it. A dry run cannot do the
// two together.
func settled(answer, rendered *unstructured.Unstructured, ignored []deploy.Pointer) (*unstructured.Unstructured, error) {
	managed := answer.GetManagedFields()
	absorbed, err := absorb(managed, rendered, ignored)
	if err != nil || absorbed == nil {
		return answer, err
	}
	before, err := fieldSets(managed)
	if err != nil {
		return nil, err
	}
	after, err := fieldSets(absorbed)
	if err != nil {
		return nil, err
	}
	gone, others := fieldpath.NewSet(), fieldpath.NewSet()
	for i, m := range absorbed {
		if !isOurs(m) {
			others = others.Union(after[i])
			continue
		}
		gone = after[i].Difference(before[slices.IndexFunc(managed, isOurs)])
	}
	out := answer.DeepCopy()
	for p := range gone.Difference(others).Leaves().All() {
		if body, ok := removed(out.Object, p).(map[string]any); ok {
			out.Object = body
		}
	}
	return out, nil
}

// removed is a body without the field or item at a path. What its parents become empty by stays empty, as with an apply.
func removed(body any, p fieldpath.Path) any {
	if len(p) == 0 {
		return body
	}
	pe, last := p[0], len(p) == 1
	switch b := body.(type) {
	case map[string]any:
		if pe.FieldName == nil {
			return body
		}
		child, there := b[*pe.FieldName]
		switch {
		case !there:
		case last:
			delete(b, *pe.FieldName)
		default:
			b[*pe.FieldName] = removed(child, p[1:])
		}
	case []any:
		i := slices.IndexFunc(b, func(item any) bool {
			return pe.Key != nil && hasKey(item, *pe.Key) || pe.Value != nil && value.Equals(*pe.Value, value.NewValueInterface(item))
		})
		switch {
		case i < 0:
		case last:
			return slices.Delete(b, i, i+1)
		default:
			b[i] = removed(b[i], p[1:])
		}
	}
	return body
}
