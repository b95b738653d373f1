package sops

import (
	"bytes"
	"fmt"
	"strings"
)

// flatPrefix begins the metadata's keys where a format has no maps.
const flatPrefix = metadataKey + "_"

// dotenvMark is in all files of the kind that sops encrypted.
var dotenvMark = []byte(flatPrefix)

// readDotenv reads lines of KEY=value. A newline in a value is written \n.
func readDotenv(content []byte) (*file, error) {
	if !bytes.Contains(content, dotenvMark) {
		return nil, nil
	}
	var b, flat branch
	seen := make(map[string]bool)
	var wrong error
	number := 0
	for line := range strings.SplitSeq(string(content), "\n") {
		number++
		if line == "" {
			continue
		}
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			b = append(b, entry{note: &note{text: comment}})
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		switch {
		case !ok && wrong == nil:
			wrong = fmt.Errorf("line %d has no =", number)
		case seen[key] && wrong == nil:
			wrong = fmt.Errorf("the key %s is there twice", where([]string{key}))
		}
		seen[key] = true
		e := entry{key: key, value: strings.ReplaceAll(value, `\n`, "\n")}
		if name, ok := strings.CutPrefix(key, flatPrefix); ok {
			e.key = name
			flat = append(flat, e)
			continue
		}
		b = append(b, e)
	}
	return flatFile(b, flat, wrong, func() ([]byte, error) { return writeDotenv(b), nil })
}

// flatFile is the file of a flat format. What is wrong with it counts only if it is an encrypted one.
func flatFile(b, flat branch, wrong error, write func() ([]byte, error)) (*file, error) {
	m, err := unflatten(flat)
	switch {
	case err == nil && !IsMetadata(m):
		return nil, nil
	case err == nil:
		err = wrong
	case !IsMetadata(plain(flat)):
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &file{parts: []part{{metadata: m, branches: []branch{b}}}, write: write}, nil
}

func writeDotenv(b branch) []byte {
	var out bytes.Buffer
	for _, e := range b {
		if e.note != nil {
			fmt.Fprintf(&out, "#%s\n", e.note.text)
			continue
		}
		fmt.Fprintf(&out, "%s=%s\n", e.key, strings.ReplaceAll(text(e.value), "\n", `\n`))
	}
	return out.Bytes()
}
