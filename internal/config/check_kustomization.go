package config

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
)

// affixPattern is what may be put before or behind an object's name.
var affixPattern = regexp.MustCompile(`^[a-z0-9.-]*$`)

func (e *entry) checkKustomization(k *deploy.KustomizationSpec) {
	e.checkInside("path", k.Path)
	e.checkDuration("interval", k.Interval)
	e.checkDuration("retryInterval", k.RetryInterval)
	e.checkDuration("timeout", k.Timeout)
	e.checkSHA256("allowMassPrune", k.AllowMassPrune)
	e.oneOf("deletionPolicy", string(k.DeletionPolicy), string(deploy.DeletionMirrorPrune), string(deploy.DeletionDelete), string(deploy.DeletionWait), string(deploy.DeletionOrphan))
	e.checkLabel("targetNamespace", k.TargetNamespace)
	e.checkAffix("namePrefix", k.NamePrefix)
	e.checkAffix("nameSuffix", k.NameSuffix)
	if m := k.CommonMetadata; m != nil {
		e.checkCommonMetadata(m)
	}
	for i, p := range k.Patches {
		e.checkPatch(fmt.Sprintf("patches[%d]", i), p)
	}
	for i, img := range k.Images {
		e.checkImage(fmt.Sprintf("images[%d]", i), img)
	}
}

func (e *entry) checkAffix(path, s string) {
	if !affixPattern.MatchString(s) {
		e.bad(path, "%q cannot be part of a name: want lower-case letters, digits, - and .", s)
	}
}

func (e *entry) checkCommonMetadata(m *deploy.CommonMetadata) {
	for k, v := range m.Labels {
		path := "commonMetadata.labels." + k
		if len(validation.IsQualifiedName(k)) > 0 {
			e.bad(path, "the key is not a label's: want [prefix/]name, the name at most 63 letters, digits, - _ and .")
		} else if len(validation.IsValidLabelValue(v)) > 0 {
			e.bad(path, "%q is not a label's value: want at most 63 letters, digits, - _ and ., with a letter or digit at both ends", v)
		}
	}
	for k := range m.Annotations {
		if len(validation.IsQualifiedName(strings.ToLower(k))) > 0 {
			e.bad("commonMetadata.annotations."+k, "the key is not an annotation's: want [prefix/]name, the name at most 63 letters, digits, - _ and .")
		}
	}
}

func (e *entry) checkImage(path string, img deploy.Image) {
	if img.Name == "" {
		if _, written := e.places[path+".name"]; written {
			e.bad(path+".name", "is empty: want the image as the manifests name it")
		}
	}
	if img.NewName == "" && img.NewTag == "" && img.Digest == "" {
		e.bad(path, "changes nothing: give newName, newTag or digest")
	}
	if img.NewTag != "" && !tagPattern.MatchString(img.NewTag) {
		e.bad(path+".newTag", "%q is not a tag", img.NewTag)
	}
	e.checkSHA256(path+".digest", img.Digest)
}

// checkPatch parses a patch as far as kustomize needs it to know what it is for.
func (e *entry) checkPatch(path string, p deploy.Patch) {
	if t := p.Target; t != nil {
		e.checkSelector(path+".target.labelSelector", t.LabelSelector)
		e.checkSelector(path+".target.annotationSelector", t.AnnotationSelector)
	}
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
				e.bad(path+".patch", "operation %d of the JSON 6902 patch wants op and path", i)
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
