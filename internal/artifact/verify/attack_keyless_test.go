package verify

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	pbcommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	pbdsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	pbrekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

var (
	anybody = deploy.OIDCIdentity{Issuer: ".*", Subject: ".*"}
	release = signing.Signer{Subject: subject, Issuer: issuer}
)

// verdict says whether an artifact is accepted, and if not, why.
type verdict struct{ reason, text string }

var good = verdict{}

func (v verdict) check(t *testing.T, p *Policy, a artifact) {
	t.Helper()
	if v == good {
		accepted(t, p, a)
		return
	}
	refused(t, p, a, v.reason, v.text)
}

func no(text string) verdict { return verdict{deploy.SourceUnverified, text} }

// older makes a bundle one of an older version, which has the certificate in a chain.
func older(version string) func(*pbbundle.Bundle) {
	return func(b *pbbundle.Bundle) {
		b.MediaType = mediaBundle + "+json;version=" + version
		b.VerificationMaterial.Content = &pbbundle.VerificationMaterial_X509CertificateChain{
			X509CertificateChain: &pbcommon.X509CertificateChain{Certificates: []*pbcommon.X509Certificate{b.VerificationMaterial.GetCertificate()}},
		}
	}
}

func noPromise(b *pbbundle.Bundle) { b.VerificationMaterial.TlogEntries[0].InclusionPromise = nil }
func noProof(b *pbbundle.Bundle)   { b.VerificationMaterial.TlogEntries[0].InclusionProof = nil }

