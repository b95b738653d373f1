package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// wants names what is expected for each type of a scalar field.
var wants = map[reflect.Kind]struct {
	kind kind
	text string
}{
	reflect.String: {kindText, "text"},
	reflect.Bool:   {kindBool, "true or false"},
	reflect.Int:    {kindInt, "a whole number"},
}

func (w *walker) scalar(v *value, t reflect.Type, path string) bool {
	want, known := wants[t.Kind()]
	if !known {
		panic("config: no rule for " + t.String()) // a field of a new type in internal/deploy needs a rule here
	}
	if v.kind != want.kind {
		hint := hintQuotes(v, want.kind)
		if mayBeSecret(path) {
			hint = ""
		}
		return w.bad(v.place, path, "want %s, got %s%s", want.text, v.kind, hint)
	}
	if want.kind == kindInt {
		if _, err := strconv.ParseInt(v.json, 10, 32); err != nil {
			return w.bad(v.place, path, "the number is too large")
		}
	}
	w.write(v.json)
	return true
}

// secretPaths are where a secret may stand, rightly or by mistake: messages do not repeat what does. A path of a list or a map stands for what is in it.
var secretPaths = []string{
	"credentialFiles", "address", "addressFile", "tokenFile", "kubeConfig.file", "decryption.keys", "postBuild.substitute",
}

func mayBeSecret(path string) bool {
	if strings.HasPrefix(path, "postBuild.substituteFrom[") && strings.HasSuffix(path, ".file") {
		return true
	}
	return slices.ContainsFunc(secretPaths, func(p string) bool {
		rest, below := strings.CutPrefix(path, p)
		return below && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// hintText says how to write what is meant to be a text of a map.
func hintText(v *value, path string) string {
	switch hint := hintQuotes(v, kindText); {
	case v.kind == kindNull:
		return `: write "" if it is meant to be empty`
	case hint != "" && mayBeSecret(path):
		return ": put it in quotes"
	default:
		return hint
	}
}

// sharePattern is a percentage as intstr reads it.
var sharePattern = regexp.MustCompile(`^(0|[1-9][0-9]*)%$`)

// share writes a whole number or a percentage.
func (w *walker) share(v *value, path string) bool {
	const want = "a whole number, or a percentage such as 30%"
	switch {
	case v.kind == kindInt:
		if _, err := strconv.ParseInt(v.json, 10, 32); err != nil {
			return w.bad(v.place, path, "the number is too large")
		}
	case v.kind != kindText:
		return w.bad(v.place, path, "want %s, got %s", want, v.kind)
	case !sharePattern.MatchString(v.raw):
		hint := hintQuotes(v, kindInt)
		if v.raw != "" && hint == "" && sharePattern.MatchString(strings.ReplaceAll(v.raw, " ", "")) {
			hint = ": write it without the space"
		}
		return w.bad(v.place, path, "want %s, got %q%s", want, v.raw, hint)
	}
	w.write(v.json)
	return true
}

// hintQuotes says what to do where a scalar became something else than what it looks like.
func hintQuotes(v *value, want kind) string {
	isScalar := v.kind == kindBool || v.kind == kindInt || v.kind == kindFloat
	switch {
	case want == kindText && isScalar:
		return fmt.Sprintf(": put it in quotes: %q", v.raw)
	case want != kindText && v.kind == kindText:
		if s, ok := resolvePlain(v.raw); ok && s.kind == want {
			return ": write it without quotes: " + v.raw
		}
	}
	return ""
}

func (w *walker) duration(v *value, path string) bool {
	const example = "a duration such as 30s, 10m or 1h30m"
	switch v.kind {
	case kindText:
	case kindInt, kindFloat:
		return w.bad(v.place, path, "want %s, got the bare number %s: give it a unit", example, v.raw)
	default:
		return w.bad(v.place, path, "want %s, got %s", example, v.kind)
	}
	if _, err := time.ParseDuration(v.raw); err != nil {
		hint := ""
		if strings.HasSuffix(v.raw, "d") || strings.HasSuffix(v.raw, "w") {
			hint = ": days and weeks are written in hours: 1d is 24h"
		}
		return w.bad(v.place, path, "want %s, got %q%s", example, v.raw, hint)
	}
	w.write(v.json)
	return true
}
