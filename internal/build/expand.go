package build

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/fluxcd/pkg/envsubst"
	"github.com/fluxcd/pkg/envsubst/parse"
)

// errSyntax is a ${…} that cannot be read.
var errSyntax = errors.New("a ${…} in it cannot be read: to keep it as it is, write $${…}")

// maxEscapes bounds the $$ in one text. Each makes the library copy the whole text: a million of them would take it hours.
const maxEscapes = 10_000

// maxUndefined bounds how many undefined variables are looked for in one text; each takes another pass.
const maxUndefined = 10

// shortDefault is the beginning of ${v-default}, which the library does not know, with all $ before it.
var shortDefault = regexp.MustCompile(`\$+\{[_[:alpha:]][_[:alpha:][:digit:]]*-`)

// expand replaces the variables of a text. Undefined names the variables that have neither a value nor a default; the text is worth nothing then. Errors show no
// values. What it takes is taken off the budget first. The rules are those of Flux, with one exception: ${v:?why} without a value is undefined, where Flux takes why for the value.
// Asked, where it is not nil, is called with each variable that the text was made with, whatever was made of its value.
func expand(text string, vars map[string]string, b *budget, asked func(name string)) (out string, undefined []string, err error) {
	defer func() {
		if recover() != nil { // ${v:1:9223372036854775807} is enough
			out, undefined, err = "", nil, errSyntax
		}
	}()
	if n := strings.Count(text, "$$"); n > maxEscapes {
		return "", nil, fmt.Errorf("it has more than %d times $$: exclude the object from substitution", maxEscapes)
	}
	text = longDefaults(text)
	if err := b.take(text, vars); err != nil {
		return "", nil, err
	}
	template, err := envsubst.Parse(text)
	if err != nil {
		return "", nil, errSyntax // the library's say less
	}
	undefined = demanded(text, vars)
	pretended := make(map[string]bool)
	for len(undefined) < maxUndefined {
		var last string
		out, err = template.Execute(func(name string) (string, bool) {
			last = name
			if asked != nil {
				asked(name)
			}
			value, ok := vars[name]
			return value, ok || pretended[name]
		})
		if err == nil {
			return out, undefined, nil
		}
		// The one error there is: the variable that was asked for last has no value. Pretend that it has one, to find the next.
		if pretended[last] {
			return "", nil, errSyntax
		}
		pretended[last] = true
		undefined = append(undefined, last)
	}
	return "", undefined, nil
}

// longDefaults writes ${v-default} as ${v:-default}, which for the library is the same as ${v=default}. What $$ escapes stays.
func longDefaults(text string) string {
	return shortDefault.ReplaceAllStringFunc(text, func(m string) string {
		if strings.Count(m, "$")%2 == 0 {
			return m
		}
		return strings.TrimSuffix(m, "-") + ":-"
	})
}

// demanded lists the variables that stand in a ${v:?why} and have no value.
func demanded(text string, vars map[string]string) []string {
	if !strings.Contains(text, ":?") {
		return nil
	}
	tree, err := parse.Parse(text)
	if err != nil {
		return nil
	}
	var names []string
	var walk func(parse.Node)
	walk = func(n parse.Node) {
		switch n := n.(type) {
		case *parse.ListNode:
			for _, c := range n.Nodes {
				walk(c)
			}
		case *parse.FuncNode:
			if n.Name == ":?" && vars[n.Param] == "" {
				names = append(names, n.Param)
			}
			for _, c := range n.Args {
				walk(c)
			}
		}
	}
	walk(tree.Root)
	return names
}
