package helm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"helm.sh/helm/v3/pkg/postrender"

	"github.com/towline/towline/internal/deploy"
)

// labeller is a post-renderer that puts the target's label on every object, hooks excepted. It edits the YAML's nodes, so that comments, quotes and the spelling of numbers stay
// as the chart wrote them.
type labeller struct{ value string }

var _ postrender.PostRenderer = labeller{}

// Run implements postrender.PostRenderer.
func (l labeller) Run(in *bytes.Buffer) (*bytes.Buffer, error) {
	dec := yaml.NewDecoder(in)
	out := &bytes.Buffer{}
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the rendered manifests are not valid YAML: %w", err)
		}
		if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
			continue // a document of comments alone
		}
		if hasAlias(doc.Content[0]) {
			if err := expand(doc.Content[0]); err != nil {
				return nil, err
			}
		}
		l.label(doc.Content[0])
		out.WriteString("---\n")
		enc := yaml.NewEncoder(out)
		enc.SetIndent(2)
		if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
			return nil, fmt.Errorf("write the labelled manifests: %w", err)
		}
	}
}

// label labels an object, or each item of a list.
func (l labeller) label(object *yaml.Node) {
	if kind := child(object, "kind"); kind != nil && strings.HasSuffix(kind.Value, "List") {
		if items := child(object, "items"); items != nil && items.Kind == yaml.SequenceNode {
			for _, item := range items.Content {
				if item.Kind == yaml.MappingNode {
					l.label(item)
				}
			}
			return
		}
	}
	metadata := child(object, "metadata")
	if metadata == nil || metadata.Kind != yaml.MappingNode {
		return // no object: the server will say so better
	}
	labels := child(metadata, "labels")
	if labels == nil {
		labels = &yaml.Node{}
		metadata.Content = append(metadata.Content, text("labels"), labels)
	}
	if labels.Kind != yaml.MappingNode { // labels: with nothing below it
		*labels = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	if old := child(labels, deploy.LabelTarget); old != nil {
		*old = *text(l.value)
		return
	}
	labels.Content = append(labels.Content, text(deploy.LabelTarget), text(l.value))
}

// child is the value of a key.
func child(m *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

func hasAlias(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return true
	}
	return slices.ContainsFunc(n.Content, hasAlias)
}

// maxExpanded bounds the nodes of an object whose aliases are written out: aliases of aliases grow without end.
const maxExpanded = 200_000

// expand writes aliases out. A label added to an anchored map would otherwise appear in every place that refers to it: a selector, say.
func expand(root *yaml.Node) error {
	left := maxExpanded
	var copyOf func(n *yaml.Node) (*yaml.Node, error)
	copyOf = func(n *yaml.Node) (*yaml.Node, error) {
		if left--; left < 0 {
			return nil, fmt.Errorf("an object's YAML aliases expand to more than %d nodes", maxExpanded)
		}
		if n.Kind == yaml.AliasNode {
			return copyOf(n.Alias)
		}
		c := *n
		c.Anchor, c.Content = "", make([]*yaml.Node, len(n.Content))
		for i, sub := range n.Content {
			var err error
			if c.Content[i], err = copyOf(sub); err != nil {
				return nil, err
			}
		}
		return &c, nil
	}
	c, err := copyOf(root)
	if err != nil {
		return err
	}
	*root = *c
	return nil
}
