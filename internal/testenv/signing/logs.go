package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"
	"time"

	ct "github.com/google/certificate-transparency-go"
	cttls "github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	pbcommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	pbrekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
)

// tilesHost is where the Rekor of version 2 claims to be; its checkpoints bear the name.
const tilesHost = "rekor2.invalid"

// Timestamp is the timestamp authority's word that a signature exists now: RFC 3161.
func (s *Sigstore) Timestamp(t testing.TB, signature []byte) *pbbundle.TimestampVerificationData {
	t.Helper()
	raw, err := s.services.TimestampResponse(signature)
	must(t, err)
	return &pbbundle.TimestampVerificationData{Rfc3161Timestamps: []*pbcommon.RFC3161SignedTimestamp{{SignedTimestamp: raw}}}
}

// LogTiles is the entry of a bundle's signature in the Rekor of version 2, which bears no time: https://github.com/sigstore/rekor-tiles.
func (s *Sigstore) LogTiles(t testing.TB, b *pbbundle.Bundle) *pbrekor.TransparencyLogEntry {
	t.Helper()
	env := b.GetDsseEnvelope()
	digest := sha256.Sum256(dsse.PAE(env.GetPayloadType(), env.GetPayload()))
	body := mustJSON(map[string]any{ // sorted and without spaces, as RFC 8785 has it
		"apiVersion": "0.0.2", "kind": "hashedrekord",
		"spec": map[string]any{"hashedRekordV002": map[string]any{
			"data": map[string]any{"algorithm": "SHA2_256", "digest": digest[:]},
			"signature": map[string]any{"content": env.GetSignatures()[0].GetSig(), "verifier": map[string]any{
				"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": map[string]any{"rawBytes": b.GetVerificationMaterial().GetCertificate().GetRawBytes()},
			}},
		}},
	})
	rootHash := sha256.Sum256(slices.Concat([]byte{0}, body)) // a tree of one leaf
	id := logID(t, s.tilesKey.Public())
	text := fmt.Sprintf("%s\n1\n%s\n", tilesHost, base64.StdEncoding.EncodeToString(rootHash[:]))
	seal := slices.Concat(id[:4], sign(t, s.tilesKey, []byte(text)))
	return &pbrekor.TransparencyLogEntry{
		LogId: &pbcommon.LogId{KeyId: id}, KindVersion: &pbrekor.KindVersion{Kind: "hashedrekord", Version: "0.0.2"}, CanonicalizedBody: body,
		InclusionProof: &pbrekor.InclusionProof{
			TreeSize: 1, RootHash: rootHash[:],
			Checkpoint: &pbrekor.Checkpoint{Envelope: fmt.Sprintf("%s\n\u2014 %s %s\n", text, tilesHost, base64.StdEncoding.EncodeToString(seal))},
		},
	}
}

// sct is the list of one signed certificate timestamp, for the certificate without it: RFC 6962 §3.2.
func (s *Sigstore) sct(t testing.TB, tbs []byte, at time.Time) []byte {
	t.Helper()
	id := logID(t, s.ctKey.Public())
	out := ct.SignedCertificateTimestamp{SCTVersion: ct.V1, Timestamp: uint64(at.UnixMilli())}
	copy(out.LogID.KeyID[:], id)
	input, err := ct.SerializeSCTSignatureInput(out, ct.LogEntry{Leaf: ct.MerkleTreeLeaf{
		Version: ct.V1, LeafType: ct.TimestampedEntryLeafType,
		TimestampedEntry: &ct.TimestampedEntry{
			Timestamp: out.Timestamp, EntryType: ct.PrecertLogEntryType,
			PrecertEntry: &ct.PreCert{IssuerKeyHash: sha256.Sum256(s.intermediate.RawSubjectPublicKeyInfo), TBSCertificate: tbs},
		},
	}})
	must(t, err)
	out.Signature = ct.DigitallySigned{
		Algorithm: cttls.SignatureAndHashAlgorithm{Hash: cttls.SHA256, Signature: cttls.ECDSA},
		Signature: sign(t, s.ctKey, input),
	}
	one, err := cttls.Marshal(out)
	must(t, err)
	list, err := cttls.Marshal(ctx509.SignedCertificateTimestampList{SCTList: []ctx509.SerializedSCT{{Val: one}}})
	must(t, err)
	ext, err := asn1.Marshal(list)
	must(t, err)
	return ext
}

func sign(t testing.TB, key *ecdsa.PrivateKey, data []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(data)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	must(t, err)
	return sig
}

func logID(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	must(t, err)
	sum := sha256.Sum256(der)
	return sum[:]
}
