package sops

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// iniDefault is the section of what stands before the first one.
const iniDefault = "DEFAULT"

// iniDelimiters part a key from its value.
const iniDelimiters = "=:"

// readINI reads sections of key = value. Its rules for quotes and comments are those of the library that sops writes such files with.
func readINI(content []byte) (*file, error) {
	if !bytes.Contains(content, []byte("["+metadataKey+"]")) {
		return nil, nil
	}
	r := iniReader{lines: strings.SplitAfter(strings.TrimPrefix(string(content), "\ufeff"), "\n")}
	b, wrong := r.sections()
	b, metadata := b.takeOutMetadata()
	flat, _ := metadata.(branch)
	for i := range flat {
		flat[i].value = strings.ReplaceAll(text(flat[i].value), `\n`, "\n")
	}
	return flatFile(b, flat, wrong, func() ([]byte, error) { return writeINI(b), nil })
}

// iniReader goes over lines.
type iniReader struct {
	lines   []string // that were not read, with their ends
	number  int      // of the last that was
	comment strings.Builder
}

func (r *iniReader) next() (string, bool) {
	if len(r.lines) == 0 {
		return "", false
	}
	line := r.lines[0]
	r.lines = r.lines[1:]
	r.number++
	return line, true
}

// note is the comment that was read since the last one, without the mark of its first line.
func (r *iniReader) note(b branch) branch {
	s := strings.TrimSpace(r.comment.String())
	r.comment.Reset()
	if s == "" {
		return b
	}
	switch s[0] {
	case ';':
		s = strings.TrimLeft(s, "; ")
	case '#':
		s = strings.TrimLeft(s, "# ")
	}
	return append(b, entry{note: &note{text: s}})
}

// sections reads all. With an error comes what was read until then.
func (r *iniReader) sections() (branch, error) {
	b := branch{{key: iniDefault}}
	section, seen := branch{}, make(map[string]bool)
	for {
		line, ok := r.next()
		b[len(b)-1].value = section
		if !ok {
			return b, nil
		}
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case line[0] == '#' || line[0] == ';':
			r.comment.WriteString(line + "\n")
		case line[0] == '[':
			end := strings.LastIndexByte(line, ']')
			if end < 2 {
				return b, fmt.Errorf("line %d begins a section without a name", r.number)
			}
			if i := strings.IndexAny(line[end+1:], "#;"); i >= 0 {
				r.comment.WriteString(line[end+1+i:])
			}
			section, seen = r.note(branch{}), make(map[string]bool)
			b = append(b, entry{key: line[1:end]})
		default:
			e, err := r.pair(line)
			if err != nil {
				return b, err
			}
			if seen[e.key] {
				return b, fmt.Errorf("line %d: the key %s is there twice", r.number, where([]string{e.key}))
			}
			seen[e.key] = true
			section = r.note(append(section, e))
		}
	}
}

func (r *iniReader) pair(line string) (entry, error) {
	number := r.number
	key, rest, err := iniKey(line)
	if err != nil {
		return entry{}, fmt.Errorf("line %d %w", number, err)
	}
	value, err := r.value(rest)
	if err != nil {
		return entry{}, fmt.Errorf("line %d %w", number, err)
	}
	return entry{key: key, value: value}, nil
}

var errINIKey = errors.New("has no key with = behind it")

// iniKey takes the key off a line; quotes around it may hold delimiters.
func iniKey(line string) (key, rest string, err error) {
	for _, quote := range []string{`"""`, `"`, "`"} {
		inner, ok := strings.CutPrefix(line, quote)
		if !ok {
			continue
		}
		key, rest, ok = strings.Cut(inner, quote)
		if i := strings.IndexAny(rest, iniDelimiters); ok && i >= 0 {
			return strings.TrimSpace(key), rest[i+1:], nil
		}
		return "", "", errINIKey
	}
	i := strings.IndexAny(line, iniDelimiters)
	if i <= 0 {
		return "", "", errINIKey
	}
	return strings.TrimSpace(line[:i]), line[i+1:], nil
}

