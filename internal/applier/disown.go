package applier

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/towline/towline/internal/deploy"
)

// indices are what stands in brackets in the path of a field.
var indices = regexp.MustCompile(`\[[^\]]*\]`)

// blamed are the fields that the server finds invalid, without indices.
func blamed(refusal error) []string {
	var s apierrors.APIStatus
	if !errors.As(refusal, &s) || s.Status().Details == nil {
		return nil
	}
	var fields []string
	for _, c := range s.Status().Details.Causes {
		if f := indices.ReplaceAllString(c.Field, ""); f != "" {
			fields = append(fields, f)
		}
	}
	return fields
}

// disown moves list entries that nobody but updaters owns into the ownership of our apply: those that u does not have, in lists of which u has entries and that the
// blamed fields are about. Other appliers', subresources' and other API versions' entries stay. It returns the new ownership and the moved entries' paths.
// Pure; an error is a set of fields that cannot be decoded.
func disown(managed []metav1.ManagedFieldsEntry, u *unstructured.Unstructured, blamed []string) ([]metav1.ManagedFieldsEntry, []string, error) {
	sets, err := fieldSets(managed)
	if err != nil {
		return nil, nil, err
	}
	ours := slices.IndexFunc(managed, isOurs)
	if ours < 0 || managed[ours].APIVersion != u.GetAPIVersion() {
		return nil, nil, nil
	}
	stray, claimed := fieldpath.NewSet(), fieldpath.NewSet()
	for i, m := range managed {
		switch {
		case i == ours:
		case isUpdate(m, u):
			stray = stray.Union(straysOf(sets[i], u))
		default:
			claimed = claimed.Union(straysOf(sets[i], u))
		}
	}
	stray = accused(stray.Difference(claimed), blamed)
	if stray.Empty() {
		return nil, nil, nil
	}
	for i, m := range managed {
		if i == ours || !isUpdate(m, u) {
			continue
		}
		moved := fieldpath.NewSet()
		for p := range sets[i].All() {
			if n := strayAt(p, u.Object); n > 0 && stray.Has(p[:n]) {
				moved.Insert(p.Copy())
			}
		}
		sets[i], sets[ours] = sets[i].Difference(moved), sets[ours].Union(moved)
	}
	var after []metav1.ManagedFieldsEntry
	for i, m := range managed {
		if i != ours && !isUpdate(m, u) {
			after = append(after, m)
			continue
		}
		if sets[i].Empty() {
			continue
		}
		raw, err := sets[i].ToJSON()
		if err != nil {
			return nil, nil, fmt.Errorf("fields of %s: %w", m.Manager, err)
		}
		m.FieldsV1 = metav1.NewFieldsV1(string(raw))
		after = append(after, m)
	}
	var entries []string
	for p := range stray.All() {
		entries = append(entries, p.String())
	}
	return after, entries, nil
}

// fieldSets decodes what each entry owns.
func fieldSets(managed []metav1.ManagedFieldsEntry) ([]*fieldpath.Set, error) {
	sets := make([]*fieldpath.Set, len(managed))
	for i, m := range managed {
		sets[i] = fieldpath.NewSet()
		if m.FieldsV1 == nil {
			continue
		}
		if err := sets[i].FromJSON(bytes.NewReader(m.FieldsV1.GetRawBytes())); err != nil {
			return nil, fmt.Errorf("fields of %s: %w", m.Manager, err)
		}
	}
	return sets, nil
}

func isOurs(m metav1.ManagedFieldsEntry) bool {
	return m.Manager == deploy.FieldManager && m.Operation == metav1.ManagedFieldsOperationApply && m.Subresource == ""
}

func isUpdate(m metav1.ManagedFieldsEntry, u *unstructured.Unstructured) bool {
	return m.Operation == metav1.ManagedFieldsOperationUpdate && m.Subresource == "" && m.APIVersion == u.GetAPIVersion()
}

// straysOf are the list entries that a set has fields of and u has not, in lists of which u has others.
func straysOf(s *fieldpath.Set, u *unstructured.Unstructured) *fieldpath.Set {
	out := fieldpath.NewSet()
	for p := range s.All() {
		if n := strayAt(p, u.Object); n > 0 {
			out.Insert(p[:n].Copy())
		}
	}
	return out
}

// strayAt is how many elements of a path lead to a list entry that body has not, in a list of which it has others; 0 where the path leads to none.
func strayAt(p fieldpath.Path, body any) int {
	for i, pe := range p {
		switch {
		case pe.FieldName != nil:
			m, _ := body.(map[string]any)
			body = m[*pe.FieldName]
		case pe.Key != nil:
			list, _ := body.([]any)
			if len(list) == 0 {
				return 0
			}
			at := slices.IndexFunc(list, func(item any) bool { return hasKey(item, *pe.Key) })
			if at < 0 {
				return i + 1
			}
			body = list[at]
		default: // sets and lists without keys have no entries that could be told apart
			return 0
		}
	}
	return 0
}

// hasKey reports whether an item of a list is the one of a key. A part that the item leaves to the server's default counts as equal, except for the one of the
// built-in kinds that is known.
func hasKey(item any, key value.FieldList) bool {
	m, ok := item.(map[string]any)
	if !ok {
		return false
	}
	given := 0
	for _, f := range key {
		v, ok := m[f.Name]
		switch {
		case ok:
			given++
		case f.Name == "protocol":
			v = "TCP"
		default:
			continue
		}
		if !value.Equals(value.NewValueInterface(v), f.Value) {
			return false
		}
	}
	return given > 0
}

// accused are the entries that may be why the server refuses the object: those of the innermost list around a blamed field, and all below one.
func accused(stray *fieldpath.Set, blamed []string) *fieldpath.Set {
	lists := map[string]*fieldpath.Set{}
	for p := range stray.All() {
		var names []string
		for _, pe := range p {
			if pe.FieldName != nil {
				names = append(names, *pe.FieldName)
			}
		}
		list := strings.Join(names, ".")
		if lists[list] == nil {
			lists[list] = fieldpath.NewSet()
		}
		lists[list].Insert(p.Copy())
	}
	out := fieldpath.NewSet()
	for _, field := range blamed {
		innermost := ""
		for list := range maps.Keys(lists) {
			if strings.HasPrefix(list+".", field+".") {
				out = out.Union(lists[list])
			} else if strings.HasPrefix(field, list+".") && len(list) > len(innermost) {
				innermost = list
			}
		}
		if innermost != "" {
			out = out.Union(lists[innermost])
		}
	}
	return out
}
