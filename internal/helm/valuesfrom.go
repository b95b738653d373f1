package helm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/yaml"

	"helm.sh/helm/v3/pkg/strvals"

	"github.com/towline/towline/internal/deploy"
)

// Reader reads a ConfigMap or Secret of the agent's own cluster. Of one that does not exist, the error is one that apierrors.IsNotFound knows.
type Reader func(ctx context.Context, kind, namespace, name string) (map[string][]byte, error)

const (
	// defaultValuesKey is Flux's.
	defaultValuesKey = "values.yaml"
	// maxValuesFile is what a file of values may have, in bytes: four times what fits a Secret.
	maxValuesFile = 4 << 20
)

// resolve returns the target with all its values in one place: those of valuesFrom merged in order, the inline ones over them. secret are the texts of those that came from Secrets and
// files. A target without valuesFrom stays as it is. Errors name the item and never a value.
func resolve(ctx context.Context, read Reader, t deploy.Target) (_ deploy.Target, secret []string, err error) {
	h := t.HelmRelease
	if len(h.ValuesFrom) == 0 {
		return t, nil, nil
	}
	merged := map[string]any{}
	for i, from := range h.ValuesFrom {
		s := holder{from, t.Name.Namespace}
		text, found, err := s.read(ctx, read)
		if err == nil && found {
			var mine map[string]any
			if mine, err = s.mergeInto(merged, text); err == nil && from.Kind != "ConfigMap" {
				secret = appendTexts(secret, mine)
			}
		}
		if err != nil {
			return t, nil, fmt.Errorf("valuesFrom[%d]: %w", i, err)
		}
	}
	inline := map[string]any{}
	if len(h.Values) > 0 {
		if inline, err = decodeValues(h.Values); err != nil {
			return t, nil, valuesError(err)
		}
	}
	mergeValues(merged, inline)
	b, err := json.Marshal(merged)
	if err != nil {
		return t, nil, errors.New("the values cannot be merged") // maps, lists and scalars can
	}
	spec := *h
	spec.Values, spec.ValuesFrom = b, nil
	t.HelmRelease = &spec
	return t, secret, nil
}

// holder is where values come from.
type holder struct {
	deploy.ValuesFrom
	namespace string
}

// String names it in errors.
func (s holder) String() string {
	if s.File != "" {
		return "file " + s.File
	}
	return s.Kind + " " + s.namespace + "/" + s.Name
}

// read returns the text; not found is no error where it is optional.
func (s holder) read(ctx context.Context, read Reader) (text []byte, found bool, err error) {
	if s.File != "" {
		text, err = readValuesFile(s.File)
		if errors.Is(err, fs.ErrNotExist) && s.Optional {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("read the values: %w", err) // the path is part of it
		}
		return text, true, nil
	}
	if read == nil {
		return nil, false, fmt.Errorf("%s cannot be read without a cluster", s)
	}
	data, err := read(ctx, s.Kind, s.namespace, s.Name)
	switch {
	case apierrors.IsNotFound(err) && s.Optional:
		return nil, false, nil
	case apierrors.IsNotFound(err):
		return nil, false, fmt.Errorf("%s does not exist", s)
	case err != nil:
		return nil, false, fmt.Errorf("read %s: %w", s, err)
	}
	key := s.ValuesKey
	if key == "" {
		key = defaultValuesKey
	}
	text, found = data[key]
	if !found {
		return nil, false, fmt.Errorf("%s has no key %s", s, key)
	}
	return text, true, nil
}

func readValuesFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxValuesFile+1))
	if err == nil && len(b) > maxValuesFile {
		return nil, fmt.Errorf("%s is bigger than %d MiB", path, maxValuesFile>>20)
	}
	return b, err
}

// mergeInto merges the text into the values, or sets it at targetPath, and returns what it added.
func (s holder) mergeInto(values map[string]any, text []byte) (mine map[string]any, err error) {
	mine = map[string]any{}
	if s.TargetPath == "" {
		if mine, err = parseText(text); err != nil {
			return nil, fmt.Errorf("%s %w", s, err)
		}
		mergeValues(values, mine)
		return mine, nil
	}
	value := string(text)
	if s.File != "" {
		value = strings.TrimSuffix(value, "\n") // which editors add
	}
	// Into the values themselves, since a path may lead into a list that is there. Once more alone, to know what was added.
	for _, into := range []map[string]any{values, mine} {
		if err := setPath(into, s.TargetPath, value, s.Literal); err != nil {
			return nil, fmt.Errorf("%s cannot be set at targetPath %s: it is no value as helm --set takes it; a comma is written \\, and with literal: true it is taken as it is", s, s.TargetPath)
		}
	}
	return mine, nil
}

// setPath sets a value as Flux does: in quotes it is text, else what helm --set makes of it.
func setPath(into map[string]any, path, value string, literal bool) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the path does not fit the values")
		}
	}()
	const single, double = "'", `"`
	quoted := func(q string) bool {
		return len(value) >= 2 && strings.HasPrefix(value, q) && strings.HasSuffix(value, q)
	}
	switch {
	case literal:
		return strvals.ParseLiteralInto(path+"="+value, into)
	case severalValues(value):
		return errors.New("a comma begins another value")
	case quoted(single) || quoted(double):
		return strvals.ParseIntoString(path+"="+strings.Trim(value, single+double), into)
	}
	return strvals.ParseInto(path+"="+value, into)
}

// severalValues reports whether a text holds more than one value: a comma that is neither escaped nor within a list, or anything behind a list. helm --set takes that for another path and
// its value, and a password would set what nobody meant. A list has no lists in it, and ends at the first brace.
func severalValues(value string) bool {
	list := strings.HasPrefix(value, "{")
	for i := 0; i < len(value); i++ {
		switch {
		case value[i] == '\\':
			i++
		case list && value[i] == '}':
			return i+1 < len(value)
		case !list && value[i] == ',':
			return true
		}
	}
	return false
}

// yamlLine finds where a YAML error is. The rest of it may quote the text.
var yamlLine = regexp.MustCompile(`line \d+`)

// parseText reads a map of YAML; empty is an empty one. Numbers stay as they are written.
func parseText(text []byte) (map[string]any, error) {
	b, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		if at := yamlLine.FindString(err.Error()); at != "" {
			return nil, fmt.Errorf("is not valid YAML, or has a key twice: %s", at)
		}
		return nil, errors.New("is not valid YAML, or has a key twice")
	}
	if string(bytes.TrimSpace(b)) == "null" {
		return map[string]any{}, nil
	}
	m, err := decodeValues(b)
	if err != nil {
		return nil, errors.New("holds something else than a map of values: to set it at one place, say where with targetPath")
	}
	return m, nil
}

func decodeValues(b []byte) (map[string]any, error) {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	return m, nil
}

// mergeValues merges maps key by key; anything else is replaced, null included, which takes a default of the chart away.
func mergeValues(into, from map[string]any) {
	for k, v := range from {
		if sub, ok := v.(map[string]any); ok {
			if old, ok := into[k].(map[string]any); ok {
				mergeValues(old, sub)
				continue
			}
		}
		into[k] = v
	}
}

// appendTexts collects every scalar, as text.
func appendTexts(out []string, v any) []string {
	switch v := v.(type) {
	case map[string]any:
		for _, sub := range v {
			out = appendTexts(out, sub)
		}
	case []any:
		for _, sub := range v {
			out = appendTexts(out, sub)
		}
	case nil, bool:
	default:
		out = append(out, fmt.Sprint(v))
	}
	return out
}
