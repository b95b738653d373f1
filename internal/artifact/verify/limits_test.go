package verify

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/notaryproject/notation-core-go/signature"
	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	pbcommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

// giant is an RSA key whose signatures take a core for seconds to check, though nobody could make one.
func giant() *rsa.PublicKey {
	const bits, exponent = 200_000, 1<<31 - 1
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(0x1234567)), E: exponent}
}

// busyEntry is a log entry whose signature is to be checked with a key.
func busyEntry(t *testing.T, kind string, key *rsa.PublicKey) []byte {
	t.Helper()
	der := x509.MarshalPKCS1PublicKey(key)
	if kind == "PUBLIC KEY" {
		var err error
		der, err = x509.MarshalPKIXPublicKey(key)
		must(t, err)
	}
	sum := sha256.Sum256(nil)
	return mustJSON(t, map[string]any{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
		"data":      map[string]any{"hash": map[string]string{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
		"signature": map[string]any{"content": make([]byte, key.Size()), "publicKey": map[string]any{"content": pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})}},
	}})
}

func TestGiantKeysAreNotWorkedWith(t *testing.T) {
	reg := testenv.NewRegistry(t)
	s, k := signing.NewSigstore(t), validKey(t, "k")
	p := policy(t, Material{Identities: []deploy.OIDCIdentity{anybody}, TrustedRoot: s.TrustedRootJSON(t)})
	body := func(raw []byte) func(*pbbundle.Bundle) {
		return func(b *pbbundle.Bundle) { b.VerificationMaterial.TlogEntries[0].CanonicalizedBody = raw }
	}
	large := giant()
	small := &rsa.PublicKey{N: new(big.Int).Rsh(large.N, 200_000-10_000), E: large.E} // in less than 64 KiB
	for what, c := range map[string]struct {
		edit func(*pbbundle.Bundle)
		text string
	}{
		"a giant key":            {body(busyEntry(t, "PUBLIC KEY", large)), "at most 65536 are looked at"},
		"a large key":            {body(busyEntry(t, "PUBLIC KEY", small)), "an RSA key of more than 8192 bits"},
		"a large key of PKCS #1": {body(busyEntry(t, "RSA PUBLIC KEY", small)), "an RSA key of more than 8192 bits"},
		"many entries": {func(b *pbbundle.Bundle) {
			for range maxEntries {
				b.VerificationMaterial.TlogEntries = append(b.VerificationMaterial.TlogEntries, b.VerificationMaterial.TlogEntries[0])
			}
		}, "at most 4 are looked at"},
		"a giant timestamp": {func(b *pbbundle.Bundle) {
			b.VerificationMaterial.TimestampVerificationData = &pbbundle.TimestampVerificationData{
				Rfc3161Timestamps: []*pbcommon.RFC3161SignedTimestamp{{SignedTimestamp: make([]byte, maxTimestamp+1)}},
			}
		}, "its timestamp has 16385 bytes"},
	} {
		t.Run("a bundle with "+what, func(t *testing.T) {
			a := push(t, reg)
			signing.PushBundle(t, a.ref(), s.Bundle(t, release, signing.Statement(a.digest, signing.PredicateSign), c.edit))
			refused(t, p, a, deploy.SourceUnverified, c.text)
		})
	}
	t.Run("a .sig with a large key", func(t *testing.T) {
		a := push(t, reg)
		l := s.LegacyLayer(t, release, signing.Payload(a.digest))
		l.Annotations[annotationRekor] = string(mustJSON(t, map[string]any{
			"SignedEntryTimestamp": []byte("x"), "Payload": map[string]any{"body": busyEntry(t, "PUBLIC KEY", small), "integratedTime": 1, "logIndex": 1, "logID": "00"},
		}))
		signing.PushLegacy(t, a.ref(), l)
		refused(t, p, a, deploy.SourceUnverified, "an RSA key of more than 8192 bits")
	})
	t.Run("an envelope that has room for a giant key", func(t *testing.T) {
		a := push(t, reg)
		raw := signing.NotationEnvelope(t, k, "application/jose+json", signing.NotationTarget(t, a.ref()), func(*signature.SignRequest) {})
		signing.PushNotation(t, a.ref(), "application/jose+json", append(raw, bytes.Repeat([]byte(" "), maxEnvelope)...))
		q := policy(t, notationOf(policyDocument(t, "strict", nil, "*", "*"), k))
		refused(t, q, a, deploy.SourceUnverified, "at most 65536 are looked at")
		signing.PushNotation(t, a.ref(), "application/jose+json", raw)
		accepted(t, q, a)
	})
}
