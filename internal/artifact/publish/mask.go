package publish

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What is shown in place of a value: nobody can read it, or guess it from its length.
const (
	masked       = "***"
	maskedBefore = "*** (before)"
	maskedAfter  = "*** (after)"
)

// lastApplied is where kubectl keeps a copy of the whole object.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// mayHoldSecret finds what could be a Secret, or make one, in any text.
var mayHoldSecret = regexp.MustCompile(`(?i)secret`)

// errNoYAML does not quote the parser: it quotes the text.
var errNoYAML = errors.New("is no valid YAML")

// maskPair takes the values of Secrets out of two versions of a file, so that values that differ still differ. A file in which nothing can be a Secret is returned
// as it is. One that has a Secret is written anew, without comments. An error: it cannot be told what is a Secret in it.
func maskPair(before, after string) (string, string, error) {
	if !mayHoldSecret.MatchString(before) && !mayHoldSecret.MatchString(after) {
		return before, after, nil
	}
	a, err := parseDocs(before)
	if err != nil {
		return "", "", err
	}
	b, err := parseDocs(after)
	if err != nil {
		return "", "", err
	}
	left, right := a.secrets(), b.secrets()
	switch {
	case left == nil || right == nil:
		return "", "", errTooDeep
	case len(left)+len(right) == 0:
		return before, after, nil
	}
	for at, value := range left {
		value.hide(right[at], maskedBefore)
	}
	for at, value := range right {
		value.hide(left[at], maskedAfter)
	}
	texts := [2]string{}
	for i, d := range []documents{a, b} {
		if texts[i], err = d.text(); err != nil {
			return "", "", err
		}
	}
	return texts[0], texts[1], nil
}

// maxMerges is how many merge keys may lead to each other: two is much, and a ring of them has no end.
const maxMerges = 4

var errTooDeep = errors.New("its merge keys lead to each other too often")

// documents are those of a file.
type documents []*yaml.Node

func parseDocs(s string) (documents, error) {
	dec := yaml.NewDecoder(strings.NewReader(s))
	var out documents
	for {
		n := &yaml.Node{}
		err := dec.Decode(n)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, errNoYAML
		}
		out = append(out, n)
	}
}

func (d documents) text() (string, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	for _, n := range d {
		if err := enc.Encode(n); err != nil {
			return "", errors.New("cannot be written without its values")
		}
	}
	_ = enc.Close() // a buffer does not fail
	return b.String(), nil
}

// secret is one value that must not be shown.
type secret struct {
	node *yaml.Node
	was  string
}

// hide replaces the value; counterpart is the one at the same place in the other version, nil where there is none.
func (s *secret) hide(counterpart *secret, word string) {
	if counterpart == nil || counterpart.was == s.was {
		word = masked
	}
	*s.node = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: word, Anchor: s.node.Anchor}
}

// secrets finds every value that must not be shown, by its place: the number of the Secret's name and the key tell the versions' values together. It takes the
// comments of such files away, for people comment values out. Nil: the search has no end.
func (d documents) secrets() map[string]*secret {
	f := &finder{found: map[string]*secret{}, seen: map[*yaml.Node]bool{}}
	for _, n := range d {
		f.walk(n)
	}
	if f.tooDeep {
		return nil
	}
	if len(f.found) > 0 {
		for _, n := range d {
			uncomment(n)
		}
	}
	return f.found
}

type finder struct {
	found   map[string]*secret
	seen    map[*yaml.Node]bool // what is found already: aliases lead there again, and may lead in a ring
	tooDeep bool
}

func (f *finder) walk(n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		for _, kind := range f.values(n, "kind", 0) {
			switch kind.Value {
			case "Secret":
				f.secret(n)
			case "SecretList": // its items need not say their kind
				for _, items := range f.values(n, "items", 0) {
					for _, item := range items.Content {
						f.secret(deref(item))
					}
				}
			}
		}
		for _, generators := range f.values(n, "secretGenerator", 0) {
			for i, g := range generators.Content {
				for _, literals := range f.values(g, "literals", 0) {
					f.add(fmt.Sprintf("generator/%d/%s", i, f.scalar(g, "name")), literals)
				}
			}
		}
	}
	for _, child := range n.Content {
		f.walk(child)
	}
}

// secret notes the values of one Secret.
func (f *finder) secret(n *yaml.Node) {
	name := ""
	for _, meta := range f.values(n, "metadata", 0) {
		name += f.scalar(meta, "namespace") + "/" + f.scalar(meta, "name")
		for _, annotations := range f.values(meta, "annotations", 0) {
			for _, v := range f.values(annotations, lastApplied, 0) {
				f.add(name+"/"+lastApplied, v)
			}
		}
	}
	for _, field := range []string{"data", "stringData"} {
		for _, v := range f.values(n, field, 0) {
			f.add(name+"/"+field, v)
		}
	}
}

// add notes a value, or each of a mapping's or list's.
func (f *finder) add(at string, n *yaml.Node) {
	n = deref(n)
	if f.seen[n] {
		return
	}
	f.seen[n] = true
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			f.add(at+"/"+n.Content[i].Value, n.Content[i+1])
		}
	case yaml.SequenceNode:
		for i, child := range n.Content {
			f.add(fmt.Sprintf("%s/%d", at, i), child)
		}
	default:
		for f.found[at] != nil { // the same Secret twice in one file
			at += "+"
		}
		f.found[at] = &secret{n, n.Value}
	}
}

// values are all that a mapping says for a key, also through merge keys: a key that is there twice counts twice.
func (f *finder) values(n *yaml.Node, key string, merges int) []*yaml.Node {
	n = deref(n)
	if n.Kind != yaml.MappingNode {
		return nil
	}
	if merges > maxMerges {
		f.tooDeep = true
		return nil
	}
	var out []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch k, v := deref(n.Content[i]), deref(n.Content[i+1]); {
		case k.Value == key:
			out = append(out, v)
		case k.Value == "<<" && v.Kind == yaml.SequenceNode:
			for _, m := range v.Content {
				out = append(out, f.values(m, key, merges+1)...)
			}
		case k.Value == "<<":
			out = append(out, f.values(v, key, merges+1)...)
		}
	}
	return out
}

// scalar is a text of a mapping, empty where there is none.
func (f *finder) scalar(n *yaml.Node, key string) string {
	for _, v := range f.values(n, key, 0) {
		return v.Value
	}
	return ""
}

func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func uncomment(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	for _, child := range n.Content {
		uncomment(child)
	}
}
