package config

import (
	"fmt"
	"reflect"
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

// mayBeSecret reports whether a secret may stand at a path, rightly or by mistake, so that messages do not repeat what does.
func mayBeSecret(path string) bool {
	return strings.HasPrefix(path, "credentialFiles.") || path == "address" || path == "addressFile" || path == "tokenFile"
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
