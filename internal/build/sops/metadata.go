package sops

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// metadataKey is where a file has its metadata; flat formats have it as prefix.
const metadataKey = "sops"

// metadata is what a file says of its encryption.
type metadata struct {
	rules    rules
	mac      string
	macOnly  bool
	modified string // RFC 3339: the MAC is bound to it
	groups   []group
	// threshold is how many groups have to be opened.
	threshold int
}

// group is a list of recipients of whom each can open the same data key, or the same share of it.
type group struct {
	recipients []recipient
	foreign    []string // services that could open it too, by their name
}

// recipient is a key that the data key, or a share, is encrypted for.
type recipient struct {
	pgp  bool
	name string // age recipient or OpenPGP fingerprint
	enc  string // armored
}

// services that hold keys, and their names in metadata; nothing of them is in the agent.
var services = map[string]string{
	"kms": "AWS KMS", "gcp_kms": "Google Cloud KMS", "hckms": "Huawei Cloud KMS", "azure_kv": "Azure Key Vault", "hc_vault": "Vault",
}

// IsMetadata tells metadata from something else with the same name. Without mac it still is some: somebody removed it.
func IsMetadata(v any) bool {
	m, ok := v.(map[string]any)
	if !ok {
		return false
	}
	_, mac := m["mac"].(string)
	_, version := m["version"].(string)
	_, modified := m["lastmodified"]
	return mac && (version || modified) || version && modified
}

// newMetadata reads metadata.
func newMetadata(m map[string]any) (metadata, error) {
	r, err := newRules(m)
	if err != nil {
		return metadata{}, err
	}
	md := metadata{rules: r, mac: str(m["mac"]), macOnly: str(m["mac_only_encrypted"]) == "true"}
	if md.mac == "" {
		return metadata{}, changed(errors.New("its sops metadata has no mac, which would show changes"))
	}
	at, err := time.Parse(time.RFC3339, str(m["lastmodified"]))
	if err != nil {
		return metadata{}, errors.New("lastmodified of its sops metadata is no time")
	}
	md.modified = at.Format(time.RFC3339)
	if g := newGroup(m); len(g.recipients)+len(g.foreign) > 0 {
		md.groups = []group{g}
	} else {
		for _, g := range list(m["key_groups"]) {
			md.groups = append(md.groups, newGroup(g))
		}
	}
	if len(md.groups) == 0 {
		return metadata{}, errors.New("its sops metadata names no keys")
	}
	md.threshold = 1
	if len(md.groups) > 1 {
		md.threshold = len(md.groups)
		if n, err := strconv.Atoi(str(m["shamir_threshold"])); err == nil && n > 0 {
			md.threshold = max(n, 2) // one share gives no key
		}
	}
	return md, nil
}

func newGroup(m map[string]any) group {
	var g group
	for _, k := range list(m["age"]) {
		g.recipients = append(g.recipients, recipient{name: str(k["recipient"]), enc: str(k["enc"])})
	}
	for _, k := range list(m["pgp"]) {
		g.recipients = append(g.recipients, recipient{pgp: true, name: str(k["fp"]), enc: str(k["enc"])})
	}
	for field, service := range services {
		if len(list(m[field])) > 0 {
			g.foreign = append(g.foreign, service)
		}
	}
	slices.Sort(g.foreign)
	return g
}

// str is a scalar of the metadata as text: flat formats have nothing else.
func str(v any) string { return text(v) }

// list is a list of maps of the metadata.
func list(v any) []map[string]any {
	l, _ := v.([]any)
	var maps []map[string]any
	for _, e := range l {
		if m, ok := e.(map[string]any); ok {
			maps = append(maps, m)
		}
	}
	return maps
}

// The marks in the keys of flat metadata: age__list_0__map_enc is the field enc of the first element of age.
const (
	mapMark  = "__map_"
	listMark = "__list_"
)

// maxFlat bounds the elements of a list in flat metadata.
const maxFlat = 1000

// unflatten builds the metadata that a flat format has as pairs. What cannot be placed is an error.
func unflatten(pairs branch) (map[string]any, error) {
	top := make(map[string]any)
	for _, e := range pairs {
		if e.note != nil {
			continue
		}
		if err := place(top, e.key, e.value); err != nil {
			return nil, fmt.Errorf("the key %s of its sops metadata %w", where([]string{e.key}), err)
		}
	}
	lists, _ := gather(top).(map[string]any)
	return lists, nil
}

// place puts a value into nested maps; elements of lists are kept under listMark and their number until gather.
func place(m map[string]any, key string, value any) error {
	steps := strings.Split(strings.ReplaceAll(strings.ReplaceAll(key, listMark, mapMark+listMark), mapMark, "\x00"), "\x00")
	if len(steps) > maxDepth {
		return errDepth
	}
	for _, step := range steps[:len(steps)-1] {
		next, ok := m[step].(map[string]any)
		if !ok {
			if _, taken := m[step]; taken {
				return errors.New("is a value and a map")
			}
			next = make(map[string]any)
			m[step] = next
		}
		m = next
	}
	last := steps[len(steps)-1]
	if _, taken := m[last]; taken {
		return errors.New("is there twice")
	}
	m[last] = value
	return nil
}

// gather turns maps whose keys are numbers of elements into lists.
func gather(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	for k := range m {
		m[k] = gather(m[k])
	}
	var elements []any
	for i := range min(len(m), maxFlat) {
		e, ok := m[listMark+strconv.Itoa(i)]
		if !ok {
			return m
		}
		elements = append(elements, e)
	}
	if len(elements) == 0 || len(elements) != len(m) {
		return m
	}
	return elements
}
