package build

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/fluxcd/pkg/envsubst/parse"
)

const (
	// maxText bounds what a text becomes, in bytes: the API server takes no larger object.
	maxText = 2 << 20
	// maxMade bounds what all texts of a build become, in bytes: texts that name a large variable often, or replace each letter of it, would fill any memory.
	maxMade = 32 << 20
	// maxTries bounds the comparisons of characters that trims take in one build: the library tries each part of the value, so that 1 MiB would take it hours. This many
	// take some seconds.
	maxTries = 1e9
	// copied is how many bytes are copied while a character is compared, about.
	copied = 32
	// maxVariables bounds the variables in one text: the library calls itself for each.
	maxVariables = 10_000
	// maxNested bounds how deep variables lie in the defaults of variables: the library calls itself for each.
	maxNested = 100
)

var (
	errLong   = fmt.Errorf("variables would make it larger than %d MiB, which no API server takes: use smaller values, or fewer of them", maxText>>20)
	errMade   = fmt.Errorf("variables would make it, with all before it, larger than %d MiB: exclude objects from substitution, or split the target", maxMade>>20)
	errTries  = errors.New("it trims too large a value too often: use a smaller value, or a variable for the trimmed one")
	errNested = fmt.Errorf("variables lie in defaults of variables more than %d deep", maxNested)
	errMany   = fmt.Errorf("it has more than %d variables: exclude the object from substitution", maxVariables)
)

// budget is what substitution may still take in one build. Numbers are floats, since those do not wrap.
type budget struct{ made, tries float64 }

func newBudget() *budget { return &budget{made: maxMade, tries: maxTries} }

// nested reports whether ${ lies in ${ too deep. It has to be known before a text is parsed.
func nested(text string) bool {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '}':
			depth = max(depth-1, 0)
		case text[i] == '$' && i+1 < len(text) && text[i+1] == '{':
			if depth++; depth > maxNested {
				return true
			}
		case text[i] == '$' && i+1 < len(text) && text[i+1] == '$':
			i++ // escaped
		}
	}
	return false
}

// replaces finds ${v/…: each backslash in one makes the library copy the whole text, as each $$ does everywhere.
var replaces = regexp.MustCompile(`\$\{[_[:alpha:]][_[:alpha:][:digit:]]*/`)

// escapes is the work that the escapes in a text take, in comparisons.
func escapes(text string) float64 {
	n := strings.Count(text, "$$")
	if replaces.MatchString(text) {
		n += strings.Count(text, `\`)
	}
	return float64(n) * float64(len(text)) / copied
}

// take takes what a text needs off the budget, before it is replaced.
func (b *budget) take(text string, vars map[string]string) error {
	switch {
	case strings.Count(text, "${") > maxVariables:
		return errMany
	case nested(text):
		return errNested
	}
	if b.tries -= escapes(text); b.tries < 0 {
		return errTries
	}
	tree, err := parse.Parse(text)
	if err != nil {
		return errSyntax
	}
	e := estimate{vars: vars}
	size := e.size(tree.Root) + e.between
	b.made -= size
	b.tries -= e.tries
	switch {
	case size > maxText:
		return errLong
	case b.made < 0:
		return errMade
	case b.tries < 0:
		return errTries
	}
	return nil
}

// estimate is what a text takes at most.
type estimate struct {
	vars           map[string]string
	between, tries float64 // between: written for arguments
}

// size is how long a node becomes, in bytes, at most.
func (e *estimate) size(n parse.Node) float64 {
	switch n := n.(type) {
	case *parse.TextNode:
		return float64(len(n.Value))
	case *parse.ListNode:
		sum := 0.0
		for _, c := range n.Nodes {
			sum += e.size(c)
		}
		return sum
	case *parse.FuncNode:
		return e.function(n)
	}
	return 0
}

func (e *estimate) function(n *parse.FuncNode) float64 {
	value := e.vars[n.Param]
	size, sum := float64(len(value)), 0.0
	args := make([]float64, len(n.Args))
	for i, a := range n.Args {
		args[i] = e.size(a)
		sum += args[i]
	}
	e.between += sum
	switch {
	case len(args) == 0:
		return size
	case strings.HasPrefix(n.Name, "#"), strings.HasPrefix(n.Name, "%"):
		e.tries += size * size / 2 * (1 + args[0])
		return size
	case n.Name == "//" && len(args) == 2:
		times := size + 1
		if old, ok := n.Args[0].(*parse.TextNode); ok {
			times = float64(strings.Count(value, old.Value))
		}
		return size + times*args[1]
	}
	return size + sum
}
