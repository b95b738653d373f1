package helm

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// minMasked is the length in bytes from which a value is taken out of texts. Shorter ones are words such as true, 8080 or nginx: nothing would be hidden, and messages would
// become riddles.
const minMasked = 6

// mask takes values out of texts that others wrote: the server quotes what it refuses, templates what they fail for. Each value is replaced by its path, so that the reader
// still knows which one is meant. Not by where it stands but by what it says, since a value may end up anywhere.
type mask struct{ replace *strings.Replacer }

// maskOf is the mask of a release's values. What is part of a public text (an object's name) stays: it can be seen anyway, and messages name objects.
func maskOf(v deploy.Values, public ...string) mask {
	paths := map[string]string{}
	collectValues(v, paths)
	return maskFor(paths, public)
}

// maskFor is the mask of texts, each with what to call it.
func maskFor(paths map[string]string, public []string) mask {
	secrets := make([]string, 0, len(paths))
	for s := range paths {
		if !slices.ContainsFunc(public, func(p string) bool { return strings.Contains(p, s) }) {
			secrets = append(secrets, s)
		}
	}
	if len(secrets) == 0 {
		return mask{}
	}
	slices.SortFunc(secrets, func(a, b string) int { // a value that contains another one first
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	var pairs []string
	for _, s := range secrets {
		is := "(value " + paths[s] + ")"
		for _, form := range formsOf(s) {
			pairs = append(pairs, form, is)
		}
	}
	return mask{strings.NewReplacer(pairs...)}
}

// formsOf are the ways in which a text of at least minMasked bytes may stand in another: as it is, in base64, as Go and JSON quote it, and its lines, which YAML indents and
// its errors quote.
func formsOf(s string) []string {
	forms := []string{s, base64.StdEncoding.EncodeToString([]byte(s))}
	add := func(form string) {
		if len(form) >= minMasked && !slices.Contains(forms, form) {
			forms = append(forms, form)
		}
	}
	goes := strconv.Quote(s)
	add(goes[1 : len(goes)-1])
	if b, err := json.Marshal(s); err == nil {
		add(string(b[1 : len(b)-1]))
	}
	for line := range strings.Lines(s) {
		add(strings.TrimSpace(line))
	}
	return forms
}

// collectValues collects those of a target; broken ones are none.
func collectValues(v deploy.Values, paths map[string]string) {
	if values, err := decodeValues(v); err == nil {
		collect(values, "", paths)
	}
}

// collect notes the path of every text and number that is long enough; of equal ones the first.
func collect(v any, at string, paths map[string]string) {
	text := ""
	switch v := v.(type) {
	case map[string]any:
		for key, sub := range v {
			collect(sub, at+"/"+key, paths)
		}
	case []any:
		for i, sub := range v {
			collect(sub, at+"/"+strconv.Itoa(i), paths)
		}
	case string:
		text = v
	case json.Number:
		text = v.String()
	case float64:
		text = strconv.FormatFloat(v, 'f', -1, 64)
	}
	if old, ok := paths[text]; len(text) >= minMasked && (!ok || at < old) {
		paths[text] = at
	}
}

func (m mask) text(s string) string {
	if m.replace == nil {
		return s
	}
	return m.replace.Replace(s)
}

// error is err with a text that the values are taken out of. What it wraps can still be asked for.
func (m mask) error(err error) error {
	if err == nil {
		return nil
	}
	was := err.Error()
	if is := m.text(was); is != was {
		return &maskedError{text: is, err: err}
	}
	return err
}

type maskedError struct {
	text string
	err  error
}

func (e *maskedError) Error() string { return e.text }
func (e *maskedError) Unwrap() error { return e.err }
