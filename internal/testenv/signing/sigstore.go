package signing

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	pbcommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	pbdsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	pbrekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	// leafLife is how long a Fulcio certificate is valid.
	leafLife = 10 * time.Minute
	// serviceLife is how long the services' keys are valid, before and after now.
	serviceLife     = time.Hour
	payloadTypeJSON = "application/vnd.in-toto+json"
)

// The extensions of a keyless certificate.
var (
	oidIssuer = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}
	oidSCT    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
)

// Sigstore is a Fulcio, CT log, Rekor and timestamp authority of a test. Each has keys of its own.
type Sigstore struct {
	services     *ca.VirtualSigstore // Rekor and the timestamp authority
	root         *x509.Certificate
	intermediate *x509.Certificate
	fulcioKey    *ecdsa.PrivateKey
	ctKey        *ecdsa.PrivateKey
	tilesKey     *ecdsa.PrivateKey // of the Rekor of version 2
}

// NewSigstore makes the services.
func NewSigstore(t testing.TB) *Sigstore {
	t.Helper()
	s := &Sigstore{}
	var err error
	s.services, err = ca.NewVirtualSigstore()
	must(t, err)
	var rootKey *ecdsa.PrivateKey
	s.root, rootKey, err = ca.GenerateRootCa()
	must(t, err)
	s.intermediate, s.fulcioKey, err = ca.GenerateFulcioIntermediate(s.root, rootKey)
	must(t, err)
	s.ctKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	s.tilesKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return s
}

// TrustedRootJSON is the trusted_root.json of the services.
func (s *Sigstore) TrustedRootJSON(t testing.TB) []byte {
	t.Helper()
	now := time.Now()
	fulcio := &root.FulcioCertificateAuthority{
		Root: s.root, Intermediates: []*x509.Certificate{s.intermediate}, URI: "https://fulcio.invalid",
		ValidityPeriodStart: now.Add(-serviceLife), ValidityPeriodEnd: now.Add(serviceLife),
	}
	logOf := func(key *ecdsa.PrivateKey, host string) (string, *root.TransparencyLog) {
		id := logID(t, key.Public())
		return hex.EncodeToString(id), &root.TransparencyLog{
			BaseURL: "https://" + host, ID: id, HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256, PublicKey: key.Public(),
			ValidityPeriodStart: now.Add(-serviceLife), ValidityPeriodEnd: now.Add(serviceLife),
		}
	}
	ctID, ctLog := logOf(s.ctKey, "ct.invalid")
	ctLogs := map[string]*root.TransparencyLog{ctID: ctLog}
	rekor := s.services.RekorLogs()
	for id, l := range rekor { // it has the text of the ID where the file wants the bytes
		rawID, err := hex.DecodeString(id)
		must(t, err)
		l.ID = rawID
	}
	tilesID, tiles := logOf(s.tilesKey, tilesHost)
	rekor[tilesID] = tiles
	r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, []root.CertificateAuthority{fulcio}, ctLogs, s.services.TimestampingAuthorities(), rekor)
	must(t, err)
	b, err := r.MarshalJSON()
	must(t, err)
	return b
}

// Signer is somebody who signs without a key of their own.
type Signer struct {
	// Subject is a mail address, Issuer the URL of who vouches for it.
	Subject, Issuer string
	// Late is how long after its beginning the certificate is used; more than ten minutes is too late.
	Late time.Duration
	// NoSCT leaves the CT log out.
	NoSCT bool
	// Curve of the key; default P-256.
	Curve elliptic.Curve
	// Change alters what is certified.
	Change func(template *x509.Certificate)
}

// Keyless signs host/repo@digest as cosign 3 does without a key: a bundle among the referrers.
func (s *Sigstore) Keyless(t testing.TB, who Signer, ref string) {
	t.Helper()
	PushBundle(t, ref, s.Bundle(t, who, Statement(digestOf(ref), PredicateSign)))
}

// KeylessLegacy signs host/repo@digest as cosign 2 does without a key: at the tag sha256-….sig.
func (s *Sigstore) KeylessLegacy(t testing.TB, who Signer, ref string) {
	t.Helper()
	PushLegacy(t, ref, s.LegacyLayer(t, who, Payload(digestOf(ref))))
}

func digestOf(ref string) string {
	_, digest, _ := strings.Cut(ref, "@")
	return digest
}

