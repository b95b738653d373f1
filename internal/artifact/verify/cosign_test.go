package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"testing"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

const (
	subject = "release@example.com"
	issuer  = "https://issuer.example.com"
)

// both runs a test with the referrers API, and with the referrers tag instead.
func both(t *testing.T, test func(t *testing.T, reg *testenv.Registry)) {
	for what, refuse := range map[string]bool{"with the referrers API": false, "with the referrers tag": true} {
		t.Run(what, func(t *testing.T) {
			reg := testenv.NewRegistry(t)
			reg.RefuseReferrers(refuse)
			test(t, reg)
		})
	}
}

func keysOf(pairs ...signing.Pair) map[string][]byte {
	keys := map[string][]byte{}
	for i, p := range pairs {
		keys[string(rune('a'+i))+".pub"] = p.Public
	}
	return keys
}

func TestCosignKeys(t *testing.T) {
	mine, other := signing.KeyPair(t), signing.KeyPair(t)
	p := policy(t, Material{Keys: keysOf(other, mine)})
	theirs := policy(t, Material{Keys: keysOf(other)})
	both(t, func(t *testing.T, reg *testenv.Registry) {
		t.Run("accepts a bundle of one of several keys", func(t *testing.T) {
			a := push(t, reg)
			signing.Sign(t, mine, a.ref())
			if by := accepted(t, p, a); by != "cosign key b.pub" {
				t.Errorf("%q vouches", by)
			}
			refused(t, theirs, a, deploy.SourceUnverified, "not signed with a.pub")
		})
		t.Run("accepts a signature at the .sig tag", func(t *testing.T) {
			a := push(t, reg)
			signing.SignLegacy(t, mine, a.ref())
			if by := accepted(t, p, a); by != "cosign key b.pub" {
				t.Errorf("%q vouches", by)
			}
			refused(t, theirs, a, deploy.SourceUnverified, "not signed with a.pub")
		})
		t.Run("says that there is no signature", func(t *testing.T) {
			refused(t, p, push(t, reg), deploy.SourceUnsigned, "is not signed")
		})
		t.Run("takes an SBOM for no signature", func(t *testing.T) {
			a := push(t, reg)
			signing.Attest(t, mine, a.ref(), "spdxjson")
			refused(t, p, a, deploy.SourceUnsigned, "attestations are no signatures: 1")
			signing.Sign(t, mine, a.ref())
			accepted(t, p, a)
		})
	})
}

func TestCosignKindsOfKeys(t *testing.T) {
	reg := testenv.NewRegistry(t)
	curve := func(c elliptic.Curve) crypto.PrivateKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		must(t, err)
		return k
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	for kind, key := range map[string]crypto.PrivateKey{"P-384": curve(elliptic.P384()), "P-521": curve(elliptic.P521()), "RSA": rsaKey, "Ed25519": edKey} {
		pair := signing.Import(t, key)
		p := policy(t, Material{Keys: map[string][]byte{"cosign.pub": pair.Public}})
		t.Run(kind+" in a bundle", func(t *testing.T) {
			a := push(t, reg)
			signing.Sign(t, pair, a.ref())
			accepted(t, p, a)
		})
		t.Run(kind+" at the .sig tag", func(t *testing.T) {
			a := push(t, reg)
			signing.SignLegacy(t, pair, a.ref())
			accepted(t, p, a)
		})
	}
	// What the command cannot make from files: RSA-PSS of a KMS, pure Ed25519 of an older version.
	t.Run("RSA-PSS at the .sig tag", func(t *testing.T) {
		a := push(t, reg)
		payload := signing.Payload(a.digest)
		sum := crypto.SHA256.New()
		sum.Write(payload)
		sig, err := rsa.SignPSS(rand.Reader, rsaKey, crypto.SHA256, sum.Sum(nil), nil)
		must(t, err)
		signing.PushLegacy(t, a.ref(), layerOf(payload, sig))
		accepted(t, policy(t, Material{Keys: keysOf(signing.Import(t, rsaKey))}), a)
	})
	t.Run("pure Ed25519 at the .sig tag", func(t *testing.T) {
		a := push(t, reg)
		payload := signing.Payload(a.digest)
		signing.PushLegacy(t, a.ref(), layerOf(payload, ed25519.Sign(edKey, payload)))
		accepted(t, policy(t, Material{Keys: keysOf(signing.Import(t, edKey))}), a)
	})
}

