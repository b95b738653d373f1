package expr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
)

// declareFields declares what an expression names and nobody knows: kinds of others have fields of any name at the top, such as rules or subsets. A name that looks like
// one of the usual fields is an error: the object would never have it, and the expression never be true. The words of errors follow a name.
func declareFields(env *cel.Env, text string, parsed *cel.Ast) (*cel.Env, error) {
	info := parsed.NativeRep().SourceInfo()
	own := macroVariables(parsed)
	var fields []string
	var wrong error
	ast.PostOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.IdentKind {
			return
		}
		n := e.AsIdent()
		if strings.ContainsAny(n, "@.") || slices.Contains(objectFields, n) || slices.Contains(fields, n) {
			return
		}
		if _, typeName := env.CELTypeProvider().FindIdent(n); typeName {
			return
		}
		if meant := misspelt(n); meant != "" && wrong == nil && !slices.Contains(own, n) {
			wrong = fmt.Errorf("%s: %s is no field that objects have: did you mean %s?", place(text, info.GetStartLocation(e.ID())), n, meant)
		}
		fields = append(fields, n) // also the variables of macros: those hide it
	}))
	if wrong != nil || len(fields) == 0 {
		return env, wrong
	}
	env, err := declare(func() (*cel.Env, error) { return env, nil }, cel.DynType, fields)
	if err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	return env, nil
}

// macroVariables are the names that macros such as exists give to what they look at.
func macroVariables(parsed *cel.Ast) []string {
	var names []string
	ast.PostOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.ComprehensionKind {
			names = append(names, e.AsComprehension().IterVar(), e.AsComprehension().IterVar2(), e.AsComprehension().AccuVar())
		}
	}))
	return names
}

// misspelt is the usual field that a name is a slip of: other cases, two letters in the other order, one too many or too few. Another letter is none: date is not data; nor
// is a plural.
func misspelt(name string) string {
	for _, f := range objectFields {
		switch {
		case strings.EqualFold(name, f), len(name) == len(f) && swapped(name, f), len(name) == len(f)+1 && name != f+"s" && without(name, f), len(name)+1 == len(f) && without(f, name):
			return f
		}
	}
	return ""
}

// swapped reports whether two neighbours in a are in the other order in b.
func swapped(a, b string) bool {
	for i := 0; i+1 < len(a); i++ {
		if a[i] != b[i] {
			return a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
		}
	}
	return false
}

// without reports whether a is b with one more letter.
func without(a, b string) bool {
	for i := range b {
		if a[i] != b[i] {
			return a[i+1:] == b[i:]
		}
	}
	return true
}
