package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
)

// What helm --set takes: the highest index of a list, and how deep a path may go (Helm's package strvals).
const (
	maxPathIndex = 65536
	maxPathDepth = 30
)

var (
	// pathKey is a key at the beginning of a path: anything but the signs of the notation, which a backslash makes letters of a key.
	pathKey = regexp.MustCompile(`^([^.,=\[\]{}\\\s]|\\.)+`)
	// pathIndex is an item of a list.
	pathIndex = regexp.MustCompile(`^\[([0-9]+)\]`)
)

func (e *entry) checkValuesFrom(list []deploy.ValuesFrom) {
	for i, from := range list {
		path := item("valuesFrom", i)
		e.checkHolder(path, "the values", from.Kind, from.Name, from.File)
		e.checkValuesKey(path, from)
		if from.TargetPath == "" {
			e.emptyIfWritten(path+".targetPath", "want a path such as database.password, or drop it to merge the values as YAML")
		} else if why := notTargetPath(from.TargetPath); why != "" {
			e.bad(path+".targetPath", "%q is not a path as helm --set has it: %s", from.TargetPath, why)
		}
		if from.Literal && from.TargetPath == "" && !e.brokenBelow(path+".targetPath") {
			e.bad(path+".literal", "has no effect without targetPath: values that are merged are YAML; add targetPath or drop it")
		}
		same := func(f deploy.ValuesFrom) bool {
			return f.Kind == from.Kind && f.Name == from.Name && f.File == from.File && keyOf(f) == keyOf(from) && f.TargetPath == from.TargetPath
		}
		if (from.Name != "" || from.File != "") && slices.ContainsFunc(list[:i], same) {
			e.bad(path, "is listed twice")
		}
	}
}

// keyOf is the key that is read.
func keyOf(f deploy.ValuesFrom) string {
	if f.ValuesKey == "" && f.File == "" {
		return defaultValuesKey
	}
	return f.ValuesKey
}

func (e *entry) checkValuesKey(path string, from deploy.ValuesFrom) {
	path += ".valuesKey"
	switch {
	case from.ValuesKey == "":
		e.emptyIfWritten(path, "want a key of the ConfigMap or Secret, or drop it for "+defaultValuesKey)
	case from.File != "":
		e.bad(path, "a file has no keys: all of it is read; drop it")
	case len(validation.IsConfigMapKey(from.ValuesKey)) > 0:
		e.bad(path, "%q is not a key of a ConfigMap or Secret: want letters, digits, - _ and .", from.ValuesKey)
	}
}

// notTargetPath says why a text is not one path in the notation of helm --set; empty if it is one.
func notTargetPath(p string) string {
	rest := p
	for depth := 1; ; depth++ {
		key := pathKey.FindString(rest)
		if key == "" {
			return whyNoKey(rest)
		}
		if depth > maxPathDepth {
			return fmt.Sprintf("it goes deeper than %d", maxPathDepth)
		}
		rest = rest[len(key):]
		for strings.HasPrefix(rest, "[") {
			index := pathIndex.FindStringSubmatch(rest)
			if index == nil {
				return "want a number in the brackets, as in servers[0].port"
			}
			if n, err := strconv.Atoi(index[1]); err != nil || n > maxPathIndex {
				return fmt.Sprintf("the index %s is too high: at most %d", index[1], maxPathIndex)
			}
			rest = rest[len(index[0]):]
		}
		if rest == "" {
			return ""
		}
		if !strings.HasPrefix(rest, ".") {
			return whyNoKey(rest)
		}
		rest = rest[1:]
	}
}

// whyNoKey says what is wrong where a key should begin or end.
func whyNoKey(rest string) string {
	switch {
	case rest == "":
		return "it ends where a key should stand"
	case rest[0] == '.':
		return `it has a . without a key before it: a dot within a key is written \.`
	case rest[0] == '[':
		return "it begins with an item of a list: want a key before it, as in servers[0]"
	case rest[0] == ']':
		return `it has a ] without [: within a key it is written \]`
	case rest[0] == '\\':
		return `it ends with a backslash: a backslash within a key is written \\`
	case strings.ContainsRune(",={}", rune(rest[0])):
		return fmt.Sprintf(`it has a %c, and it is one path without a value: within a key it is written \%c`, rest[0], rest[0])
	}
	return fmt.Sprintf("want a . before %q", rest)
}