func layerOf(payload, sig []byte) signing.LegacyLayer {
	return signing.LegacyLayer{Payload: payload, Annotations: map[string]string{annotationSignature: base64.StdEncoding.EncodeToString(sig)}}
}

func TestCosignKeyless(t *testing.T) {
	s, stranger := signing.NewSigstore(t), signing.NewSigstore(t)
	who := signing.Signer{Subject: subject, Issuer: issuer}
	with := func(trusted *signing.Sigstore, ids ...deploy.OIDCIdentity) *Policy {
		return policy(t, Material{Identities: ids, TrustedRoot: trusted.TrustedRootJSON(t)})
	}
	exact := deploy.OIDCIdentity{Issuer: `^https://issuer\.example\.com$`, Subject: `^release@example\.com$`}
	nobody := deploy.OIDCIdentity{Issuer: `^https://elsewhere\.invalid$`, Subject: `.*`}
	p := with(s, nobody, exact)
	forms := map[string]func(t *testing.T, s *signing.Sigstore, who signing.Signer, a artifact){
		"a bundle": func(t *testing.T, s *signing.Sigstore, who signing.Signer, a artifact) { s.Keyless(t, who, a.ref()) },
		"the .sig tag": func(t *testing.T, s *signing.Sigstore, who signing.Signer, a artifact) {
			s.KeylessLegacy(t, who, a.ref())
		},
	}
	both(t, func(t *testing.T, reg *testenv.Registry) {
		for form, sign := range forms {
			t.Run(form, func(t *testing.T) {
				a := push(t, reg)
				sign(t, s, who, a)
				if by, want := accepted(t, p, a), "cosign keyless "+subject+" ("+issuer+")"; by != want {
					t.Errorf("%q vouches, want %q", by, want)
				}
				accepted(t, with(s, deploy.OIDCIdentity{Issuer: "issuer", Subject: "example"}), a) // anywhere in the value
				refused(t, with(s, nobody), a, deploy.SourceUnverified, "signed by "+subject+" ("+issuer+"), who is none of the identities")
				refused(t, with(s, deploy.OIDCIdentity{Issuer: exact.Issuer, Subject: `^other@`}), a, deploy.SourceUnverified, "none of the identities")
				refused(t, with(stranger, exact), a, deploy.SourceUnverified, "")
				refused(t, policy(t, Material{Keys: keysOf(signing.KeyPair(t))}), a, deploy.SourceUnverified, "not signed with a.pub")
			})
			t.Run(form+" of a certificate that had expired", func(t *testing.T) {
				a := push(t, reg)
				sign(t, s, signing.Signer{Subject: subject, Issuer: issuer, Late: 20 * time.Minute}, a)
				refused(t, p, a, deploy.SourceUnverified, "its certificate had expired when it was signed")
			})
			t.Run(form+" of a certificate that had not begun", func(t *testing.T) {
				a := push(t, reg)
				sign(t, s, signing.Signer{Subject: subject, Issuer: issuer, Late: -20 * time.Minute}, a)
				refused(t, p, a, deploy.SourceUnverified, "its certificate was not valid yet when it was signed")
			})
			t.Run(form+" of a certificate that no log has seen", func(t *testing.T) {
				a := push(t, reg)
				sign(t, s, signing.Signer{Subject: subject, Issuer: issuer, NoSCT: true}, a)
				refused(t, p, a, deploy.SourceUnverified, "signed certificate timestamp")
			})
		}
		t.Run("a key's signature has no identity", func(t *testing.T) {
			a := push(t, reg)
			pair := signing.KeyPair(t)
			signing.Sign(t, pair, a.ref())
			refused(t, p, a, deploy.SourceUnverified, "it was made with a key, not with a certificate")
		})
		t.Run("keys and identities together", func(t *testing.T) {
			pair := signing.KeyPair(t)
			p := policy(t, Material{Keys: keysOf(pair), Identities: []deploy.OIDCIdentity{exact}, TrustedRoot: s.TrustedRootJSON(t)})
			a, b := push(t, reg), pushTo(reg, "team/second", t.Name())
			s.Keyless(t, who, a.ref())
			signing.Sign(t, pair, b.ref())
			accepted(t, p, a)
			accepted(t, p, b)
		})
	})
}
