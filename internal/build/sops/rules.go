package sops

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// defaultSuffix marks what stays readable where the file says nothing else.
const defaultSuffix = "_unencrypted"

// rules say which values of a file are encrypted. At most one of the fields is set; none: all are.
type rules struct {
	plainSuffix, secretSuffix string
	plainKey, secretKey       *regexp.Regexp
	plainNote, secretNote     *regexp.Regexp
}

// newRules reads the rules of the metadata.
func newRules(m map[string]any) (rules, error) {
	var r rules
	count := 0
	for name, to := range map[string]*string{"unencrypted_suffix": &r.plainSuffix, "encrypted_suffix": &r.secretSuffix} {
		if *to = str(m[name]); *to != "" {
			count++
		}
	}
	for name, to := range map[string]**regexp.Regexp{
		"unencrypted_regex": &r.plainKey, "encrypted_regex": &r.secretKey,
		"unencrypted_comment_regex": &r.plainNote, "encrypted_comment_regex": &r.secretNote,
	} {
		pattern := str(m[name])
		if pattern == "" {
			continue
		}
		count++
		var err error
		if *to, err = regexp.Compile(pattern); err != nil {
			return rules{}, fmt.Errorf("%s of its sops metadata is no regular expression", name)
		}
	}
	if count > 1 {
		return rules{}, errors.New("its sops metadata has more than one rule for what is encrypted")
	}
	if count == 0 {
		r.plainSuffix = defaultSuffix
	}
	return r, nil
}

// encrypted decides for one value, or comment, by the keys on the way to it and the comments above it.
func (r rules) encrypted(path []string, notes [][]string, isNote bool) bool {
	switch {
	case r.plainSuffix != "":
		return !slices.ContainsFunc(path, func(key string) bool { return strings.HasSuffix(key, r.plainSuffix) })
	case r.secretSuffix != "":
		return slices.ContainsFunc(path, func(key string) bool { return strings.HasSuffix(key, r.secretSuffix) })
	case r.plainKey != nil:
		return !slices.ContainsFunc(path, r.plainKey.MatchString)
	case r.secretKey != nil:
		return slices.ContainsFunc(path, r.secretKey.MatchString)
	case r.plainNote != nil:
		return !slices.ContainsFunc(notes, func(lines []string) bool { return slices.ContainsFunc(lines, r.plainNote.MatchString) })
	case r.secretNote != nil:
		return r.noted(notes, isNote)
	}
	return true
}

// noted reports whether a comment asks for encryption. A comment does not ask for its own: it has to stay readable.
func (r rules) noted(notes [][]string, isNote bool) bool {
	for i, lines := range notes {
		if isNote && i == len(notes)-1 && len(lines) > 0 {
			lines = lines[:len(lines)-1]
		}
		if slices.ContainsFunc(lines, r.secretNote.MatchString) {
			return true
		}
	}
	return false
}
