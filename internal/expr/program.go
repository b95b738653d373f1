package expr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/types"
)

// evalLimit ends an evaluation that the cost limit does not. It is long, since a loaded machine must not make a healthy object look otherwise.
const evalLimit = 5 * time.Second

// maxText is the longest expression, in bytes.
const maxText = 16 << 10

// maxPrograms is how many compiled expressions are kept. One takes 70 KiB, and configs repeat few of them over many targets.
const maxPrograms = 64

// door is where an expression comes from: it decides on its variables.
type door string

const (
	doorHealth door = "health"
	doorReady  door = "ready"
)

type programKey struct {
	door door
	text string
}

// programs are those compiled already, by what they were compiled from: compiling takes half a millisecond, and the same text comes with each plan of each target.
var programs struct {
	sync.Mutex // guards kept
	kept       map[programKey]cel.Program
}

// compiled is the program of an expression. Its errors begin with the name that the expression has in the config, and say the column.
func compiled(d door, name, text string) (cel.Program, error) {
	key := programKey{d, text}
	programs.Lock()
	p, ok := programs.kept[key]
	programs.Unlock()
	if ok {
		return p, nil
	}
	p, err := compile(d, text)
	if err != nil {
		return nil, fmt.Errorf("%s%w", name, err)
	}
	programs.Lock()
	defer programs.Unlock()
	if programs.kept == nil {
		programs.kept = map[programKey]cel.Program{}
	}
	for k := range programs.kept {
		if len(programs.kept) < maxPrograms {
			break
		}
		delete(programs.kept, k) // any of them: it is compiled again when it is needed
	}
	programs.kept[key] = p
	return p, nil
}

// compile parses and checks an expression. The words of its errors follow a name.
func compile(d door, text string) (cel.Program, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, errors.New(": the expression is empty")
	case len(text) > maxText:
		return nil, fmt.Errorf(": the expression has %d bytes, at most %d are allowed", len(text), maxText)
	}
	env, err := healthEnvironment()
	if d == doorReady {
		env, err = readyEnvironment()
	}
	if err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	parsed, issues := env.Parse(text)
	if err := problem(text, issues); err != nil {
		return nil, err
	}
	if d == doorHealth {
		if env, err = declareFields(env, text, parsed); err != nil {
			return nil, err
		}
	}
	checked, issues := env.Check(parsed)
	if err := problem(text, issues); err != nil {
		return nil, err
	}
	// Of an object's field nobody knows the type before there is an object, so that a health expression may be one: it is looked at then. Flux does the same.
	out := checked.OutputType()
	if !out.IsExactType(cel.BoolType) && (d != doorHealth || !out.IsExactType(cel.DynType)) {
		hint := ""
		if out.IsExactType(cel.DynType) {
			hint = "; compare it: … == true"
		}
		return nil, fmt.Errorf(": the expression gives %s, want bool%s", cel.FormatCELType(out), hint)
	}
	p, err := env.Program(checked, limits()...)
	if err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	return p, nil
}

// problem is the first thing that the compiler found wrong, and where.
func problem(text string, issues *cel.Issues) error {
	if issues.Err() == nil {
		return nil
	}
	found := issues.Errors()
	if len(found) == 0 {
		return fmt.Errorf(": %w", issues.Err())
	}
	message, _, _ := strings.Cut(found[0].Message, " (in container '')")
	return fmt.Errorf("%s: %s", place(text, found[0].Location), message)
}

// place is where in a text something is wrong.
func place(text string, at common.Location) string {
	where := fmt.Sprintf(", column %d", at.Column()+1) // CEL counts from zero
	if strings.Contains(strings.TrimSpace(text), "\n") {
		where = fmt.Sprintf(", line %d%s", at.Line(), where)
	}
	return where
}

// evaluate runs a program.
func evaluate(p cel.Program, vars any) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), evalLimit)
	defer cancel()
	v, _, err := p.ContextEval(ctx, vars)
	if err != nil {
		return false, plain(err)
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, fmt.Errorf("the expression gives %s, want bool", v.Type().TypeName())
	}
	return bool(b), nil
}

// harmless are how those errors begin that show names and no values.
var harmless = []string{"no such key", "no such attribute", "no such overload", "division by zero", "modulus by zero", "index out of bounds", tooLarge}

// plain is an error of an evaluation without what the object holds: conversions quote the value, which may be secret.
func plain(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "cost limit exceeded"):
		return errors.New("the expression costs too much; make it look at less")
	case strings.Contains(text, "interrupted"):
		return fmt.Errorf("the expression took more than %s; make it look at less", evalLimit)
	case slices.ContainsFunc(harmless, func(h string) bool { return strings.HasPrefix(text, h) }):
		return errors.New(text)
	}
	return errors.New("a value has not the form that the expression wants (it is not shown: it may be secret)")
}
