package applier

import (
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

// Fields that are left to others are sent when an object is created. After that they are neither compared nor changed, whoever owns them: a field that somebody else
// owns too is left out of an apply; one that is ours alone is sent as the cluster has it, because the server would take away what its only owner leaves out.

// gap stands in a list for an item that is to go.
type gap struct{}

// without is a copy of an object that does not have some of its fields. The items of lists keep their numbers until all have been found.
func without(u *unstructured.Unstructured, fields []deploy.Pointer) *unstructured.Unstructured {
	c := u.DeepCopy()
	for _, p := range fields {
		if _, there := p.In(c.Object); !there {
			continue
		}
		parent, _ := p[:len(p)-1].In(c.Object)
		if m, ok := parent.(map[string]any); ok {
			delete(m, p[len(p)-1])
			continue
		}
		p.Put(c.Object, gap{})
	}
	for _, p := range fields { // the list itself may have become one of the fields: then it is not there
		parent := p[:len(p)-1]
		list, _ := parent.In(c.Object)
		if items, ok := list.([]any); ok {
			parent.Put(c.Object, slices.DeleteFunc(items, func(v any) bool { _, is := v.(gap); return is }))
		}
	}
	return c
}

// leaveToOthers is what is applied to an object that exists: rendered, with the ignored fields left out where somebody else owns them and as they are where they are
// ours alone. Our marks stay, whatever is ignored.
func leaveToOthers(rendered, live *unstructured.Unstructured, ignored []deploy.Pointer) (*unstructured.Unstructured, error) {
	managed := live.GetManagedFields()
	sets, err := fieldSets(managed)
	if err != nil {
		return nil, err
	}
	body := rendered.DeepCopy()
	var out []deploy.Pointer
	for _, p := range ignored {
		var mine *fieldpath.Path
		others := false
		for i, m := range managed {
			switch at := ownedAt(p, sets[i], rendered.Object); {
			case at == nil:
			case isOurs(m):
				mine = at
			case m.Subresource != "status":
				others = others || len(*at) >= len(p)
			}
		}
		now, there := any(nil), false
		if mine != nil && !others {
			now, there = valueAt(live.Object, *mine, p)
		}
		if !there {
			out = append(out, p)
			continue
		}
		p.Put(body.Object, runtime.DeepCopyJSONValue(now))
	}
	return without(body, out), nil
}

// ownedAt is a path in a set of owned fields that is the pointer's field or one below it; failing that, a leaf above it: a list or map that is owned as a whole. Nil
// where there is neither.
func ownedAt(p deploy.Pointer, s *fieldpath.Set, rendered any) *fieldpath.Path {
	var found *fieldpath.Path
	for path := range s.Leaves().All() { // to its end: the library's iterator does not bear to be left early
		if shared(p, path, rendered) < min(len(p), len(path)) || found != nil && len(*found) >= len(p) {
			continue
		}
		c := path.Copy()
		found = &c
	}
	return found
}

// shared is how many elements the pointer and a path share. Items of lists are compared by what rendered has at the pointer's number.
func shared(p deploy.Pointer, path fieldpath.Path, rendered any) int {
	body := rendered
	for i := range min(len(p), len(path)) {
		pe, token := path[i], p[i]
		switch b := body.(type) {
		case map[string]any:
			if pe.FieldName == nil || *pe.FieldName != token {
				return i
			}
			body = b[token]
		case []any:
			n, err := strconv.Atoi(token)
			if err != nil || n < 0 || n >= len(b) {
				return i
			}
			same := pe.Key != nil && hasKey(b[n], *pe.Key) || pe.Index != nil && *pe.Index == n || pe.Value != nil && value.Equals(*pe.Value, value.NewValueInterface(b[n]))
			if !same {
				return i
			}
			body = b[n]
		default:
			return i
		}
	}
	return min(len(p), len(path))
}

// covered reports whether a path is one of the fields, or below one.
func covered(path fieldpath.Path, fields []deploy.Pointer, rendered any) bool {
	return slices.ContainsFunc(fields, func(p deploy.Pointer) bool { return len(path) >= len(p) && shared(p, path, rendered) == len(p) })
}

// valueAt is what the cluster has at a pointer. The path that we own it by finds the items of lists, which may have other numbers there.
func valueAt(live any, owned fieldpath.Path, p deploy.Pointer) (any, bool) {
	body := live
	for i, token := range p {
		if i < len(owned) && owned[i].Key != nil {
			list, _ := body.([]any)
			at := slices.IndexFunc(list, func(item any) bool { return hasKey(item, *owned[i].Key) })
			if at < 0 {
				return nil, false
			}
			body = list[at]
			continue
		}
		next, ok := deploy.Pointer{token}.In(body)
		if !ok {
			return nil, false
		}
		body = next
	}
	return body, true
}

// ownedHash is kube.OwnedHash of what we apply. The fields that are left to others do not enter it: whoever takes one is no drift.
func ownedHash(managed []metav1.ManagedFieldsEntry, rendered *unstructured.Unstructured, ignored []deploy.Pointer) string {
	if len(ignored) > 0 {
		managed = slices.Clone(managed)
		for i, m := range managed {
			if !isOurs(m) {
				continue
			}
			sets, err := fieldSets(managed[i : i+1])
			if err != nil {
				continue // the API server made it: not reachable with a real one
			}
			taken := fieldpath.NewSet()
			for path := range sets[0].All() {
				if covered(path, ignored, rendered.Object) {
					taken.Insert(path.Copy())
				}
			}
			if raw, err := sets[0].Difference(taken).ToJSON(); err == nil {
				managed[i].FieldsV1 = metav1.NewFieldsV1(string(raw))
			}
		}
	}
	return kube.OwnedHash(managed, deploy.FieldManager, metav1.ManagedFieldsOperationApply)
}
