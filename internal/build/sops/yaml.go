package sops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// aliasNodes bounds how many nodes aliases may add to those that the text has.
const aliasNodes = 100_000

// yamlDoc is one document of a stream.
type yamlDoc struct {
	node *yaml.Node // of a document that is not encrypted
	list []yamlItem // objects in node that are
	part int        // of one that is
	at   int        // its place in the part
}

// yamlItem is an encrypted object in a list that is not encrypted as a whole.
type yamlItem struct {
	node *yaml.Node
	part int // which has this object alone
}

// readYAML reads a stream of documents. sops encrypts a stream as a whole: all of its documents have the same metadata, and one MAC. Documents with metadata of
// their own, as after joining files, are parts of their own; those without any stay as they are.
func readYAML(content []byte) (*file, error) {
	var docs []yamlDoc
	f := &file{}
	byMAC := make(map[string]int)
	d := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var n yaml.Node
		err := d.Decode(&n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil //nolint:nilerr // not YAML: whoever wants objects from it says so
		}
		m := yamlMetadata(&n)
		if m == nil {
			list, err := f.items(&n, len(content)+aliasNodes)
			if err != nil {
				return nil, err
			}
			docs = append(docs, yamlDoc{node: &n, list: list})
			continue
		}
		r := yamlReader{nodes: len(content) + aliasNodes}
		b, err := r.document(&n)
		if err != nil {
			return nil, err
		}
		b, _ = b.takeOutMetadata()
		id := str(m["mac"]) + " " + str(m["lastmodified"])
		i, ok := byMAC[id]
		if !ok {
			i = len(f.parts)
			byMAC[id] = i
			f.parts = append(f.parts, part{metadata: m})
		}
		docs = append(docs, yamlDoc{part: i, at: len(f.parts[i].branches)})
		f.parts[i].branches = append(f.parts[i].branches, b)
	}
	if len(f.parts) == 0 {
		return nil, nil
	}
	f.write = func() ([]byte, error) { return writeYAML(f, docs) }
	return f, nil
}

// items adds the encrypted objects of a list as parts, each with a MAC of its own: sops encrypted them one by one, before they were put together.
func (f *file) items(doc *yaml.Node, nodes int) ([]yamlItem, error) {
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, nil
	}
	var head struct {
		Kind string `yaml:"kind"`
	}
	if err := doc.Content[0].Decode(&head); err != nil || !strings.HasSuffix(head.Kind, "List") {
		return nil, nil //nolint:nilerr // whoever wants objects from it says so
	}
	var found []yamlItem
	r := yamlReader{nodes: nodes}
	top := doc.Content[0].Content
	for i := 0; i+1 < len(top); i += 2 {
		if top[i].Value != "items" || top[i+1].Kind != yaml.SequenceNode {
			continue
		}
		for _, n := range top[i+1].Content {
			m := yamlMetadata(&yaml.Node{Content: []*yaml.Node{n}})
			if m == nil {
				continue
			}
			b, err := r.mapping(n, false, 0)
			if err != nil {
				return nil, err
			}
			b, _ = b.takeOutMetadata()
			found = append(found, yamlItem{node: n, part: len(f.parts)})
			f.parts = append(f.parts, part{metadata: m, branches: []branch{b}})
		}
	}
	return found, nil
}

// yamlMetadata is the metadata of a document; nil if it has none.
func yamlMetadata(doc *yaml.Node) map[string]any {
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil
	}
	top := doc.Content[0].Content
	for i := 0; i+1 < len(top); i += 2 {
		if top[i].Value != metadataKey {
			continue
		}
		r := yamlReader{nodes: aliasNodes}
		v, err := r.value(top[i+1], true, 0)
		if err != nil {
			return nil
		}
		if m, ok := plain(v).(map[string]any); ok && IsMetadata(m) {
			return m
		}
	}
	return nil
}

// yamlReader turns nodes into values. The comments of a node become entries before and behind its value, in the order in which sops counts them.
type yamlReader struct{ nodes int }

