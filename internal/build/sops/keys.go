package sops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	agearmor "filippo.io/age/armor"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// What the names of key files end in.
const (
	ageSuffix = ".agekey"
	pgpSuffix = ".asc"
)

// maxKey bounds a decrypted data key or share, in bytes: 32 or 33 are right.
const maxKey = 1 << 10

// Keys open the data keys of files. The zero value has none. Not to be added to while it opens.
type Keys struct {
	age []age.Identity
	pgp openpgp.EntityList
}

// Len is how many keys there are.
func (k *Keys) Len() int { return len(k.age) + len(k.pgp) }

// Add reads the keys of a file: age identities where its name ends in .agekey, armored OpenPGP private keys where in .asc; any other name is passed over. A key
// that needs a passphrase or another program is an error. Errors name the file and quote nothing of it.
func (k *Keys) Add(name string, content []byte) error {
	var err error
	switch {
	case strings.HasSuffix(name, ageSuffix):
		err = k.addAge(string(content))
	case strings.HasSuffix(name, pgpSuffix):
		err = k.addPGP(content)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (k *Keys) addAge(content string) error {
	number, before := 0, len(k.age)
	for line := range strings.Lines(content) {
		number++
		line = strings.TrimSpace(line)
		var identity age.Identity
		var err error
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "AGE-PLUGIN-"):
			return fmt.Errorf("line %d is the identity of an age plugin: plugins are programs, which are not run here: use a key that age-keygen made", number)
		case strings.HasPrefix(line, "-----BEGIN AGE"):
			return errors.New("it is encrypted itself: nobody is here to give a passphrase: use a key without one")
		case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
			identity, err = age.ParseHybridIdentity(line)
		default:
			identity, err = age.ParseX25519Identity(line)
		}
		if err != nil {
			return fmt.Errorf("line %d is no age identity: they begin with AGE-SECRET-KEY-", number)
		}
		k.age = append(k.age, identity)
	}
	if len(k.age) == before {
		return errors.New("it has no age identity")
	}
	return nil
}

// pgpStart begins each armored block.
const pgpStart = "-----BEGIN PGP "

func (k *Keys) addPGP(content []byte) error {
	at := bytes.Index(content, []byte(pgpStart))
	if at < 0 {
		return errors.New("it has no armored OpenPGP key")
	}
	for rest := content[at:]; len(rest) > 0; {
		one := rest
		if next := bytes.Index(rest[len(pgpStart):], []byte(pgpStart)); next >= 0 {
			one = rest[:len(pgpStart)+next]
		}
		rest = rest[len(one):]
		block, err := armor.Decode(bytes.NewReader(one))
		if err != nil {
			return errors.New("it is no armored OpenPGP key")
		}
		if block.Type != openpgp.PrivateKeyType {
			return errors.New("it is no private key: export it with gpg --export-secret-keys --armor")
		}
		found, err := openpgp.ReadKeyRing(block.Body)
		if err != nil || len(found) == 0 {
			return errors.New("it is no OpenPGP private key that can be read here")
		}
		for _, e := range found {
			if err := usable(e); err != nil {
				return err
			}
		}
		k.pgp = append(k.pgp, found...)
	}
	return nil
}

// usable refuses a key that somebody would have to unlock, and one without any secret part.
func usable(e *openpgp.Entity) error {
	secrets := []*packet.PrivateKey{e.PrivateKey}
	for _, s := range e.Subkeys {
		secrets = append(secrets, s.PrivateKey)
	}
	secrets = slices.DeleteFunc(secrets, func(p *packet.PrivateKey) bool { return p == nil || p.Dummy() })
	if len(secrets) == 0 {
		return errors.New("its secret parts are elsewhere, on a card maybe: export a key that has them")
	}
	for _, p := range secrets {
		if p.Encrypted {
			return fmt.Errorf("key %s is protected by a passphrase, and nobody is here to give it: export it without one", p.KeyIdString())
		}
	}
	return nil
}

// dataKey opens the data key of a file.
func (k *Keys) dataKey(m metadata) ([]byte, error) {
	var shares [][]byte
	for _, g := range m.groups {
		if len(shares) == m.threshold {
			break
		}
		if share := k.share(g); share != nil {
			shares = append(shares, share)
		}
	}
	switch {
	case len(shares) < m.threshold:
		return nil, k.noKey(m, len(shares))
	case len(m.groups) == 1:
		return shares[0], nil
	}
	return combine(shares)
}

// share opens what a group's recipients have; nil if none of the keys does.
func (k *Keys) share(g group) []byte {
	for _, pgp := range []bool{false, true} { // age first: it is quicker
		for _, r := range g.recipients {
			if r.pgp != pgp {
				continue
			}
			open := k.openAge
			if pgp {
				open = k.openPGP
			}
			if share, err := open(r.enc); err == nil && len(share) > 0 && len(share) < maxKey {
				return share
			}
		}
	}
	return nil
}

var errNoKey = errors.New("no key")

func (k *Keys) openAge(enc string) ([]byte, error) {
	if len(k.age) == 0 {
		return nil, errNoKey
	}
	r, err := age.Decrypt(agearmor.NewReader(strings.NewReader(enc)), k.age...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxKey))
}

func (k *Keys) openPGP(enc string) ([]byte, error) {
	if len(k.pgp) == 0 {
		return nil, errNoKey
	}
	block, err := armor.Decode(strings.NewReader(enc))
	if err != nil {
		return nil, err
	}
	message, err := openpgp.ReadMessage(block.Body, k.pgp, nil, nil)
	if err != nil {
		return nil, err
	}
	if !message.IsEncrypted {
		return nil, errNoKey
	}
	return io.ReadAll(io.LimitReader(message.UnverifiedBody, maxKey)) // what is read to its end is checked against changes
}

// noKey says whom a file is for.
func (k *Keys) noKey(m metadata, opened int) error {
	var names, foreign []string
	for _, g := range m.groups {
		foreign = append(foreign, g.foreign...)
		for _, r := range g.recipients {
			names = append(names, r.String())
		}
	}
	slices.Sort(foreign)
	foreign = slices.Compact(foreign)
	if len(names) == 0 {
		return fmt.Errorf("it is encrypted for %s only, and age and OpenPGP keys are all that is used here: add one of those to its recipients",
			strings.Join(foreign, " and "))
	}
	text := "it is for " + strings.Join(append(names, foreign...), ", ")
	if len(m.groups) > 1 {
		text = fmt.Sprintf("%d of its %d key groups are needed and %d could be opened: %s", m.threshold, len(m.groups), opened, text)
	}
	return fmt.Errorf("none of the keys that were tried (%d age, %d OpenPGP) opens it: %s", len(k.age), len(k.pgp), text)
}

const (
	// ageName is how much of an age recipient an error shows, in characters: all of the usual ones; those against quantum computers have 2,000.
	ageName = 62
	// pgpName is the length of the longest fingerprint, in characters.
	pgpName = 64
)

// String names a recipient, and shows nothing that is not in the form of one.
func (r recipient) String() string {
	if r.pgp {
		if len(r.name) <= pgpName && strings.Trim(r.name, "0123456789ABCDEFabcdef") == "" {
			return "OpenPGP " + r.name
		}
		return "an OpenPGP key"
	}
	if !strings.HasPrefix(r.name, "age1") || strings.Trim(r.name, "0123456789abcdefghijklmnopqrstuvwxyz-") != "" {
		return "an age key"
	}
	if len(r.name) > ageName {
		return r.name[:ageName] + "…"
	}
	return r.name
}
