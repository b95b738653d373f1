package deploy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Pointer is a JSON pointer (RFC 6901), split and unescaped.
type Pointer []string

// ParsePointer reads one of at least one token.
func ParsePointer(s string) (Pointer, error) {
	if !strings.HasPrefix(s, "/") || s == "/" {
		return nil, fmt.Errorf("path %q: want a JSON pointer such as /spec/replicas", s)
	}
	p := Pointer(strings.Split(s[1:], "/"))
	for i := range p {
		p[i] = pointerUnescapes.Replace(p[i])
	}
	return p, nil
}

// In is the value at the pointer.
func (p Pointer) In(body any) (any, bool) {
	for _, token := range p {
		switch b := body.(type) {
		case map[string]any:
			v, ok := b[token]
			if !ok {
				return nil, false
			}
			body = v
		case []any:
			n, err := strconv.Atoi(token)
			if err != nil || n < 0 || n >= len(b) {
				return nil, false
			}
			body = b[n]
		default:
			return nil, false
		}
	}
	return body, true
}

// Put sets the value at the pointer. Where it has no parents, nothing happens.
func (p Pointer) Put(body, v any) {
	parent, _ := p[:len(p)-1].In(body)
	switch b := parent.(type) {
	case map[string]any:
		b[p[len(p)-1]] = v
	case []any:
		if n, err := strconv.Atoi(p[len(p)-1]); err == nil && n >= 0 && n < len(b) {
			b[n] = v
		}
	}
}

// Ignored are the fields that a target leaves to others: its ignore rules, compiled.
type Ignored []ignored

type ignored struct {
	paths []Pointer
	match *Matcher
}

// CompileIgnore compiles rules. The error names the rule.
func CompileIgnore(rules []IgnoreRule) (Ignored, error) {
	var out Ignored
	for i, r := range rules {
		m, err := r.Target.Matcher()
		if err != nil {
			return nil, fmt.Errorf("ignore[%d].target.%w", i, err)
		}
		rule := ignored{match: m}
		for _, s := range r.Paths {
			p, err := ParsePointer(s)
			if err != nil {
				return nil, fmt.Errorf("ignore[%d]: %w", i, err)
			}
			if p[0] == "metadata" && len(p) == 1 || Names(p[:1]) || Names(p[:min(2, len(p))]) {
				return nil, fmt.Errorf("ignore[%d]: path %q: what names an object cannot be left to others", i, s)
			}
			rule.paths = append(rule.paths, p)
		}
		out = append(out, rule)
	}
	return out, nil
}

// Of are those of an object, as far as it has them, each once.
func (rules Ignored) Of(u *unstructured.Unstructured) []Pointer {
	var out []Pointer
	for _, r := range rules {
		if !r.match.Matches(u) {
			continue
		}
		for _, p := range r.paths {
			if _, ok := p.In(u.Object); ok && !slices.ContainsFunc(out, func(q Pointer) bool { return slices.Equal(p, q) }) {
				out = append(out, p)
			}
		}
	}
	return out
}