func TestKeylessBundles(t *testing.T) {
	reg := testenv.NewRegistry(t)
	s := signing.NewSigstore(t)
	p := policy(t, Material{Identities: []deploy.OIDCIdentity{anybody}, TrustedRoot: s.TrustedRootJSON(t)})
	other := &pbbundle.Bundle{} // the same signer's bundle of something else
	must(t, protojson.Unmarshal(s.Bundle(t, release, signing.Statement("sha256:"+fmt.Sprintf("%064d", 7), signing.PredicateSign)), other))
	stamp := func(b *pbbundle.Bundle) {
		b.VerificationMaterial.TimestampVerificationData = s.Timestamp(t, b.GetDsseEnvelope().Signatures[0].Sig)
	}
	tiles := func(b *pbbundle.Bundle) {
		b.VerificationMaterial.TlogEntries = []*pbrekor.TransparencyLogEntry{s.LogTiles(t, b)}
	}
	alien := func(b *pbbundle.Bundle) *pbrekor.TransparencyLogEntry {
		return other.VerificationMaterial.TlogEntries[0]
	}
	type edits []func(*pbbundle.Bundle)
	for what, c := range map[string]struct {
		edits edits
		want  verdict
	}{
		"version 0.3":                        {nil, good},
		"version 0.3, written as before":     {edits{func(b *pbbundle.Bundle) { b.MediaType = mediaBundle + "+json;version=0.3" }}, good},
		"version 0.2":                        {edits{older("0.2")}, good},
		"version 0.1":                        {edits{older("0.1")}, good},
		"version 0.1 with a promise alone":   {edits{older("0.1"), noProof}, good},
		"version 0.1 without a promise":      {edits{older("0.1"), noPromise}, no("inclusion promises missing")},
		"version 0.2 without a proof":        {edits{older("0.2"), noProof}, no("inclusion proof missing")},
		"version 0.3 without a proof":        {edits{noProof}, no("inclusion proof missing")},
		"version 0.3 with a chain":           {edits{older("0.3")}, no("cannot be X.509 certificate chain")},
		"version 0.4":                        {edits{func(b *pbbundle.Bundle) { b.MediaType = "application/vnd.dev.sigstore.bundle.v0.4+json" }}, no("not yet supported")},
		"a proof alone: nobody says when":    {edits{noPromise}, no("threshold not met")},
		"a proof and a timestamp":            {edits{noPromise, stamp}, good},
		"a promise, a proof and a timestamp": {edits{stamp}, good},
		"a timestamp and no log":             {edits{stamp, func(b *pbbundle.Bundle) { b.VerificationMaterial.TlogEntries = nil }}, no("not enough verified log entries")},
		"a timestamp of another signature": {edits{noPromise, func(b *pbbundle.Bundle) {
			b.VerificationMaterial.TimestampVerificationData = s.Timestamp(t, []byte("other"))
		}}, no("threshold not met")},
		"Rekor 2 and a timestamp":  {edits{tiles, stamp}, good},
		"Rekor 2 and no timestamp": {edits{tiles}, no("threshold not met")},
		"Rekor 2 with a time that nobody has signed": {edits{tiles, func(b *pbbundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].IntegratedTime = time.Now().Unix()
		}}, no("threshold not met")},
		"Rekor 2 with a promise": {edits{tiles, stamp, func(b *pbbundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].InclusionPromise = alien(b).InclusionPromise
		}}, no("not enough verified log entries")},
		"Rekor 2 with another signature's entry": {edits{func(b *pbbundle.Bundle) {
			b.VerificationMaterial.TlogEntries = []*pbrekor.TransparencyLogEntry{s.LogTiles(t, other)}
		}, stamp}, no("verifying log entry")},
		"another signature's entry": {edits{func(b *pbbundle.Bundle) { b.VerificationMaterial.TlogEntries[0] = alien(b) }}, no("does not match")},
		"another signature's entry with this one's body": {edits{func(b *pbbundle.Bundle) {
			body := b.VerificationMaterial.TlogEntries[0].CanonicalizedBody
			b.VerificationMaterial.TlogEntries[0] = protoClone(t, alien(b))
			b.VerificationMaterial.TlogEntries[0].CanonicalizedBody = body
		}}, no("")},
		"another signature's promise": {edits{func(b *pbbundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].InclusionPromise = alien(b).InclusionPromise
		}}, no("not enough verified log entries")},
		"another signature's promise and a timestamp": {edits{stamp, func(b *pbbundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].InclusionPromise = alien(b).InclusionPromise
		}}, no("not enough verified log entries")},
		"another signature's proof": {edits{func(b *pbbundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].InclusionProof = alien(b).InclusionProof
		}}, no("calculated root")},
		"a time that the promise is not for": {edits{func(b *pbbundle.Bundle) { b.VerificationMaterial.TlogEntries[0].IntegratedTime++ }}, no("not enough verified log entries")},
		"the same entry twice": {edits{func(b *pbbundle.Bundle) {
			b.VerificationMaterial.TlogEntries = append(b.VerificationMaterial.TlogEntries, b.VerificationMaterial.TlogEntries[0])
		}}, no("duplicate tlog entries")},
		"another certificate": {edits{func(b *pbbundle.Bundle) {
			b.VerificationMaterial.Content = other.VerificationMaterial.Content
		}}, no("certificate does not match")},
		"a key's name instead of a certificate": {edits{func(b *pbbundle.Bundle) {
			b.VerificationMaterial.Content = &pbbundle.VerificationMaterial_PublicKey{PublicKey: &pbcommon.PublicKeyIdentifier{Hint: "x"}}
		}}, no("it was made with a key")},
		"two signatures": {edits{func(b *pbbundle.Bundle) {
			env := b.GetDsseEnvelope()
			env.Signatures = append(env.Signatures, &pbdsse.Signature{Sig: env.Signatures[0].Sig})
		}}, no("exactly one signature")},
		"another kind of payload": {edits{func(b *pbbundle.Bundle) { b.GetDsseEnvelope().PayloadType = "application/json" }}, no("could not verify envelope")},
		"a signature of bytes instead of a statement": {edits{func(b *pbbundle.Bundle) {
			b.Content = &pbbundle.Bundle_MessageSignature{MessageSignature: &pbcommon.MessageSignature{
				MessageDigest: &pbcommon.HashOutput{Algorithm: pbcommon.HashAlgorithm_SHA2_256, Digest: make([]byte, 32)}, Signature: []byte("x"),
			}}
		}}, no("it signs no statement")},
	} {
		t.Run(what, func(t *testing.T) {
			a := push(t, reg)
			b := s.Bundle(t, release, signing.Statement(a.digest, signing.PredicateSign), c.edits...)
			var says struct{ MediaType types.MediaType }
			must(t, json.Unmarshal(b, &says))
			signing.PushReferrer(t, a.ref(), string(says.MediaType), "application/vnd.oci.empty.v1+json", says.MediaType, b, nil)
			c.want.check(t, p, a)
		})
	}
}