// Bundle signs a statement. The edits are made to the finished bundle.
func (s *Sigstore) Bundle(t testing.TB, who Signer, statement []byte, edits ...func(*pbbundle.Bundle)) []byte {
	t.Helper()
	leaf, key, at := s.leaf(t, who)
	sig := sign(t, key, dsse.PAE(payloadTypeJSON, statement))
	env := &dsse.Envelope{
		PayloadType: payloadTypeJSON, Payload: base64.StdEncoding.EncodeToString(statement),
		Signatures: []dsse.Signature{{Sig: base64.StdEncoding.EncodeToString(sig)}},
	}
	entry, err := s.services.GenerateTlogEntry(leaf, env, sig, at.Unix(), true)
	must(t, err)
	e := entry.TransparencyLogEntry()
	var kind struct{ Kind, APIVersion string }
	must(t, json.Unmarshal(e.CanonicalizedBody, &kind))
	e.KindVersion = &pbrekor.KindVersion{Kind: kind.Kind, Version: kind.APIVersion}
	e.InclusionPromise = &pbrekor.InclusionPromise{SignedEntryTimestamp: s.promise(t, e.CanonicalizedBody, e.IntegratedTime, e.LogIndex)}
	b := &pbbundle.Bundle{
		MediaType: MediaBundle,
		VerificationMaterial: &pbbundle.VerificationMaterial{
			Content:     &pbbundle.VerificationMaterial_Certificate{Certificate: &pbcommon.X509Certificate{RawBytes: leaf.Raw}},
			TlogEntries: []*pbrekor.TransparencyLogEntry{e},
		},
		Content: &pbbundle.Bundle_DsseEnvelope{DsseEnvelope: &pbdsse.Envelope{
			Payload: statement, PayloadType: payloadTypeJSON, Signatures: []*pbdsse.Signature{{Sig: sig}},
		}},
	}
	for _, edit := range edits {
		edit(b)
	}
	out, err := protojson.Marshal(b)
	must(t, err)
	return out
}

// LegacyLayer signs a payload in the format of cosign 2.
func (s *Sigstore) LegacyLayer(t testing.TB, who Signer, payload []byte) LegacyLayer {
	t.Helper()
	leaf, key, at := s.leaf(t, who)
	sig := sign(t, key, payload)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
	sum := sha256.Sum256(payload)
	body := mustJSON(map[string]any{
		"apiVersion": "0.0.1", "kind": "hashedrekord",
		"spec": map[string]any{
			"data":      map[string]any{"hash": map[string]string{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
			"signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": cert}},
		},
	})
	id, err := s.services.RekorLogID()
	must(t, err)
	rekor := mustJSON(map[string]any{
		"SignedEntryTimestamp": s.promise(t, body, at.Unix(), 1),
		"Payload":              map[string]any{"body": body, "integratedTime": at.Unix(), "logIndex": 1, "logID": id},
	})
	return LegacyLayer{Payload: payload, Annotations: map[string]string{
		"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig),
		"dev.sigstore.cosign/certificate":    string(cert),
		"dev.sigstore.cosign/bundle":         string(rekor),
	}}
}

// promise is Rekor's signature over an entry.
func (s *Sigstore) promise(t testing.TB, body []byte, at, index int64) []byte {
	t.Helper()
	id, err := s.services.RekorLogID()
	must(t, err)
	set, err := s.services.RekorSignPayload(tlog.RekorPayload{
		Body: base64.StdEncoding.EncodeToString(body), IntegratedTime: at, LogIndex: index, LogID: id,
	})
	must(t, err)
	return set
}

// leaf is a certificate that began earlier, and the time at which it is used.
func (s *Sigstore) leaf(t testing.TB, who Signer) (*x509.Certificate, *ecdsa.PrivateKey, time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(cmp.Or(who.Curve, elliptic.P256()), rand.Reader)
	must(t, err)
	at := time.Now().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(at.UnixNano()), EmailAddresses: []string{who.Subject},
		// A minute early: a signature made a second before may come with this certificate, as another's does in some tests.
		NotBefore: at.Add(-who.Late - time.Minute), NotAfter: at.Add(leafLife - who.Late),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: oidIssuer, Value: []byte(who.Issuer)}},
	}
	if who.Change != nil {
		who.Change(template)
	}
	issue := func() *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, s.intermediate, key.Public(), s.fulcioKey)
		must(t, err)
		c, err := x509.ParseCertificate(der)
		must(t, err)
		return c
	}
	leaf := issue()
	if who.NoSCT {
		return leaf, key, at
	}
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oidSCT, Value: s.sct(t, leaf.RawTBSCertificate, at)})
	return issue(), key, at
}
