package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value is a YAML value with aliases and merge keys resolved. Values that came through an alias are shared, so a few lines can stand for a huge
// tree: whoever walks one keeps to a budget.
type value struct {
	kind  kind
	place place
	// raw is a scalar as it was written, json as it is sent on.
	raw, json string
	list      []*value
	fields    []field
}

// field is one key of a map.
type field struct {
	key   string
	place place
	value *value
}

// get is the value of a key, nil if the map does not have it.
func (v *value) get(key string) *value {
	for _, f := range v.fields {
		if f.key == key {
			return f.value
		}
	}
	return nil
}

// maxMerged bounds the fields that merge keys may copy in one file: far above any real use, far below what hurts.
const maxMerged = 1_000_000

// converter turns the nodes of one file into values.
type converter struct {
	file   string
	report func(place, string)
	// done holds what was converted; nil is a node on the way down, so meeting it again means that an anchor contains itself.
	done   map[*yaml.Node]*value
	merged int
}

var errorLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parse reads all documents of a file. Documents without content are left out. A syntax error ends the reading; what came before it is returned.
func (c *converter) parse(content []byte) []*value {
	var docs []*value
	dec := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			line, text := syntaxError(content, err)
			c.report(place{file: c.file, line: line}, "not valid YAML: "+text)
			return docs
		}
		if len(doc.Content) == 0 {
			continue
		}
		if v := c.convert(doc.Content[0]); v.kind != kindNull {
			docs = append(docs, v)
		}
	}
}

// maxSearched is up to which size in bytes the line of a syntax error is searched for: that parses the file up to 15 times, a second at this size.
const maxSearched = 256 << 10

// syntaxError is the line of a syntax error and the parser's words for it. The parser names the line where the surrounding block begins, which may be
// far above; the line that breaks it is the first with which the beginning of the file fails in the same words.
func syntaxError(content []byte, err error) (int, string) {
	text := withoutLine(err)
	if len(content) > maxSearched {
		line := 1
		if m := errorLine.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1]) // digits; 0 where there are none
		}
		return max(line, 1), text
	}
	var ends []int // of the lines, in bytes
	for _, line := range bytes.SplitAfter(content, []byte("\n")) {
		ends = append(ends, len(line))
		if n := len(ends); n > 1 {
			ends[n-1] += ends[n-2]
		}
	}
	n := sort.Search(len(ends), func(i int) bool {
		err := decodes(content[:ends[i]])
		return err != nil && withoutLine(err) == text
	})
	return min(n+1, len(ends)), text
}

// decodes reports whether all documents parse.
func decodes(content []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func withoutLine(err error) string {
	return strings.TrimSpace(errorLine.ReplaceAllString(err.Error(), ""))
}

func (c *converter) place(n *yaml.Node) place {
	return place{file: c.file, line: n.Line, column: n.Column}
}

func (c *converter) bad(n *yaml.Node, format string, args ...any) *value {
	c.report(c.place(n), fmt.Sprintf(format, args...))
	return &value{kind: kindBad, place: c.place(n)}
}

func (c *converter) convert(n *yaml.Node) *value {
	if n.Kind == yaml.AliasNode {
		if v, known := c.done[n.Alias]; known && v == nil {
			return c.bad(n, "the anchor &%s contains itself", n.Value)
		}
		return c.convert(n.Alias)
	}
	if v := c.done[n]; v != nil {
		return v
	}
	c.done[n] = nil
	v := c.convertNew(n)
	c.done[n] = v
	return v
}

func (c *converter) convertNew(n *yaml.Node) *value {
	switch n.Kind {
	case yaml.ScalarNode:
		return c.scalar(n)
	case yaml.SequenceNode:
		if n.Tag != "!!seq" {
			return c.bad(n, "unknown tag %s on a list", n.Tag)
		}
		v := &value{kind: kindList, place: c.place(n)}
		for _, item := range n.Content {
			v.list = append(v.list, c.convert(item))
		}
		return v
	case yaml.MappingNode:
		if n.Tag != "!!map" {
			return c.bad(n, "unknown tag %s on a map", n.Tag)
		}
		return c.mapping(n)
	}
	return c.bad(n, "not a value")
}

func (c *converter) scalar(n *yaml.Node) *value {
	v := &value{place: c.place(n), raw: n.Value}
	var s scalar
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		var wrong string
		if s, wrong = resolveTagged(n.Tag, n.Value); wrong != "" {
			return c.bad(n, "%s", wrong)
		}
	case n.Style != 0: // quoted or a block
		s = textScalar(n.Value)
	default:
		var finite bool
		if s, finite = resolvePlain(n.Value); !finite {
			return c.bad(n, "infinite and undefined numbers cannot be sent on: quote it if text is meant")
		}
	}
	v.kind, v.json = s.kind, s.json
	return v
}

// mapping reads a map. Keys are kept exactly as they were written: on stays on, 0x10 stays 0x10.
func (c *converter) mapping(n *yaml.Node) *value {
	v := &value{kind: kindObject, place: c.place(n)}
	seen := map[string]int{} // key → index in v.fields
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.ScalarNode && key.Tag == "!!merge" {
			merges = append(merges, val)
			continue
		}
		name, ok := c.key(key)
		if !ok {
			continue
		}
		if first, dup := seen[name]; dup {
			c.report(c.place(key), fmt.Sprintf("key %q is given twice in one map, first in line %d: keep one", name, v.fields[first].place.line))
			continue
		}
		seen[name] = len(v.fields)
		v.fields = append(v.fields, field{key: name, place: c.place(key), value: c.convert(val)})
	}
	for _, m := range merges {
		c.merge(v, seen, m)
	}
	return v
}

func (c *converter) key(n *yaml.Node) (string, bool) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		c.report(c.place(n), "a key must be text, not a list or a map")
		return "", false
	}
	if n.Style == 0 && words[n.Value].json == "null" {
		c.report(c.place(n), "a key is empty or null: quote it if text is meant")
		return "", false
	}
	return n.Value, true
}

// merge copies the keys of <<: a map, or a list of maps of which earlier ones win. Keys of the map itself win over all of them, wherever they stand.
func (c *converter) merge(v *value, seen map[string]int, n *yaml.Node) {
	m := c.convert(n)
	from := []*value{m}
	if m.kind == kindList {
		from = m.list
	}
	for _, src := range from {
		if src.kind == kindBad {
			continue
		}
		if src.kind != kindObject {
			c.report(c.place(n), "<< merges maps: it wants an alias of a map or a list of them")
			return
		}
		for _, f := range src.fields {
			if _, have := seen[f.key]; have {
				continue
			}
			if c.merged++; c.merged > maxMerged {
				if c.merged == maxMerged+1 {
					c.report(c.place(n), fmt.Sprintf("merge keys copy more than %d fields", maxMerged))
				}
				return
			}
			seen[f.key] = len(v.fields)
			v.fields = append(v.fields, f)
		}
	}
}
