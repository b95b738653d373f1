package helm

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/towline/towline/internal/deploy"
)

// minWhole is from how many bytes on a secret value is looked for as a whole value of manifests, as minMasked is for within one. Shorter ones are words that stand everywhere.
const minWhole = 3

// secretTexts are values that came from Secrets and files.
type secretTexts struct{ whole, parts []string }

func newSecretTexts(texts []string) secretTexts {
	var s secretTexts
	for _, t := range texts {
		if len(t) >= minWhole {
			s.whole = append(s.whole, t)
		}
		if len(t) >= minMasked {
			s.parts = append(s.parts, formsOf(t)...)
		}
	}
	slices.Sort(s.whole)
	return s
}

func (s secretTexts) in(text string) bool {
	if _, found := slices.BinarySearch(s.whole, text); found {
		return true
	}
	return slices.ContainsFunc(s.parts, func(p string) bool { return strings.Contains(text, p) })
}

// mark names on an object its fields that hold secret values, beside those that the chart names, so that whoever shows the object hides them. The data of a Secret needs no such mark.
func (s secretTexts) mark(object *yaml.Node) {
	metadata := child(object, "metadata")
	if len(s.whole) == 0 || metadata == nil || metadata.Kind != yaml.MappingNode {
		return
	}
	var fields deploy.SecretFields
	s.collect(object, nil, &fields)
	if is(object, "kind", "Secret") && is(object, "apiVersion", "v1") {
		fields = slices.DeleteFunc(fields, func(p []string) bool { return len(p) > 0 && (p[0] == "data" || p[0] == "stringData") })
	}
	if len(fields) == 0 {
		return
	}
	annotations := submap(metadata, "annotations")
	if named := child(annotations, deploy.AnnotationSecretFields); named != nil {
		fields = append(fields, deploy.ParseSecretFields(named.Value)...)
	}
	set(annotations, deploy.AnnotationSecretFields, fields.String())
}

func is(object *yaml.Node, key, value string) bool {
	n := child(object, key)
	return n != nil && n.Value == value
}

func (s secretTexts) collect(n *yaml.Node, path []string, out *deploy.SecretFields) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			at := append(slices.Clip(path), n.Content[i].Value)
			if s.in(n.Content[i].Value) {
				*out = append(*out, slices.Clip(path)) // a key tells it too: all beside it is hidden
				continue
			}
			s.collect(n.Content[i+1], at, out)
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			s.collect(item, append(slices.Clip(path), "*"), out)
		}
	case yaml.ScalarNode:
		if !deploy.Names(path) && s.in(n.Value) {
			*out = append(*out, path)
		}
	}
}
