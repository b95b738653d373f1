package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	nodes "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/yaml"

	"github.com/towline/towline/internal/deploy"
)

// substituteMarks exclude an object from substitution where they are disabled, as annotation or label.
var substituteMarks = []string{"towline.dev/substitute", "kustomize.toolkit.fluxcd.io/substitute"}

// substitute replaces the variables in the objects, in place, and notes which fields secrets were put into. All that is undefined is one error.
func (r Builder) substitute(ctx context.Context, objects []*unstructured.Unstructured, p *deploy.PostBuild, namespace string, into filled) error {
	if p == nil {
		return nil
	}
	vars, err := r.variables(ctx, p, namespace)
	if err != nil {
		return err
	}
	if len(vars.values) == 0 && p.SubstituteStrategy != deploy.SubstituteAlways {
		return nil
	}
	var wrong []error
	b := newBudget()
	for _, o := range objects {
		if err := ctx.Err(); err != nil {
			return err
		}
		if excluded(o) {
			continue
		}
		fields, err := substituteObject(o, vars, b)
		if err != nil {
			wrong = append(wrong, err)
		}
		into.substituted(o, fields)
	}
	return errors.Join(wrong...)
}

func excluded(o *unstructured.Unstructured) bool {
	annotations, labels := o.GetAnnotations(), o.GetLabels()
	return slices.ContainsFunc(substituteMarks, func(m string) bool { return annotations[m] == "disabled" || labels[m] == "disabled" })
}

// substituteObject replaces the variables of one object, and says which of its fields secrets were put into. Errors name it as it is called before, since its new name
// may hold a value.
func substituteObject(o *unstructured.Unstructured, vars variables, b *budget) (deploy.SecretFields, error) {
	id := deploy.IDOf(o).String()
	s := newSubstitution(vars, b)
	tree := s.tree(o.Object, "").(map[string]any)
	switch {
	case len(s.wrong) > 0:
		return nil, fmt.Errorf("substitute in %s: %w", id, s.wrong[0])
	case len(s.undefined) > 0:
		slices.Sort(s.undefined)
		return nil, fmt.Errorf("substitute in %s: no value and no default for %s", id, strings.Join(slices.Compact(s.undefined), ", "))
	}
	if err := sound(tree); err != nil {
		return nil, fmt.Errorf("substitute in %s: %w", id, err)
	}
	o.Object = tree
	return s.filled, nil
}

// sound refuses what substitution must not make of an object: one that is not one any more, or whose labels the API machinery would drop for their type.
func sound(tree map[string]any) error {
	for _, path := range [][]string{{"apiVersion"}, {"kind"}, {"metadata", "name"}} {
		if text, ok, err := unstructured.NestedString(tree, path...); err != nil || !ok || text == "" {
			return fmt.Errorf("%s is no text afterwards: if the value looks like a number, use ${q}${name}${q} with a variable q that is a quote", strings.Join(path, "."))
		}
	}
	if namespace, ok, err := unstructured.NestedFieldNoCopy(tree, "metadata", "namespace"); err == nil && ok {
		if _, text := namespace.(string); !text && namespace != nil {
			return errors.New("metadata.namespace is no text afterwards")
		}
	}
	for _, field := range []string{"labels", "annotations"} {
		found, ok, err := unstructured.NestedFieldNoCopy(tree, "metadata", field)
		if err != nil || !ok || found == nil {
			continue
		}
		values, ok := found.(map[string]any)
		if !ok {
			return fmt.Errorf("metadata.%s is no map afterwards", field)
		}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if _, text := values[name].(string); !text && values[name] != nil {
				return fmt.Errorf("metadata.%s has a value that is no text afterwards: use ${q}${name}${q} with a variable q that is a quote", field)
			}
		}
	}
	return nil
}

// substitution goes through one object.
//
// Flux writes the object as YAML, replaces in that text, and reads it again: a value decides whether its field becomes a number, a list or a map. Here each field is
// written, replaced and read by itself. For values that stay within their field the result is the same; those that would swallow or add other fields are errors.
type substitution struct {
	vars      variables
	budget    *budget
	undefined []string
	wrong     []error
	// path is where it is, by the new keys; every item of a list is *.
	path []string
	// asked notes in secret whether a text was made with a secret; nil where there are none.
	asked  func(string)
	secret bool
	filled deploy.SecretFields
}

func newSubstitution(vars variables, b *budget) *substitution {
	s := &substitution{vars: vars, budget: b}
	if len(vars.secret) > 0 {
		s.asked = func(name string) { s.secret = s.secret || vars.secret[name] }
	}
	return s
}

