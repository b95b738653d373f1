package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/kyaml/kio"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// decode reads the objects of a manifest file as kustomize would: documents that are empty are dropped, lists are opened. Errors name the file and the document.
func decode(file string, content []byte) ([]*unstructured.Unstructured, error) {
	// Lists are opened below, so that errors say where in the list: the reader would count their items as documents.
	nodes, err := (&kio.ByteReader{OmitReaderAnnotations: true, AnchorsAweigh: true, DisableUnwrapping: true, Reader: bytes.NewReader(content)}).Read()
	if err != nil {
		return nil, fmt.Errorf("%s is not YAML: %w", file, discreet(err))
	}
	var objects []*unstructured.Unstructured
	for i, n := range nodes {
		if n.IsNilOrEmpty() {
			continue
		}
		found, err := flatten(n)
		if err != nil {
			where := file
			if len(nodes) > 1 {
				where = fmt.Sprintf("%s, document %d", file, i+1)
			}
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		objects = append(objects, found...)
	}
	return objects, nil
}

// flatten is the object that a document holds, or the ones of the list that it is.
func flatten(n *yaml.RNode) ([]*unstructured.Unstructured, error) {
	if n.YNode().Kind != yaml.MappingNode {
		return nil, errNotObject("it is not a map")
	}
	var m map[string]any
	if err := n.YNode().Decode(&m); err != nil {
		return nil, discreet(err)
	}
	return flattenMap(m)
}

func flattenMap(m map[string]any) ([]*unstructured.Unstructured, error) {
	kind, _ := m["kind"].(string)
	if items, ok := m["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		var objects []*unstructured.Unstructured
		for i, item := range items {
			im, ok := item.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("items[%d] of the %s: %w", i, kind, errNotObject("it is not a map"))
			}
			found, err := flattenMap(im)
			if err != nil {
				return nil, fmt.Errorf("items[%d] of the %s: %w", i, kind, err)
			}
			objects = append(objects, found...)
		}
		return objects, nil
	}
	o, err := object(m)
	if err != nil {
		return nil, err
	}
	return []*unstructured.Unstructured{o}, nil
}

// object checks and converts one object.
func object(m map[string]any) (*unstructured.Unstructured, error) {
	if apiVersion, _ := m["apiVersion"].(string); apiVersion == "" {
		return nil, errNotObject("it has no apiVersion")
	}
	if kind, _ := m["kind"].(string); kind == "" {
		return nil, errNotObject("it has no kind")
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%s: a key that is not a string: put it in quotes", m["kind"])
	}
	return fromJSON(b)
}

// fromJSON decodes an object so that whole numbers are int64, as kstatus and the API machinery want them.
func fromJSON(b []byte) (*unstructured.Unstructured, error) {
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(b); err != nil {
		return nil, discreet(err)
	}
	if o.GetName() == "" {
		if o.GetGenerateName() != "" {
			return nil, fmt.Errorf("a %s has a generateName: an object that is kept in place needs a name", o.GetKind())
		}
		return nil, fmt.Errorf("a %s has no metadata.name", o.GetKind())
	}
	return o, nil
}

func errNotObject(why string) error {
	return errors.New("not a Kubernetes object: " + why + ": remove it from the path, or list the files that count in a kustomization.yaml")
}

// maxError cuts what is told of an error of a library, in bytes.
const maxError = 400

// revealing are the beginnings of what libraries print of the objects, patches and literals that they fail on; these may be secret.
var revealing = []string{"\n", "{", "[op", "op:", "apiVersion", "kind:", "!!", "`", "literal source", "from ["}

// tried is how kustomize's errors begin for each folder that it entered: that it tried to read it as a file first.
var tried = regexp.MustCompile(`(accumulating resources: )?accumulation err='accumulating resources from '[^']*': ` + errFolder.Error() + `': `)

// overlayName is the folder of the generated kustomization file, different in each build: an error must not be.
var overlayName = regexp.MustCompile(`/overlay-[A-Z2-7]{26}`)

// discreet is an error of a YAML library or of kustomize without what it quotes of the content.
func discreet(err error) error {
	text := tried.ReplaceAllString(err.Error(), "")
	text = overlayName.ReplaceAllString(text, "the spec")
	text = strings.ReplaceAll(text, artifactDir+"/", "")
	text = strings.ReplaceAll(text, artifactDir, "the artifact's root")
	text = strings.ReplaceAll(text, "MalformedYAMLError: ", "")
	text = strings.ReplaceAll(text, ":\n", ": ")
	for _, r := range revealing {
		if i := strings.Index(text, r); i >= 0 {
			text = text[:i] + "…"
		}
	}
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError], "") + "…"
	}
	return errors.New(strings.TrimSpace(text))
}