// value reads a value, on following lines too where quotes or a backslash say so.
func (r *iniReader) value(s string) (string, error) {
	s = strings.TrimSpace(s)
	for _, quote := range []string{`"""`, "`"} {
		if inner, ok := strings.CutPrefix(s, quote); ok {
			return r.quoted(inner, quote)
		}
	}
	if before, ok := strings.CutSuffix(s, `\`); ok {
		return r.continued(before), nil
	}
	if i := strings.IndexAny(s, "#;"); i >= 0 {
		r.comment.WriteString(s[i:])
		s = strings.TrimSpace(s[:i])
	}
	for _, quote := range []string{"'", `"`} {
		if len(s) >= 2 && strings.HasPrefix(s, quote) && strings.Index(s[1:], quote) == len(s)-2 {
			return s[1 : len(s)-1], nil
		}
	}
	return s, nil
}

func (r *iniReader) quoted(s, quote string) (string, error) {
	if i := strings.LastIndex(s, quote); i >= 0 {
		return s[:i], nil
	}
	var b strings.Builder
	b.WriteString(s + "\n") // the trimmed end of the line
	for {
		line, ok := r.next()
		if !ok {
			return "", errors.New("begins a quote that does not end")
		}
		if i := strings.LastIndex(line, quote); i >= 0 {
			return b.String() + line[:i], nil
		}
		b.WriteString(line)
	}
}

func (r *iniReader) continued(s string) string {
	var b strings.Builder
	b.WriteString(s)
	for {
		line, ok := r.next()
		line = strings.TrimSpace(line)
		if !ok || line == "" {
			return b.String()
		}
		var more bool
		line, more = strings.CutSuffix(line, `\`)
		b.WriteString(line)
		if !more {
			return b.String()
		}
	}
}

// writeINI writes sections with aligned values.
func writeINI(b branch) []byte {
	var out bytes.Buffer
	for i, e := range b {
		section, _ := e.value.(branch)
		if len(section) > 0 && section[0].note != nil {
			iniNote(&out, section[0].note.text)
			section = section[1:]
		}
		if i > 0 || e.key != iniDefault {
			fmt.Fprintf(&out, "[%s]\n", e.key)
		} else if len(section) == 0 {
			continue
		}
		iniPairs(&out, section)
		if i < len(b)-1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// maxWidth bounds the keys to which values are aligned, in bytes: one long key would pad all others.
const maxWidth = 1 << 10

func iniPairs(out *bytes.Buffer, section branch) {
	width := 0
	for _, e := range section {
		if e.note == nil {
			width = max(width, len(quoteINIKey(e.key)))
		}
	}
	if width > maxWidth {
		width = 0
	}
	for i, e := range section {
		if e.note != nil {
			continue
		}
		if i+1 < len(section) && section[i+1].note != nil {
			iniNote(out, section[i+1].note.text) // it follows its key and is written above it
		}
		fmt.Fprintf(out, "%-*s = %s\n", width, quoteINIKey(e.key), quoteINIValue(text(e.value)))
	}
}

func iniNote(out *bytes.Buffer, comment string) {
	for line := range strings.SplitSeq(comment, "\n") {
		mark := ";"
		if line != "" && (line[0] == '#' || line[0] == ';') {
			mark, line = line[:1], line[1:]
		}
		fmt.Fprintf(out, "%s %s\n", mark, strings.TrimSpace(line))
	}
}

func quoteINIKey(key string) string {
	switch {
	case strings.ContainsAny(key, `"`+iniDelimiters):
		return "`" + key + "`"
	case strings.Contains(key, "`"):
		return `"""` + key + `"""`
	}
	return key
}

func quoteINIValue(v string) string {
	switch {
	case strings.ContainsAny(v, "\n`"):
		return `"""` + v + `"""`
	case strings.ContainsAny(v, "#;"):
		return "`" + v + "`"
	case strings.TrimSpace(v) != v:
		return `"` + v + `"`
	}
	return v
}
