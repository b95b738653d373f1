package main

import (
	"fmt"
	"maps"
	"reflect"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/towline/towline/internal/deploy"
)

const (
	// maxCompared is how large an object may be for its lines to be compared, in bytes: the cost grows faster than the text.
	maxCompared = 1 << 20
	// contextLines are the equal lines around a change.
	contextLines = 3
)

// What stands in place of a Secret's values: nobody can read them, or guess them from their length.
const (
	maskSame   = "***"
	maskBefore = "*** (before)"
	maskAfter  = "*** (after)"
)

// shownDifference is what is printed of a difference: nothing in it is a value of a Secret.
type shownDifference struct {
	Target string          `json:"target"`
	Action deploy.Action   `json:"action"`
	Object deploy.ObjectID `json:"object"`
	Fields []string        `json:"fields,omitempty"`
	Reason string          `json:"reason,omitempty"`
	Error  string          `json:"error,omitempty"`
	// Diff of the object as YAML, unified.
	Diff string `json:"diff,omitempty"`
}

func show(target string, d deploy.Difference) (shownDifference, error) {
	s := shownDifference{Target: target, Action: d.Action, Object: d.Object, Fields: d.Fields, Reason: d.Reason}
	if d.Err != nil {
		s.Error = d.Err.Error()
	}
	before, after := tidy(d.Before), tidy(d.After)
	if d.Err != nil && after == nil {
		return s, nil // what it would become is not known: all lines of it as deleted would say that it goes
	}
	if d.Object.Group == "" && d.Object.Kind == "Secret" {
		maskSecrets(before, after)
	}
	var err error
	s.Diff, err = unified(before, after)
	if err != nil {
		return s, fmt.Errorf("%s: %w", d.Object, err)
	}
	return s, nil
}

// tidy is a copy without what only the server writes.
func tidy(u *unstructured.Unstructured) *unstructured.Unstructured {
	if u == nil {
		return nil
	}
	out := u.DeepCopy()
	for _, f := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
		unstructured.RemoveNestedField(out.Object, "metadata", f)
	}
	delete(out.Object, "status")
	return out
}

// maskSecrets replaces the values of two versions of a Secret in place, so that one still sees which of them differ. Either may be nil.
func maskSecrets(before, after *unstructured.Unstructured) {
	for _, field := range [][]string{{"data"}, {"stringData"}, {"metadata", "annotations", corev1.LastAppliedConfigAnnotation}} {
		a, inBefore := valueOf(before, field)
		b, inAfter := valueOf(after, field)
		maskedA, maskedB := maskPair(a, b, inBefore && inAfter)
		if inBefore {
			_ = unstructured.SetNestedField(before.Object, maskedA, field...) // the parents are there
		}
		if inAfter {
			_ = unstructured.SetNestedField(after.Object, maskedB, field...)
		}
	}
}

func valueOf(u *unstructured.Unstructured, field []string) (any, bool) {
	if u == nil {
		return nil, false
	}
	v, found, err := unstructured.NestedFieldNoCopy(u.Object, field...)
	return v, found && err == nil
}

// maskPair masks two values, of maps each value on its own.
func maskPair(a, b any, both bool) (maskedA, maskedB any) {
	left, leftMap := a.(map[string]any)
	right, rightMap := b.(map[string]any)
	switch {
	case (leftMap || a == nil) && (rightMap || b == nil):
		return maskMap(left, right, maskBefore), maskMap(right, left, maskAfter)
	case both && !reflect.DeepEqual(a, b):
		return maskBefore, maskAfter
	}
	return maskSame, maskSame
}

func maskMap(values, counterpart map[string]any, word string) map[string]any {
	out := maps.Clone(values)
	for k, v := range values {
		out[k] = maskSame
		if other, ok := counterpart[k]; ok && !reflect.DeepEqual(v, other) {
			out[k] = word
		}
	}
	return out
}

// unified is the diff of two objects as YAML; nil is an object that is not there. It has no header.
func unified(before, after *unstructured.Unstructured) (string, error) {
	a, err := linesOf(before)
	if err != nil {
		return "", err
	}
	b, err := linesOf(after)
	if err != nil {
		return "", err
	}
	if len(strings.Join(a, ""))+len(strings.Join(b, "")) > maxCompared && len(a) > 0 && len(b) > 0 {
		return "too large to be compared line by line\n", nil
	}
	return difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: a, B: b, Context: contextLines})
}

func linesOf(u *unstructured.Unstructured) ([]string, error) {
	if u == nil {
		return nil, nil
	}
	text, err := yaml.Marshal(u.Object)
	if err != nil {
		return nil, err
	}
	return strings.SplitAfter(strings.TrimSuffix(string(text), "\n")+"\n", "\n")[:strings.Count(string(text), "\n")], nil
}
