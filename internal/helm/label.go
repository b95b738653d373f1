package helm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"

	"helm.sh/helm/v3/pkg/postrender"

	"github.com/towline/towline/internal/deploy"
)

// labeller is a post-renderer that puts the target's label on every object, hooks excepted, and what else the target wants there. It edits the YAML's nodes, so that comments, quotes
// and the spelling of numbers stay as the chart wrote them.
type labeller struct {
	value string
	// patch runs the postRenderers; nil: there are none.
	patch  func([]byte) ([]byte, error)
	common *deploy.CommonMetadata
	secret secretTexts
}

// labellerOf is that of a target.
func labellerOf(t deploy.Target, patch Patcher, secret []string) labeller {
	l := labeller{value: t.Name.LabelValue(), common: t.HelmRelease.CommonMetadata, secret: newSecretTexts(secret)}
	if len(t.HelmRelease.PostRenderers) > 0 {
		l.patch = func(manifests []byte) ([]byte, error) { return runPostRenderers(t, patch, manifests) }
	}
	return l
}

// Patcher does what kustomize would to manifests.
type Patcher func(manifests []byte, k deploy.KustomizeRenderer) ([]byte, error)

// runPostRenderers runs them in order.
func runPostRenderers(t deploy.Target, patch Patcher, manifests []byte) ([]byte, error) {
	if patch == nil {
		return nil, errors.New("postRenderers cannot be run here")
	}
	var err error
	for i, r := range t.HelmRelease.PostRenderers {
		if r.Kustomize == nil {
			continue
		}
		if manifests, err = patch(manifests, *r.Kustomize); err != nil {
			return nil, fmt.Errorf("postRenderers[%d].kustomize: %w", i, err)
		}
	}
	return manifests, nil
}

var _ postrender.PostRenderer = labeller{}

// Run implements postrender.PostRenderer.
func (l labeller) Run(in *bytes.Buffer) (*bytes.Buffer, error) {
	if l.patch != nil {
		patched, err := l.patch(in.Bytes())
		if err != nil {
			return nil, err
		}
		in = bytes.NewBuffer(patched)
	}
	return edit(in, l.label)
}

// edit does something to each object of a text.
func edit(in io.Reader, do func(object *yaml.Node)) (*bytes.Buffer, error) {
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
		do(doc.Content[0])
		steady(doc.Content[0])
		out.WriteString("---\n")
		enc := yaml.NewEncoder(out)
		enc.SetIndent(2)
		if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
			return nil, fmt.Errorf("write the labelled manifests: %w", err)
		}
	}
}

// steady gives blocks of text a style in which they are written as they were read: the library adds lines to folded ones, and what begins with white space cannot be read again.
func steady(n *yaml.Node) {
	const block = yaml.FoldedStyle | yaml.LiteralStyle
	if n.Kind == yaml.ScalarNode && n.Style&block != 0 {
		n.Style = n.Style&^block | yaml.LiteralStyle
		if strings.TrimLeftFunc(n.Value, unicode.IsSpace) != n.Value {
			n.Style = n.Style&^block | yaml.DoubleQuotedStyle
		}
	}
	for _, sub := range n.Content {
		steady(sub)
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
	if c := l.common; c != nil {
		setAll(metadata, "labels", c.Labels)
		setAll(metadata, "annotations", c.Annotations)
	}
	set(submap(metadata, "labels"), deploy.LabelTarget, l.value)
	l.secret.mark(object)
}

func setAll(metadata *yaml.Node, key string, values map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(values)) {
		set(submap(metadata, key), k, values[k])
	}
}

// submap is the map under a key, made where there is none; a key with nothing below it is one.
func submap(m *yaml.Node, key string) *yaml.Node {
	sub := child(m, key)
	if sub == nil {
		sub = &yaml.Node{}
		m.Content = append(m.Content, text(key), sub)
	}
	if sub.Kind != yaml.MappingNode {
		*sub = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	return sub
}

// set sets a text.
func set(m *yaml.Node, key, value string) {
	if old := child(m, key); old != nil {
		*old = *text(value)
		return
	}
	m.Content = append(m.Content, text(key), text(value))
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

// text is in quotes where it has to be: Helm reads YAML 1.1, where yes, on and 1:30 are no texts.
func text(s string) *yaml.Node {
	n := &yaml.Node{}
	_ = n.Encode(s) // a text always can be
	return n
}

func hasAlias(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return true
	}
	return slices.ContainsFunc(n.Content, hasAlias)
}

// expand writes aliases and merge keys out. A label added to an anchored map would otherwise appear in every place that refers to it: a selector, say.
func expand(object *yaml.Node) error {
	b, err := yaml.Marshal(object)
	if err == nil {
		b, err = sigsyaml.YAMLToJSON(b) // as Helm reads it; it refuses aliases that grow without end
	}
	var doc yaml.Node
	if err == nil {
		err = yaml.Unmarshal(b, &doc)
	}
	if err != nil {
		return fmt.Errorf("write out the aliases of an object: %w", err)
	}
	*object = *doc.Content[0]
	return nil
}