// note says that what is at the path was made with a secret, if it was.
func (s *substitution) note() {
	if s.secret {
		s.filled = append(s.filled, slices.Clone(s.path))
	}
}

// tree is the new form of a value. Parts without variables are taken over as they are.
func (s *substitution) tree(v any, at string) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			name := s.key(key, at)
			if _, twice := out[name]; twice {
				s.fail(at, errors.New("two of its keys are the same afterwards"))
			}
			child := at + "." + key
			s.path = append(s.path, name)
			if text, ok := v[key].(string); ok {
				out[name] = s.value(map[string]any{entry: text}, text, child)
			} else {
				out[name] = s.tree(v[key], child)
			}
			s.path = s.path[:len(s.path)-1]
		}
		return out
	case []any:
		out := make([]any, len(v))
		s.path = append(s.path, "*")
		defer func() { s.path = s.path[:len(s.path)-1] }()
		for i, e := range v {
			child := at + "[" + strconv.Itoa(i) + "]"
			if text, ok := e.(string); ok {
				out[i] = s.value([]any{text}, text, child)
				continue
			}
			out[i] = s.tree(e, child)
		}
		return out
	}
	return v
}

func (s *substitution) fail(at string, err error) {
	s.wrong = append(s.wrong, fmt.Errorf("%s: %w", strings.TrimPrefix(at, "."), err))
}

// entry is the key of the map that a field is written in. No value ends in it by chance.
const entry = "v"

// value is what becomes of a text. As YAML, a value in a map and one in a list read differently (- a: b is a map), so document is the text in what it stands in.
func (s *substitution) value(document any, text, at string) any {
	if !strings.Contains(text, "$") {
		return text
	}
	read, ok := s.reread(document, at)
	if !ok {
		return nil
	}
	s.note()
	switch read := read.(type) {
	case map[string]any:
		if v, ok := read[entry]; ok && len(read) == 1 {
			if _, isMap := document.(map[string]any); isMap {
				return v
			}
		}
	case []any:
		if _, isList := document.([]any); isList && len(read) == 1 {
			return read[0]
		}
	}
	s.fail(at, errBreaksOut)
	return nil
}

// key is what becomes of the key of a map.
func (s *substitution) key(key, at string) string {
	if !strings.Contains(key, "$") {
		return key
	}
	read, ok := s.reread(map[string]any{key: entry}, at+"."+key)
	if !ok {
		return key
	}
	s.note() // the map that the key is in: its keys are no more to be seen than its values
	if m, isMap := read.(map[string]any); isMap && len(m) == 1 {
		for name, v := range m {
			if v == entry {
				return name
			}
		}
	}
	s.fail(at+"."+key, errBreaksOut)
	return key
}

var (
	errBreaksOut = errors.New("a value does not fit where the variable stands: it has characters that mean something in YAML, such as quotes, braces or a colon; " +
		"put the variable into quotes or among other text")
	errLost = errors.New("a part of a value would be taken for a comment or an anchor of YAML and be lost: it has a # or & without quotes around it")
)

// reread writes a document, replaces its variables and reads it. Errors of the libraries are not shown, they quote values.
func (s *substitution) reread(document any, at string) (any, bool) {
	written, err := yaml.Marshal(document)
	if err != nil {
		s.fail(at, errors.New("it cannot be written as YAML"))
		return nil, false
	}
	s.secret = false
	text, undefined, err := expand(string(written), s.vars.values, s.budget, s.asked)
	if err != nil {
		s.fail(at, err)
		return nil, false
	}
	if len(undefined) > 0 {
		s.undefined = append(s.undefined, undefined...)
		return nil, false
	}
	raw, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		s.fail(at, errBreaksOut)
		return nil, false
	}
	if lossy(text) {
		s.fail(at, errLost)
		return nil, false
	}
	var read any
	if err := json.Unmarshal(raw, &read); err != nil {
		s.fail(at, errBreaksOut)
		return nil, false
	}
	return read, true
}

// lossy reports whether a text has comments or anchors. What was written had none, so they come from a value.
func lossy(text string) bool {
	if !strings.ContainsAny(text, "#&") {
		return false
	}
	var n nodes.Node
	if err := nodes.Unmarshal([]byte(text), &n); err != nil {
		return false // YAML 1.1 could read it
	}
	var has func(*nodes.Node) bool
	has = func(n *nodes.Node) bool {
		return n.HeadComment != "" || n.LineComment != "" || n.FootComment != "" || n.Anchor != "" || slices.ContainsFunc(n.Content, has)
	}
	return has(&n)
}
