package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// binaryKey is the only key of the JSON that a file of no other format becomes.
const binaryKey = "data"

// readBinary reads JSON that stands for bytes.
func readBinary(content []byte) (*file, error) {
	f, err := readJSON(content)
	if f == nil || err != nil {
		return nil, nil //nolint:nilerr // the next reader, of JSON, says what is wrong
	}
	b := f.parts[0].branches[0]
	if len(b) != 1 || b[0].key != binaryKey {
		return nil, nil
	}
	if _, ok := b[0].value.(string); !ok {
		return nil, nil
	}
	f.write = func() ([]byte, error) { return []byte(text(b[0].value)), nil }
	return f, nil
}

func readJSON(content []byte) (*file, error) {
	if start := bytes.TrimLeft(content, " \t\r\n"); len(start) == 0 || start[0] != '{' {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	v, err := jsonValue(d, 0)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err != nil {
		return nil, nil //nolint:nilerr // not JSON: maybe YAML, whose reader says what is wrong
	}
	b, metadata := v.(branch).takeOutMetadata()
	m := plain(metadata)
	if !IsMetadata(m) {
		return nil, nil
	}
	return &file{
		parts: []part{{metadata: m.(map[string]any), branches: []branch{b}}},
		write: func() ([]byte, error) { return writeJSON(b) },
	}, nil
}

// jsonValue reads the next value; numbers are int64 where they are whole and fit, else float64.
func jsonValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return n, nil
		}
		return t.Float64()
	case json.Delim:
		if t == '{' {
			return jsonObject(d, depth)
		}
		return jsonArray(d, depth)
	}
	return t, nil
}

func jsonObject(d *json.Decoder, depth int) (branch, error) {
	b := branch{}
	seen := make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string) // the decoder lets nothing else be a key
		if seen[key] {
			return nil, fmt.Errorf("the key %s is there twice", where([]string{key}))
		}
		seen[key] = true
		v, err := jsonValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		b = append(b, entry{key: key, value: v})
	}
	_, err := d.Token()
	return b, err
}

func jsonArray(d *json.Decoder, depth int) ([]any, error) {
	list := []any{}
	for d.More() {
		v, err := jsonValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err
}

// writeJSON writes as sops does, indented by tabs.
func writeJSON(b branch) ([]byte, error) {
	var out, pretty bytes.Buffer
	if err := appendJSON(&out, b); err != nil {
		return nil, err
	}
	if err := json.Indent(&pretty, out.Bytes(), "", "\t"); err != nil {
		return nil, errors.New("what it holds cannot be written as JSON")
	}
	pretty.WriteByte('\n')
	return pretty.Bytes(), nil
}

func appendJSON(out *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case branch:
		sep := "{"
		for _, e := range v {
			if e.note != nil {
				continue // JSON has no comments
			}
			out.WriteString(sep)
			sep = ","
			if err := appendJSON(out, e.key); err != nil {
				return err
			}
			out.WriteByte(':')
			if err := appendJSON(out, e.value); err != nil {
				return err
			}
		}
		closeJSON(out, sep, "{", "}")
		return nil
	case []any:
		sep := "["
		for _, e := range v {
			if _, ok := e.(note); ok {
				continue
			}
			out.WriteString(sep)
			sep = ","
			if err := appendJSON(out, e); err != nil {
				return err
			}
		}
		closeJSON(out, sep, "[", "]")
		return nil
	case time.Time:
		return appendJSON(out, v.Format(time.RFC3339Nano))
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return errors.New("a number of it cannot be written as JSON")
	}
	out.Write(raw)
	return nil
}

// closeJSON ends a map or list; sep still is its beginning where it has no element.
func closeJSON(out *bytes.Buffer, sep, start, end string) {
	if sep == start {
		out.WriteString(start)
	}
	out.WriteString(end)
}
