package verify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// exactly reads members of a JSON object into pointers. encoding/json takes names in any case, and the last of several: who signed may have read the same bytes in
// another way. So a member that is asked for may be there once, and its name must be written as asked. Other members may be anything.
func exactly(raw []byte, members map[string]any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return bad("it is not JSON: an object was expected")
	}
	read := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return bad("it is not JSON: %v", err)
		}
		into, have := asked(members, fmt.Sprint(name))
		if into == nil {
			into = new(json.RawMessage)
		}
		if have != "" && (have != name || read[have]) {
			return bad("its %q is there twice, or written in another way", have)
		}
		read[have] = true
		if err := d.Decode(into); err != nil {
			return bad("it is not JSON of the right kind: %v", err)
		}
	}
	if _, err := d.Token(); err != nil {
		return bad("it is not JSON: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("it is not JSON: something is behind it")
	}
	return nil
}

// asked finds a member by its name in any case.
func asked(members map[string]any, name string) (into any, have string) {
	for have, into := range members {
		if strings.EqualFold(have, name) {
			return into, have
		}
	}
	return nil, ""
}