func protoClone(t *testing.T, e *pbrekor.TransparencyLogEntry) *pbrekor.TransparencyLogEntry {
	t.Helper()
	raw, err := protojson.Marshal(e)
	must(t, err)
	out := &pbrekor.TransparencyLogEntry{}
	must(t, protojson.Unmarshal(raw, out))
	return out
}

func TestKeylessCertificates(t *testing.T) {
	reg := testenv.NewRegistry(t)
	s := signing.NewSigstore(t)
	with := func(id deploy.OIDCIdentity) *Policy {
		return policy(t, Material{Identities: []deploy.OIDCIdentity{id}, TrustedRoot: s.TrustedRootJSON(t)})
	}
	exactly := func(subject string) deploy.OIDCIdentity {
		return deploy.OIDCIdentity{Issuer: "^" + issuer + "$", Subject: "^" + subject + "$"}
	}
	newer := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}
	utf8Of := func(text string) []byte {
		der, err := asn1.MarshalWithParams(text, "utf8")
		must(t, err)
		return der
	}
	const workflow = "https://git.example.com/team/app/.github/workflows/release.yaml@refs/tags/v1"
	uri, err := url.Parse(workflow)
	must(t, err)
	for what, c := range map[string]struct {
		change func(*x509.Certificate)
		id     deploy.OIDCIdentity
		want   verdict
	}{
		"for a mail address": {nil, exactly(subject), good},
		"for a URL":          {func(c *x509.Certificate) { c.EmailAddresses, c.URIs = nil, []*url.URL{uri} }, exactly(workflow), good},
		"for another name":   {func(c *x509.Certificate) { otherName(t, c, "somebody") }, exactly("somebody"), good},
		"for a mail address and a URL: the URL counts": {
			func(c *x509.Certificate) { c.URIs = []*url.URL{uri} }, exactly(subject), no("signed by " + workflow),
		},
		"for nobody": {func(c *x509.Certificate) { c.EmailAddresses = nil }, anybody, no("no Subject Alternative Name")},
		"for a host": {func(c *x509.Certificate) { c.EmailAddresses, c.DNSNames = nil, []string{"example.com"} }, anybody, no("no Subject Alternative Name")},
		"with the issuer in the newer extension": {
			func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{{Id: newer, Value: utf8Of(issuer)}} }, exactly(subject), good,
		},
		"with two issuers: the newer extension counts": {
			func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: newer, Value: utf8Of("https://elsewhere.invalid")})
			}, exactly(subject), no("https://elsewhere.invalid"),
		},
		"whose issuer nobody names": {func(c *x509.Certificate) { c.ExtraExtensions = nil }, anybody, no("names no issuer")},
		"for a server":              {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, anybody, no("leaf certificate verification failed")},
		"with an issuer around the one that is meant": {
			func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte(issuer + ".evil.invalid") }, exactly(subject), no("none of the identities"),
		},
		"with a line break in its name": {
			func(c *x509.Certificate) { otherName(t, c, "a\n\u0085\u2028\u202eb\u001b[31m") }, exactly("b"), no("signed by a b [31m"),
		},
	} {
		for form, sign := range map[string]func(signing.Signer, artifact){
			"a bundle": func(who signing.Signer, a artifact) { s.Keyless(t, who, a.ref()) },
			".sig":     func(who signing.Signer, a artifact) { s.KeylessLegacy(t, who, a.ref()) },
		} {
			t.Run(form+" of a certificate "+what, func(t *testing.T) {
				a := push(t, reg)
				sign(signing.Signer{Subject: subject, Issuer: issuer, Change: c.change}, a)
				c.want.check(t, with(c.id), a)
			})
		}
	}
	for form, sign := range map[string]func(testing.TB, signing.Signer, string){"a bundle": s.Keyless, ".sig": s.KeylessLegacy} {
		t.Run(form+" of a certificate of P-384, with the hash of P-256 as Cosign 2 and Rekor have it", func(t *testing.T) {
			a := push(t, reg)
			sign(t, signing.Signer{Subject: subject, Issuer: issuer, Curve: elliptic.P384()}, a.ref())
			accepted(t, with(anybody), a)
		})
	}
}

