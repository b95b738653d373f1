package expr

import "github.com/google/cel-go/cel"

// ReadyRule says when a dependency is ready enough. It is immutable and safe for concurrent use.
type ReadyRule struct {
	program cel.Program
}

// Ready compiles a readyExpr: a boolean over dep, the target that is waited for, and self, the one that waits. Errors name the column.
func Ready(text string) (*ReadyRule, error) {
	p, err := compiled(doorReady, "readyExpr", text)
	if err != nil {
		return nil, err
	}
	return &ReadyRule{program: p}, nil
}

// Judge evaluates the rule. Its errors hold no values.
func (r *ReadyRule) Judge(dep, self map[string]any) (bool, error) {
	return evaluate(r.program, map[string]any{"dep": dep, "self": self})
}
