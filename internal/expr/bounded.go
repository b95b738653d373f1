package expr

import (
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/decls"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
)

// maxMade is the longest text that one call may make, in bytes. The cost of a call is only known afterwards, and replacing each letter of a long text by that text fills any memory at once.
const maxMade = 1 << 20

// grows are the functions whose result may be much larger than what goes in, with the length of the result at most.
var grows = map[string]func(args []ref.Val) int64{
	"replace": func(args []ref.Val) int64 {
		s, old, by := text(args[0]), text(args[1]), text(args[2])
		n := int64(count(s, old))
		if len(args) == 4 {
			if most, ok := args[3].(types.Int); ok && most >= 0 {
				n = min(n, int64(most))
			}
		}
		return int64(len(s)) + n*int64(len(by))
	},
	"join": func(args []ref.Val) int64 {
		separator := int64(0)
		if len(args) == 2 {
			separator = int64(len(text(args[1])))
		}
		return weight(args[0], separator, maxMade)
	},
	"format": func(args []ref.Val) int64 { return int64(len(text(args[0]))) + weight(args[1], 0, maxMade) },
}

func text(v ref.Val) string {
	s, _ := v.(types.String)
	return string(s)
}

// count is how often a text may be replaced.
func count(s, old string) int {
	if old == "" {
		return len(s) + 1
	}
	return len(s) / len(old)
}

// weight is about how many bytes a value takes as text, with something between the members of lists. It stops counting beyond the limit.
func weight(v ref.Val, between, limit int64) int64 {
	const scalar = 32 // bytes of a number or a time
	sum := int64(0)
	switch v := v.(type) {
	case types.String:
		return int64(len(v))
	case types.Bytes:
		return int64(len(v))
	case traits.Mapper:
		for it := v.Iterator(); it.HasNext() == types.True && sum <= limit; {
			k := it.Next()
			sum += weight(k, 0, limit-sum) + weight(v.Get(k), 0, limit-sum) + scalar
		}
		return sum
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == types.True && sum <= limit; {
			sum += weight(it.Next(), 0, limit-sum) + between
		}
		return sum
	}
	return scalar
}

// boundedStrings is the library of texts that Flux and Kubernetes have, except that nothing of it makes a text of more than maxMade.
func boundedStrings() (cel.EnvOption, error) {
	env, err := cel.NewCustomEnv(ext.Strings())
	if err != nil {
		return nil, err
	}
	var out []*decls.FunctionDecl
	for name, fn := range env.Functions() {
		if size := grows[name]; size != nil {
			if fn, err = bounded(fn, size); err != nil {
				return nil, fmt.Errorf("bound the function %s: %w", name, err)
			}
		}
		out = append(out, fn)
	}
	return cel.FunctionDecls(out...), nil
}

// bounded is a function that refuses to make what is too large.
func bounded(fn *decls.FunctionDecl, size func([]ref.Val) int64) (*decls.FunctionDecl, error) {
	bindings, err := fn.Bindings()
	if err != nil {
		return nil, err
	}
	calls := make(map[string]functions.FunctionOp, len(bindings))
	for _, b := range bindings {
		calls[b.Operator] = call(b)
	}
	var opts []decls.FunctionOpt
	for _, o := range fn.OverloadDecls() {
		run := calls[o.ID()]
		if run == nil || !o.IsMemberFunction() {
			return nil, fmt.Errorf("overload %s has another form than expected", o.ID())
		}
		opts = append(opts, decls.MemberOverload(o.ID(), o.ArgTypes(), o.ResultType(), decls.FunctionBinding(func(args ...ref.Val) ref.Val {
			if size(args) > maxMade {
				return types.NewErr("%s", tooLarge)
			}
			return run(args...)
		})))
	}
	return decls.NewFunction(fn.Name(), opts...)
}

// tooLarge begins the error of a call whose result would be.
const tooLarge = "the expression makes a text that is too large"

// call gives bindings of any number of arguments one form.
func call(b *functions.Overload) functions.FunctionOp {
	switch {
	case b.Unary != nil:
		return func(args ...ref.Val) ref.Val { return b.Unary(args[0]) }
	case b.Binary != nil:
		return func(args ...ref.Val) ref.Val { return b.Binary(args[0], args[1]) }
	}
	return b.Function
}
