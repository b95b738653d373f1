package sops

import (
	"bytes"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlIndent is how far sops indents, in spaces.
const yamlIndent = 4

// writeYAML writes the documents in their order.
func writeYAML(f *file, docs []yamlDoc) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(yamlIndent)
	for _, d := range docs {
		n := d.node
		for _, item := range d.list {
			opened, err := yamlMap(f.parts[item.part].branches[0])
			if err != nil {
				return nil, err
			}
			*item.node = *opened
		}
		if n == nil {
			top, err := yamlMap(f.parts[d.part].branches[d.at])
			if err != nil {
				return nil, err
			}
			n = &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{top}}
		}
		if err := e.Encode(n); err != nil {
			return nil, errYAML
		}
	}
	if err := e.Close(); err != nil {
		return nil, errYAML
	}
	return out.Bytes(), nil
}

var errYAML = errors.New("what it holds cannot be written as YAML")

// waiting are comments that wait for the node that they belong to.
type waiting struct{ head, line []string }

func (w *waiting) add(n note) {
	if n.inline {
		w.line = append(w.line, "#"+n.text)
		return
	}
	w.head = append(w.head, "#"+n.text)
}

// putHead sets what waits above a node.
func (w *waiting) putHead(n *yaml.Node) {
	if len(w.head) > 0 {
		n.HeadComment = strings.Trim(strings.Join(w.head, "\n")+"\n"+n.HeadComment, "\n")
		w.head = nil
	}
}

// putLine sets what waits behind a node.
func (w *waiting) putLine(n *yaml.Node) {
	if len(w.line) > 0 {
		n.LineComment = strings.Join(w.line, "\n")
		w.line = nil
	}
}

// putRest sets what still waits: below the last node of a map or list, or above one that is empty.
func (w *waiting) putRest(of *yaml.Node, nodes, back int) {
	w.head = append(w.head, w.line...)
	if len(w.head) == 0 {
		return
	}
	if nodes == 0 {
		w.putHead(of)
		return
	}
	of.Content[nodes-back].FootComment = strings.Join(w.head, "\n")
}

func yamlMap(b branch) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	var w waiting
	for _, e := range b {
		if e.note != nil {
			w.add(*e.note)
			continue
		}
		if len(n.Content) == 0 {
			w.putHead(n)
		}
		k := &yaml.Node{}
		if err := k.Encode(e.key); err != nil {
			return nil, errYAML
		}
		w.putHead(k)
		v, err := yamlNode(e.value)
		if err != nil {
			return nil, err
		}
		w.putLine(v)
		n.Content = append(n.Content, k, v)
	}
	w.putRest(n, len(n.Content), 2)
	return n, nil
}

func yamlList(l []any) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	var w waiting
	for _, e := range l {
		if c, ok := e.(note); ok {
			w.add(c)
			continue
		}
		if len(n.Content) == 0 {
			w.putHead(n)
		}
		v, err := yamlNode(e)
		if err != nil {
			return nil, err
		}
		w.putHead(v)
		w.putLine(v)
		n.Content = append(n.Content, v)
	}
	w.putRest(n, len(n.Content), 1)
	return n, nil
}

func yamlNode(v any) (*yaml.Node, error) {
	switch v := v.(type) {
	case branch:
		return yamlMap(v)
	case []any:
		return yamlList(v)
	}
	n := &yaml.Node{}
	if err := n.Encode(v); err != nil {
		return nil, errYAML
	}
	return n, nil
}
