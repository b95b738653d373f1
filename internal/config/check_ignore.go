package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// identity are the fields that say which object it is: nobody else can have them. Metadata as a whole holds some of them.
var identity = []string{"/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"}

// badEscape is a tilde of a JSON pointer that is not followed by 0 or 1.
var badEscape = regexp.MustCompile(`~([^01]|$)`)

func (e *entry) checkIgnoreRules(path string, rules []deploy.IgnoreRule) {
	for i, rule := range rules {
		e.checkIgnoreRule(item(path, i), rule)
	}
}

func (e *entry) checkIgnoreRule(path string, rule deploy.IgnoreRule) {
	const field = ".paths"
	if len(rule.Paths) == 0 {
		e.emptyIfWritten(path+field, "want the fields to leave alone, such as /spec/replicas")
	}
	for i, p := range rule.Paths {
		if why := notFieldPointer(p); why != "" {
			e.bad(item(path+field, i), "%s", why)
		} else if slices.Contains(rule.Paths[:i], p) {
			e.bad(item(path+field, i), "%s is listed twice", p)
		}
	}
	e.checkTarget(path+".target", rule.Target)
}

// notFieldPointer says why a text is not the JSON pointer (RFC 6901) of a field that may be left to others; empty if it is one.
func notFieldPointer(p string) string {
	quoted := func(text string) string { return fmt.Sprintf("%q %s", p, text) }
	switch {
	case p == "":
		return "is the whole object: want a field of it, such as /spec/replicas; to leave an object alone, annotate it with towline.dev/ssa: IfNotPresent"
	case p[0] != '/':
		hint := "want one that begins with /, such as /spec/replicas"
		if !strings.Contains(p, "/") {
			hint = "did you mean /" + strings.ReplaceAll(strings.TrimPrefix(p, "."), ".", "/") + "?"
		}
		return quoted("is not a JSON pointer: " + hint)
	case badEscape.MatchString(p):
		return quoted("has a ~ that stands for nothing: write ~0 for ~ and ~1 for / within a name")
	case strings.Contains(p+"/", "//"):
		return quoted("names a field without a name: write it without the extra /")
	case p == "/metadata", slices.ContainsFunc(identity, func(field string) bool { return strings.HasPrefix(p+"/", field+"/") }):
		return quoted("says which object it is and cannot be left to others")
	}
	return ""
}
