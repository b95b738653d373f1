// Package sops decrypts files that sops encrypted for age or OpenPGP keys, and refuses those that were changed afterwards.
package sops

import (
	"bytes"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
)

// file is an encrypted file that was read but not opened.
type file struct {
	// parts of the file that have one metadata and one MAC each; formats other than YAML have one.
	parts []part
	// write gives the file without metadata, from what parts hold.
	write func() ([]byte, error)
}

// part is what one MAC is over.
type part struct {
	metadata map[string]any
	branches []branch
}

// format reads files of one kind. It gives nil for what is no encrypted file of the kind, and errors for what is one but wrong.
type format func(content []byte) (*file, error)

// formats in the order in which they are tried where the name of a file does not tell. JSON is YAML too, so it comes first.
var formats = []format{readBinary, readJSON, readDotenv, readINI, readYAML}

// byName are the formats that sops writes into files with these endings; it writes JSON with a single value into all others.
var byName = map[string]format{".yaml": readYAML, ".yml": readYAML, ".json": readJSON, ".env": readDotenv, ".ini": readINI}

// Encrypted reports whether sops encrypted a file, in any of its formats. That it has a map with the name sops is not enough: it must have what sops writes there.
func Encrypted(name string, content []byte) bool {
	f, err := read(name, content)
	return f != nil || err != nil
}

// Decrypt opens a file. Its name tells the format, as it does for sops; one that does not tell is found by looking. Each value and their sum, the MAC, are
// checked. Content that is not encrypted comes back as it is. Errors quote nothing of values and keys.
func Decrypt(name string, content []byte, keys *Keys) ([]byte, error) {
	return guarded(name, content, keys, false)
}

// Disguise opens a file as Decrypt does and puts random letters in place of each value that was encrypted, but of those that say which object a file holds: what differs
// between two results that were made of the one and of the other came from what was encrypted.
func Disguise(name string, content []byte, keys *Keys) ([]byte, error) {
	return guarded(name, content, keys, true)
}

func guarded(name string, content []byte, keys *Keys, disguise bool) (opened []byte, err error) {
	defer func() {
		if p := recover(); p != nil { // the libraries under it read what anybody may have written
			opened, err = nil, errors.New("it is encrypted with sops in a form that cannot be read")
		}
	}()
	return decrypt(name, content, keys, disguise)
}

func decrypt(name string, content []byte, keys *Keys, disguise bool) ([]byte, error) {
	f, err := read(name, content)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return content, nil
	}
	for _, p := range f.parts {
		if err := p.open(keys, disguise); err != nil {
			return nil, err
		}
	}
	return f.write()
}

// marks are what encrypted files of any format have; a file without costs no more than this search.
var marks = [][]byte{[]byte("lastmodified"), []byte(valueStart)}

// read reads an encrypted file; nil if it is none.
func read(name string, content []byte) (*file, error) {
	if !bytes.Contains(content, []byte(metadataKey)) {
		return nil, nil
	}
	if !bytes.Contains(content, marks[0]) && !bytes.Contains(content, marks[1]) {
		return nil, nil
	}
	if own, ok := byName[strings.ToLower(path.Ext(name))]; ok {
		return own(content)
	}
	for _, f := range formats {
		if found, err := f(content); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// macOnlyStart begins the sum where it is of encrypted values only: the SHA-256 of "sops", so that one kind of sum never passes for the other.
var macOnlyStart, _ = hex.DecodeString("8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69") // a constant

// open decrypts a part in place and checks its MAC.
func (p part) open(keys *Keys, disguise bool) error {
	m, err := newMetadata(p.metadata)
	if err != nil {
		return err
	}
	key, err := keys.dataKey(m)
	if err != nil {
		return err
	}
	c, err := newValueCipher(key)
	if err != nil {
		return err
	}
	o := &opener{rules: m.rules, cipher: c, sum: sha512.New(), macOnly: m.macOnly, disguise: disguise}
	if m.macOnly {
		_, _ = o.sum.Write(macOnlyStart) // hashes do not fail
	}
	for _, b := range p.branches {
		if err := o.branch(b, nil, nil); err != nil {
			return err
		}
	}
	v, err := c.open(m.mac, m.modified)
	if err != nil {
		return changed(fmt.Errorf("its mac %w", err))
	}
	want, _ := v.(string)
	if have := fmt.Sprintf("%X", o.sum.Sum(nil)); subtle.ConstantTimeCompare([]byte(have), []byte(want)) == 0 {
		return changed(errors.New("its values do not match its mac"))
	}
	return nil
}
