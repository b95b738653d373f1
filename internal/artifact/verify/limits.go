package verify

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"

	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
)

// Bounds of what the libraries are given. They check signatures with keys that came with the signature before they ask whether anybody trusts them, and the time that
// RSA takes grows with the cube of the key's length: a key of a megabyte holds a core for hours, and no deadline ends it.
const (
	// maxModulus is the length in bits of an RSA key.
	maxModulus = 8192
	// maxEntries is how many log entries, and how many timestamps, a bundle has. Sigstore's clients write one of each.
	maxEntries = 4
	// maxEntry is the size in bytes of the body of a log entry. With the certificate of an RSA key of 4096 bits it has less than 10 KiB.
	maxEntry = 64 << 10
	// maxTimestamp is the size in bytes of a timestamp. Those with a long chain of RSA certificates have 8 KiB.
	maxTimestamp = 16 << 10
	// maxEnvelope is the size in bytes of a Notation signature: with a chain of certificates and a timestamp it has less than 20 KiB. The keys in what is this small take
	// seconds at worst, and the context is asked after each.
	maxEnvelope = 64 << 10
)

// modest reports whether a key, if it is of RSA, can be worked with in reasonable time.
func modest(public any) bool {
	k, ok := public.(*rsa.PublicKey)
	return !ok || k.N.BitLen() <= maxModulus
}

// withinLimits looks at what a bundle brings along, before it is taken apart.
func withinLimits(b *pbbundle.Bundle) error {
	vm := b.GetVerificationMaterial()
	if n := max(len(vm.GetTlogEntries()), len(vm.GetTimestampVerificationData().GetRfc3161Timestamps())); n > maxEntries {
		return bad("it has %d log entries or timestamps: at most %d are looked at", n, maxEntries)
	}
	for _, e := range vm.GetTlogEntries() {
		if n := len(e.GetCanonicalizedBody()); n > maxEntry {
			return bad("its log entry has %d bytes: at most %d are looked at", n, maxEntry)
		}
		if err := modestEntry(e.GetCanonicalizedBody()); err != nil {
			return err
		}
	}
	for _, ts := range vm.GetTimestampVerificationData().GetRfc3161Timestamps() {
		if n := len(ts.GetSignedTimestamp()); n > maxTimestamp {
			return bad("its timestamp has %d bytes: at most %d are looked at", n, maxTimestamp)
		}
	}
	return nil
}

// modestEntry looks at all keys in a log entry of any kind: they are somewhere among its strings, as PEM in base64.
func modestEntry(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	for {
		t, err := d.Token()
		if err != nil {
			return nil //nolint:nilerr // the end, or no JSON: who takes the entry apart says so
		}
		text, _ := t.(string)
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue
		}
		for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
			if !modest(keyIn(block.Bytes)) {
				return bad("its log entry has an RSA key of more than %d bits", maxModulus)
			}
		}
	}
}

// keyIn is the public key in DER, or in a certificate; nil where there is none.
func keyIn(der []byte) any {
	if c, err := x509.ParseCertificate(der); err == nil {
		return c.PublicKey
	}
	if k, err := x509.ParsePKIXPublicKey(der); err == nil {
		return k
	}
	if k, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return k
	}
	return nil
}
