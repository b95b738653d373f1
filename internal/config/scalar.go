package config

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is what a YAML value is once it is resolved.
type kind int

const (
	kindNull kind = iota
	kindBool
	kindInt
	kindFloat
	kindText
	kindList
	kindObject
	kindBad // was reported already
)

// String is the kind as messages name it.
func (k kind) String() string {
	return [...]string{"nothing", "a boolean", "a number", "a number", "text", "a list", "a map", "something broken"}[k]
}

// words are the plain scalars that YAML 1.1 reads as something else than text, as kubectl and Helm do. https://yaml.org/type/
var words = func() map[string]scalar {
	m := map[string]scalar{"": {kindNull, "null"}, "~": {kindNull, "null"}}
	add := func(s scalar, lower ...string) {
		for _, w := range lower {
			title := strings.ToUpper(w[:1]) + w[1:]
			for _, spelling := range []string{w, title, strings.ToUpper(w)} {
				m[spelling] = s
			}
		}
	}
	add(scalar{kindNull, "null"}, "null")
	add(scalar{kindBool, "true"}, "true", "yes", "on", "y")
	add(scalar{kindBool, "false"}, "false", "no", "off", "n")
	return m
}()

// notFinite are the numbers that JSON cannot write.
var notFinite = regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)

var decimalFloat = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)

// scalar is a resolved scalar: its kind, and its JSON.
type scalar struct {
	kind kind
	json string
}

func textScalar(s string) scalar {
	b, _ := json.Marshal(s) // a string always marshals
	return scalar{kindText, string(b)}
}

func floatScalar(f float64) (scalar, bool) {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return scalar{}, false
	}
	b, _ := json.Marshal(f) // finite: always marshals
	return scalar{kindFloat, string(b)}, true
}

// resolvePlain reads an unquoted scalar by the rules of YAML 1.1 as sigs.k8s.io/yaml applies them: 0777 is octal, 1_000 a number, dates are text,
// base 60 is not a number. ok is false for numbers that are not finite.
func resolvePlain(s string) (_ scalar, ok bool) {
	if w, found := words[s]; found {
		return w, true
	}
	if !strings.ContainsAny(s[:1], "+-.0123456789") {
		return textScalar(s), true
	}
	if notFinite.MatchString(s) {
		return scalar{}, false
	}
	if s[0] == '.' {
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return floatScalar(f)
		}
		return textScalar(s), true
	}
	digits := strings.ReplaceAll(s, "_", "")
	if i, err := strconv.ParseInt(digits, 0, 64); err == nil {
		return scalar{kindInt, strconv.FormatInt(i, 10)}, true
	}
	if u, err := strconv.ParseUint(digits, 0, 64); err == nil {
		return scalar{kindInt, strconv.FormatUint(u, 10)}, true
	}
	if decimalFloat.MatchString(digits) {
		// An overflow is text, as in sigs.k8s.io/yaml.
		if f, err := strconv.ParseFloat(digits, 64); err == nil {
			return floatScalar(f)
		}
	}
	return textScalar(s), true
}

// resolveTagged reads a scalar with an explicit tag. The second result says what is wrong, in words without the value.
func resolveTagged(tag, s string) (scalar, string) {
	plain, finite := resolvePlain(s)
	is := func(k kind) (scalar, string) {
		if !finite || plain.kind != k {
			return scalar{}, "the value does not fit its tag " + tag
		}
		return plain, ""
	}
	switch tag {
	case "!!str", "!!timestamp":
		return textScalar(s), ""
	case "!!null":
		return is(kindNull)
	case "!!bool":
		return is(kindBool)
	case "!!int":
		return is(kindInt)
	case "!!float":
		if finite && plain.kind == kindInt {
			f, err := strconv.ParseFloat(plain.json, 64)
			if plain, finite = floatScalar(f); err == nil && finite {
				return plain, ""
			}
		}
		return is(kindFloat)
	case "!!binary":
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || !utf8.Valid(b) {
			return scalar{}, "!!binary is not base64 of text"
		}
		return textScalar(string(b)), ""
	}
	return scalar{}, "unknown tag " + tag + ": tags of your own are not read here"
}
