package main

import (
	"fmt"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
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

// shownDifference is what is printed of a difference: nothing in it is a value of a Secret, or of a field that was filled from one.
type shownDifference struct {
	Target string          `json:"target"`
	Action deploy.Action   `json:"action"`
	Object deploy.ObjectID `json:"object"`
	Fields []string        `json:"fields,omitempty"`
	Reason string          `json:"reason,omitempty"`
	Error  string          `json:"error,omitempty"`
	// Blocked is a prune that waits for somebody's word.
	Blocked bool `json:"blocked,omitempty"`
	// Diff of the object as YAML, unified.
	Diff string `json:"diff,omitempty"`
}

func show(target string, d deploy.Difference) (shownDifference, error) {
	s := shownDifference{Target: target, Action: d.Action, Object: d.Object, Fields: d.Fields, Reason: d.Reason, Blocked: d.Blocked}
	if d.Err != nil {
		s.Error = d.Err.Error()
	}
	before, after := tidy(d.Before), tidy(d.After)
	if d.Err != nil && after == nil {
		return s, nil // what it would become is not known: all lines of it as deleted would say that it goes
	}
	if deploy.HoldsSecrets(before) || deploy.HoldsSecrets(after) {
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
