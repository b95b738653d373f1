package build

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/towline/towline/internal/deploy"
)

// variableName is what Flux takes for the name of a variable.
var variableName = regexp.MustCompile(`^[_[:alpha:]][_[:alpha:][:digit:]]*$`)

// lineBreaks are removed from values: each of them ends a line for YAML. A value of one line, whose file ends with a line break, then comes out as it was meant, as in Flux.
var lineBreaks = strings.NewReplacer("\r", "", "\n", "", "\u0085", "", "\u2028", "", "\u2029", "")

// maxVariablesFile bounds a file of variables, in bytes: a ConfigMap holds no more either.
const maxVariablesFile = 1 << 20

// variables are what objects can name.
type variables struct {
	values map[string]string
	// secret are those that came from a Secret or a file.
	secret map[string]bool
}

// put takes values over, in place of those that have their names.
func (v *variables) put(values map[string]string, secret bool) {
	maps.Copy(v.values, values)
	for name := range values {
		if secret {
			v.secret[name] = true
		} else {
			delete(v.secret, name)
		}
	}
}

// variables are all that a target's objects can name: later holders go before earlier ones, and what the spec has itself before all of them.
func (r Builder) variables(ctx context.Context, p *deploy.PostBuild, namespace string) (variables, error) {
	all := variables{make(map[string]string, len(p.Substitute)), make(map[string]bool)}
	for i, from := range p.SubstituteFrom {
		found, err := r.holder(ctx, from, namespace)
		if err != nil {
			return variables{}, fmt.Errorf("postBuild.substituteFrom[%d]: %w", i, err)
		}
		all.put(found, from.Kind != "ConfigMap")
	}
	own := make(map[string]string, len(p.Substitute))
	if err := add(own, p.Substitute, "postBuild.substitute"); err != nil {
		return variables{}, err
	}
	all.put(own, false)
	return all, nil
}

// holder reads one holder of variables. One that is optional and not there has none.
func (r Builder) holder(ctx context.Context, from deploy.SubstituteFrom, namespace string) (map[string]string, error) {
	var values map[string]string
	var err error
	where := from.File
	if from.File != "" {
		values, err = variablesFile(from.File)
	} else {
		where = fmt.Sprintf("%s/%s/%s", from.Kind, namespace, from.Name)
		values, err = r.variablesObject(ctx, from, namespace)
	}
	if from.Optional && (errors.Is(err, os.ErrNotExist) || apierrors.IsNotFound(err)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	all := make(map[string]string, len(values))
	return all, add(all, values, where)
}

// add checks the names of variables and takes them over.
func add(all, values map[string]string, where string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !variableName.MatchString(name) {
			return fmt.Errorf("%s: the key %q is not the name of a variable: it begins with a letter or _ and goes on with letters, digits and _", where, name)
		}
		all[name] = lineBreaks.Replace(values[name])
	}
	return nil
}

func (r Builder) variablesObject(ctx context.Context, from deploy.SubstituteFrom, namespace string) (map[string]string, error) {
	if from.Kind != "ConfigMap" && from.Kind != "Secret" {
		return nil, errors.New("variables come from a ConfigMap, a Secret or a file")
	}
	if r.read == nil {
		return nil, errors.New("there is no cluster here to read it from")
	}
	data, err := r.read(ctx, from.Kind, namespace, from.Name)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string, len(data))
	for name, value := range data {
		values[name] = string(value)
	}
	return values, nil
}

// variablesFile reads a file of the agent's machine: lines KEY=VALUE, or a YAML map.
func variablesFile(name string) (map[string]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxVariablesFile {
		return nil, fmt.Errorf("it is not a file of at most %d bytes", maxVariablesFile)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	content = bytes.TrimPrefix(content, []byte("\uFEFF")) // some editors begin files with it
	if !utf8.Valid(content) {
		return nil, errors.New("it is not text in UTF-8")
	}
	if filepath.Ext(name) == ".env" {
		return environment(content)
	}
	return scalars(content)
}

// environment reads lines KEY=VALUE. Values are taken as they are, quotes included, as kustomize does; lines that begin with # are comments.
func environment(content []byte) (map[string]string, error) {
	values := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, maxVariablesFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeft(lines.Text(), " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("line %d is not KEY=VALUE", n) // without the line: it may be secret
		}
		values[name] = value
	}
	return values, lines.Err()
}

// scalars reads a YAML map. Values are taken as they are written: 1.10 stays 1.10.
func scalars(content []byte) (map[string]string, error) {
	var nodes map[string]yaml.Node
	if err := yaml.Unmarshal(content, &nodes); err != nil {
		return nil, errors.New("it is not a YAML map of names to values") // without the error: it quotes
	}
	values := make(map[string]string, len(nodes))
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[name]
		if n.Kind == yaml.AliasNode && n.Alias != nil {
			n = *n.Alias
		}
		switch {
		case n.IsZero(), n.Kind == yaml.ScalarNode && n.Tag == yaml.NodeTagNull:
			values[name] = ""
		case n.Kind == yaml.ScalarNode:
			values[name] = n.Value
		default:
			return nil, fmt.Errorf("the value of %q is a map or a list: a variable is a text or a number", name)
		}
	}
	return values, nil
}
