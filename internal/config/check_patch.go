package config

import (
	"errors"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/towline/towline/internal/deploy"
)

// checkTarget checks which objects a patch or a rule is for; nil is all of them.
func (e *entry) checkTarget(path string, t *deploy.Selector) {
	if t == nil {
		return
	}
	for _, f := range []struct{ name, pattern string }{
		{"group", t.Group}, {"version", t.Version}, {"kind", t.Kind}, {"namespace", t.Namespace}, {"name", t.Name},
	} {
		if _, err := regexp.Compile(f.pattern); err != nil {
			e.bad(path+"."+f.name, "not a regular expression: %v", err)
		}
	}
	e.checkSelector(path+".labelSelector", t.LabelSelector)
	e.checkSelector(path+".annotationSelector", t.AnnotationSelector)
}

func (e *entry) checkPatches(path string, patches []deploy.Patch) {
	for i, p := range patches {
		e.checkPatch(item(path, i), p)
	}
}

// checkPatch parses a patch as far as kustomize needs it to know what it is for.
func (e *entry) checkPatch(path string, p deploy.Patch) {
	e.checkTarget(path+".target", p.Target)
	if strings.TrimSpace(p.Patch) == "" {
		if _, written := e.places[path+".patch"]; written {
			e.bad(path+".patch", "is empty")
		}
		return
	}
	dec := yaml.NewDecoder(strings.NewReader(p.Patch))
	for docs := 0; ; docs++ {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			line, text := syntaxError([]byte(p.Patch), err)
			e.bad(path+".patch", "not valid YAML: line %d of the patch: %s", line, text)
			return
		}
		if len(doc.Content) == 1 {
			e.checkPatchDocument(path, doc.Content[0], p.Target != nil)
		}
	}
}

// operations of RFC 6902, section 4.
var patchOperations = []string{"add", "remove", "replace", "move", "copy", "test"}

func (e *entry) checkPatchDocument(path string, doc *yaml.Node, hasTarget bool) {
	switch doc.Kind {
	case yaml.SequenceNode:
		if !hasTarget {
			e.bad(path, "a JSON 6902 patch does not say which objects it is for: add target")
		}
		for i, op := range doc.Content {
			name, where := childText(op, "op"), childText(op, "path")
			if name == "" || where == "" {
				e.bad(path+".patch", "[%d] of the JSON 6902 patch wants op and path", i)
				continue
			}
			e.oneOf(path+".patch", name, patchOperations...)
		}
	case yaml.MappingNode:
		if !hasTarget && (childText(doc, "kind") == "" || childText(child(doc, "metadata"), "name") == "") {
			e.bad(path, "the patch does not say which object it is for: give it kind and metadata.name, or add target")
		}
	default:
		e.bad(path+".patch", "is neither a strategic merge patch (a map) nor a JSON 6902 patch (a list)")
	}
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func childText(n *yaml.Node, key string) string {
	if c := child(n, key); c != nil {
		return c.Value
	}
	return ""
}
