package sops

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// A document is a branch. Its values, and those in lists, are: string, int64, float64, bool, time.Time, nil, branch and []any; lists may hold notes too.
type branch []entry

// entry is a key with its value, or a comment that stands between keys.
type entry struct {
	key   string
	value any
	note  *note
}

// note is one line of a comment, without its mark. Where inline, it stands behind a value.
type note struct {
	text   string
	inline bool
}

// maxDepth bounds how deep maps and lists lie in each other: the walk calls itself.
const maxDepth = 500

var errDepth = fmt.Errorf("maps and lists lie in each other more than %d deep", maxDepth)

// takeOutMetadata removes the metadata from the top of a branch and gives it. A key that is there twice is refused when the branch is read.
func (b branch) takeOutMetadata() (branch, any) {
	for i, e := range b {
		if e.note == nil && e.key == metadataKey {
			return append(b[:i:i], b[i+1:]...), e.value
		}
	}
	return b, nil
}

// plain is a value as maps and lists without order and comments, as the metadata is read.
func plain(v any) any {
	switch v := v.(type) {
	case branch:
		m := make(map[string]any, len(v))
		for _, e := range v {
			if e.note == nil {
				m[e.key] = plain(e.value)
			}
		}
		return m
	case []any:
		list := make([]any, 0, len(v))
		for _, e := range v {
			if _, ok := e.(note); !ok {
				list = append(list, plain(e))
			}
		}
		return list
	}
	return v
}

// opener decrypts the values of branches in place and sums up what they were.
type opener struct {
	rules   rules
	cipher  *valueCipher
	sum     hash.Hash
	macOnly bool // the sum is of encrypted values only
	// disguise: values that were encrypted are replaced after they were summed up.
	disguise bool
}

// branch opens all that is in a map. notes are the comments that stand above the value, one list for each map and list that it lies in, the innermost last.
func (o *opener) branch(b branch, path []string, notes [][]string) error {
	notes = append(notes, nil)
	last := len(notes) - 1
	for i := range b {
		e := &b[i]
		if e.note != nil {
			notes[last] = append(notes[last], e.note.text)
			v, err := o.leaf(*e.note, path, notes)
			if err != nil {
				return err
			}
			if n, ok := v.(note); ok {
				e.note = &n
				continue
			}
			e.note = &note{text: text(v), inline: e.note.inline}
			continue
		}
		v, err := o.value(e.value, append(path[:len(path):len(path)], e.key), notes)
		if err != nil {
			return err
		}
		e.value = v
		notes[last] = nil
	}
	return nil
}

func (o *opener) list(l []any, path []string, notes [][]string) error {
	notes = append(notes, nil)
	last := len(notes) - 1
	for i, v := range l {
		n, isNote := v.(note)
		if isNote {
			notes[last] = append(notes[last], n.text)
		}
		opened, err := o.value(v, path, notes)
		if err != nil {
			return err
		}
		if s, ok := opened.(string); ok && isNote {
			opened = note{text: s, inline: n.inline}
		}
		l[i] = opened
		if !isNote {
			notes[last] = nil
		}
	}
	return nil
}

func (o *opener) value(v any, path []string, notes [][]string) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil // nothing is never encrypted
	case branch:
		return v, o.branch(v, path, notes)
	case []any:
		return v, o.list(v, path, notes)
	}
	return o.leaf(v, path, notes)
}

// errPlain: the rules of the file say that a value is encrypted and it is not.
var errPlain = errors.New("is not encrypted though it should be")

func (o *opener) leaf(v any, path []string, notes [][]string) (any, error) {
	n, isNote := v.(note)
	encrypted := o.rules.encrypted(path, notes, isNote)
	if encrypted {
		opened, err := o.open(v, path)
		switch {
		case err == nil:
			v = opened
		case isNote:
			v = n // a comment may have been added later: comments are not part of the sum
		default:
			return nil, changed(fmt.Errorf("the value at %s %w", where(path), err))
		}
	}
	if _, ok := v.(note); !ok && (encrypted || !o.macOnly) {
		_, _ = o.sum.Write([]byte(summed(v))) // hashes do not fail
	}
	if encrypted && o.disguise && v != "" && !naming(path) { // sops leaves empty values as they are
		if isNote {
			return n, nil
		}
		return rand.Text(), nil
	}
	return v, nil
}

// naming reports whether a path is a field that says which object it is, also of an object in a list.
func naming(path []string) bool {
	for len(path) > 0 && path[0] == "items" {
		path = path[1:]
	}
	return deploy.Names(path)
}

func (o *opener) open(v any, path []string) (any, error) {
	switch v := v.(type) {
	case note:
		return o.cipher.open(v.text, additional(path))
	case string:
		return o.cipher.open(v, additional(path))
	}
	return nil, errPlain
}

// summed is a value as the sum takes it.
func summed(v any) string {
	switch v := v.(type) {
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		if v {
			return "True"
		}
		return "False"
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return text(v)
}

// text is a scalar as formats without types have it.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case note:
		return v.text
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return v.Format(time.RFC3339)
	case float64:
		s := strconv.FormatFloat(v, 'G', -1, 64)
		if _, err := strconv.ParseInt(s, 10, 64); err == nil {
			s += ".0" // to stay a float
		}
		return s
	}
	return ""
}
