package expr

import (
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
)

// What Judge says of an object: words of kstatus.
const (
	InProgress = "InProgress"
	Failed     = "Failed"
	Current    = "Current"
)

// HealthRule says of the objects of one kind when they are healthy. It is immutable and safe for concurrent use.
type HealthRule struct {
	tests []test
}

// test is one expression of a rule and what it means when it is true.
type test struct {
	name, status string
	program      cel.Program
}

// Health compiles a rule; inProgress and failed may be empty. All expressions give a boolean and see the fields at the top of the object as variables: apiVersion, kind,
// metadata, spec, status, data and whatever else the kind has. Errors name the expression and the column; where several are wrong, all are told.
func Health(inProgress, failed, current string) (*HealthRule, error) {
	r := &HealthRule{}
	var problems []error
	add := func(name, status, text string) {
		p, err := compiled(doorHealth, name, text)
		if err != nil {
			problems = append(problems, err)
			return
		}
		r.tests = append(r.tests, test{name: name, status: status, program: p})
	}
	if inProgress != "" {
		add("inProgress", InProgress, inProgress)
	}
	if failed != "" {
		add("failed", Failed, failed)
	}
	add("current", Current, current)
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return r, nil
}

// Judge says in a word of kstatus how an object is, and why where that helps. It is InProgress while it has no status, or one that its controller wrote for an earlier generation,
// while no expression is true, and when one cannot be evaluated: what is not known to be healthy is not.
func (r *HealthRule) Judge(obj map[string]any) (status, message string) {
	st, _ := obj["status"].(map[string]any)
	if len(st) == 0 {
		return InProgress, "it has no status yet"
	}
	if seen, ok := whole(st["observedGeneration"]); ok {
		meta, _ := obj["metadata"].(map[string]any)
		if now, ok := whole(meta["generation"]); ok && seen != now {
			return InProgress, fmt.Sprintf("its status is of generation %d, it is at %d", seen, now)
		}
	}
	for _, t := range r.tests {
		yes, err := evaluate(t.program, object(obj))
		switch {
		case err != nil:
			return InProgress, fmt.Sprintf("healthCheckExprs: %s: %v", t.name, err)
		case yes:
			return t.status, ""
		}
	}
	return InProgress, "none of its healthCheckExprs is true yet"
}

// whole reads a number that JSON may have made an integer or a float.
func whole(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case float64:
		return int64(n), true
	}
	return 0, false
}

// object are the variables of an object: its fields. The usual ones are there also where the object lacks them, empty, so that has(spec.x) says no and does not fail.
type object map[string]any

// ResolveName implements cel.Activation.
func (o object) ResolveName(name string) (any, bool) {
	if v, ok := o[name]; ok && v != nil {
		return v, true
	}
	switch name {
	case "metadata", "spec", "status", "data":
		return map[string]any{}, true
	}
	return nil, false
}

// Parent implements cel.Activation.
func (o object) Parent() cel.Activation { return nil }