// otherName gives a certificate a name of Fulcio's own kind: https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md.
func otherName(t *testing.T, c *x509.Certificate, text string) {
	t.Helper()
	value, err := asn1.MarshalWithParams(text, "utf8")
	must(t, err)
	id, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7})
	must(t, err)
	name, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: value})
	must(t, err)
	names, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(id, name...)}})
	must(t, err)
	c.EmailAddresses = nil
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: names})
}

func TestTrustedRootWindows(t *testing.T) {
	reg := testenv.NewRegistry(t)
	s := signing.NewSigstore(t)
	past := map[string]any{"start": time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339), "end": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)}
	// ended is the trusted root with one kind of services retired an hour ago.
	ended := func(kind string) []byte {
		var r map[string]any
		must(t, json.Unmarshal(s.TrustedRootJSON(t), &r))
		for _, x := range r[kind].([]any) {
			e := x.(map[string]any)
			if key, ok := e["publicKey"].(map[string]any); ok {
				e = key
			}
			e["validFor"] = past
		}
		return mustJSON(t, r)
	}
	stamp := func(b *pbbundle.Bundle) {
		b.VerificationMaterial.TimestampVerificationData = s.Timestamp(t, b.GetDsseEnvelope().Signatures[0].Sig)
	}
	tiles := func(b *pbbundle.Bundle) {
		b.VerificationMaterial.TlogEntries = []*pbrekor.TransparencyLogEntry{s.LogTiles(t, b)}
	}
	for what, c := range map[string]struct {
		kind  string
		edits []func(*pbbundle.Bundle)
		text  string
	}{
		"certificate authority":            {"certificateAuthorities", nil, "leaf certificate verification failed"},
		"certificate log":                  {"ctlogs", nil, "SCT"},
		"log":                              {"tlogs", nil, "not enough verified log entries"},
		"log, proven instead of promised":  {"tlogs", []func(*pbbundle.Bundle){noPromise, stamp}, "retired"},
		"log of version 2":                 {"tlogs", []func(*pbbundle.Bundle){tiles, stamp}, "retired"},
		"timestamp authority":              {"timestampAuthorities", []func(*pbbundle.Bundle){noPromise, stamp}, "threshold not met"},
		"timestamp authority of version 2": {"timestampAuthorities", []func(*pbbundle.Bundle){tiles, stamp}, "threshold not met"},
	} {
		t.Run("refuses what was signed after the end of the "+what, func(t *testing.T) {
			a := push(t, reg)
			signing.PushBundle(t, a.ref(), s.Bundle(t, release, signing.Statement(a.digest, signing.PredicateSign), c.edits...))
			refused(t, policy(t, Material{Identities: []deploy.OIDCIdentity{anybody}, TrustedRoot: ended(c.kind)}), a, deploy.SourceUnverified, c.text)
			accepted(t, policy(t, Material{Identities: []deploy.OIDCIdentity{anybody}, TrustedRoot: s.TrustedRootJSON(t)}), a)
		})
	}
}