func (r *yamlReader) spend(depth int) error {
	r.nodes--
	if r.nodes < 0 {
		return errors.New("its aliases make it too large")
	}
	if depth > maxDepth {
		return errDepth
	}
	return nil
}

// notes are the lines of a comment.
func notes(comment string, inline bool) []note {
	var lines []note
	for line := range strings.SplitSeq(comment, "\n") {
		if line != "" {
			lines = append(lines, note{text: line[1:], inline: inline})
		}
	}
	return lines
}

func (b branch) with(comment string, inline bool) branch {
	for _, n := range notes(comment, inline) {
		b = append(b, entry{note: &n})
	}
	return b
}

func listWith(l []any, comment string, inline bool) []any {
	for _, n := range notes(comment, inline) {
		l = append(l, n)
	}
	return l
}

func (r *yamlReader) document(n *yaml.Node) (branch, error) {
	b := branch{}.with(n.HeadComment, false).with(n.LineComment, false)
	inner, err := r.mapping(n.Content[0], false, 0)
	if err != nil {
		return nil, err
	}
	return append(b, inner...).with(n.FootComment, false), nil
}

func (r *yamlReader) mapping(n *yaml.Node, commented bool, depth int) (branch, error) {
	if err := r.spend(depth); err != nil {
		return nil, err
	}
	b := branch{}
	if !commented {
		b = b.with(n.HeadComment, false).with(n.LineComment, false)
	}
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		b = b.with(k.HeadComment, false).with(k.LineComment, false)
		scalar := v.Kind == yaml.ScalarNode || v.Kind == yaml.AliasNode
		if scalar {
			b = b.with(v.HeadComment, false).with(v.LineComment, true)
		}
		key, err := yamlKey(k)
		if err != nil {
			return nil, err
		}
		if seen[key] {
			return nil, fmt.Errorf("line %d: the key %s is there twice", k.Line, where([]string{key}))
		}
		seen[key] = true
		value, err := r.value(v, scalar, depth+1)
		if err != nil {
			return nil, err
		}
		b = append(b, entry{key: key, value: value})
		if scalar {
			b = b.with(v.FootComment, false)
		}
		b = b.with(k.FootComment, false)
	}
	if !commented {
		b = b.with(n.FootComment, false)
	}
	return b, nil
}

func yamlKey(n *yaml.Node) (string, error) {
	var key any
	if n.Kind != yaml.ScalarNode || n.Decode(&key) != nil {
		return "", fmt.Errorf("line %d: a key is no text", n.Line)
	}
	s, ok := key.(string)
	if !ok {
		return "", fmt.Errorf("line %d: a key is no text: sops knows no other: put it in quotes", n.Line)
	}
	return s, nil
}

func (r *yamlReader) sequence(n *yaml.Node, commented bool, depth int) ([]any, error) {
	l := []any{}
	if !commented {
		l = listWith(listWith(l, n.HeadComment, false), n.LineComment, false)
	}
	for _, e := range n.Content {
		l = listWith(listWith(l, e.HeadComment, false), e.LineComment, true)
		v, err := r.value(e, true, depth+1)
		if err != nil {
			return nil, err
		}
		l = listWith(append(l, v), e.FootComment, false)
	}
	if !commented {
		l = listWith(l, n.FootComment, false)
	}
	return l, nil
}

// value turns a node into a value; commented: its comments are taken already.
func (r *yamlReader) value(n *yaml.Node, commented bool, depth int) (any, error) {
	if err := r.spend(depth); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.MappingNode:
		return r.mapping(n, commented, depth)
	case yaml.SequenceNode:
		return r.sequence(n, commented, depth)
	case yaml.AliasNode:
		return r.value(n.Alias, false, depth+1)
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, fmt.Errorf("line %d: a value is not of the type that its tag says", n.Line)
	}
	switch v := v.(type) {
	case nil, string, int64, float64, bool, time.Time:
		return v, nil
	case int:
		return int64(v), nil
	}
	return nil, fmt.Errorf("line %d: a number is too large: put it in quotes", n.Line)
}
