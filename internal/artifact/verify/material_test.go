package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv/signing"
)

func pemOf(t *testing.T, kind string, pub any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	pair := signing.KeyPair(t)
	s := signing.NewSigstore(t)
	trusted := s.TrustedRootJSON(t)
	key := validKey(t, "release signer")
	strict := policyDocument(t, "strict", nil, "*", "*")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	old, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	id := []deploy.OIDCIdentity{{Issuer: ".", Subject: "."}}
	without := func(field string) []byte {
		var r map[string]any
		must(t, json.Unmarshal(trusted, &r))
		delete(r, field)
		out, err := json.Marshal(r)
		must(t, err)
		return out
	}
	secret := "c2VjcmV0LXRoaW5n"
	keys := func(raw []byte) Material { return Material{Keys: map[string][]byte{"cosign.pub": raw}} }
	certs := func(raw []byte) Material {
		return Material{Provider: deploy.VerifyNotation, TrustPolicy: strict, Certificates: map[string][]byte{"ca.crt": raw}}
	}
	for what, c := range map[string]struct {
		m    Material
		text string
	}{
		"an unknown provider":        {Material{Provider: "gpg"}, `"gpg" is neither cosign nor notation`},
		"nothing":                    {Material{}, "nothing to verify with"},
		"a key that is no PEM":       {keys([]byte(secret)), "key cosign.pub: it is no PEM file"},
		"an empty key":               {keys(nil), "key cosign.pub: it is no PEM file"},
		"a private key":              {keys(pair.Plain), "key cosign.pub: it is a private key"},
		"a certificate as a key":     {keys(key.Certificate), "key cosign.pub: it is a certificate"},
		"two keys in a file":         {keys(append(bytes.Clone(pair.Public), pair.Public...)), "more than one PEM block"},
		"a short RSA key":            {keys(pemOf(t, "PUBLIC KEY", &small.PublicKey)), "2048"},
		"a curve that is too small":  {keys(pemOf(t, "PUBLIC KEY", &old.PublicKey)), "want ECDSA P-256/384/521"},
		"another kind of PEM":        {keys(pem.EncodeToMemory(&pem.Block{Type: "PGP PUBLIC KEY BLOCK", Bytes: []byte(secret)})), `"PGP PUBLIC KEY BLOCK"`},
		"a PEM with nothing in it":   {keys(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte(secret)})), "holds no public key"},
		"one bad key of two":         {Material{Keys: map[string][]byte{"a.pub": pair.Public, "b.pub": []byte("x")}}, "key b.pub"},
		"identities without a root":  {Material{Identities: id}, "needs a trusted root"},
		"a root that is no JSON":     {Material{Identities: id, TrustedRoot: []byte("x")}, "no trusted_root.json"},
		"a bad root beside a key":    {Material{Keys: keysOf(pair), TrustedRoot: []byte("x")}, "no trusted_root.json"},
		"a root without authorities": {Material{Identities: id, TrustedRoot: without("certificateAuthorities")}, "no certificate authorities"},
		"a root without logs":        {Material{Identities: id, TrustedRoot: without("tlogs")}, "no transparency logs"},
		"a root without CT logs":     {Material{Identities: id, TrustedRoot: without("ctlogs")}, "no certificate transparency logs"},
		"a bad expression":           {Material{Identities: []deploy.OIDCIdentity{{Issuer: "(", Subject: "."}}, TrustedRoot: trusted}, "matchOIDCIdentity[0]: its issuer is no regular expression"},
		"an empty subject":           {Material{Identities: append(id, deploy.OIDCIdentity{Issuer: "."}), TrustedRoot: trusted}, "matchOIDCIdentity[1]: its subject is empty"},
		"no trust policy":            {Material{Provider: deploy.VerifyNotation, TrustPolicy: []byte(" \n")}, "needs a trust policy"},
		"a policy that is no JSON":   {Material{Provider: deploy.VerifyNotation, TrustPolicy: []byte("x")}, "trustpolicy.json cannot be read"},
		"a policy without statement": {Material{Provider: deploy.VerifyNotation, TrustPolicy: []byte(`{"version":"1.0"}`)}, "zero trust policy statements"},
		"an unknown level":           {notationOf(policyDocument(t, "lenient", nil, "*", "*"), key), "lenient"},
		"no certificates":            {notationOf(strict), "no certificates to trust"},
		"a certificate that is none": {certs([]byte(secret)), "certificate ca.crt: it is neither PEM nor DER"},
		"a key as a certificate":     {certs(pair.Public), "certificate ca.crt: it holds a PEM block"},
		"a private key beside it":    {certs(append(bytes.Clone(key.Certificate), pair.Plain...)), "it holds a private key"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := New(c.m)
			var f *deploy.Failure
			if !errors.As(err, &f) || f.Reason != deploy.SourceNoPolicy || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v\nwant %s: …%s…", err, deploy.SourceNoPolicy, c.text)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error quotes the file: %v", err)
			}
		})
	}
}

func TestHashCoversWhatDecides(t *testing.T) {
	a, b := signing.KeyPair(t), signing.KeyPair(t)
	s, other := signing.NewSigstore(t), signing.NewSigstore(t)
	id := deploy.OIDCIdentity{Issuer: "i", Subject: "s"}
	k, l := validKey(t, "k"), validKey(t, "l")
	rootJSON := s.TrustedRootJSON(t)
	all := map[string]Material{
		"a key":              {Keys: keysOf(a)},
		"another key":        {Keys: keysOf(b)},
		"both":               {Keys: keysOf(a, b)},
		"an identity":        {Identities: []deploy.OIDCIdentity{id}, TrustedRoot: rootJSON},
		"another identity":   {Identities: []deploy.OIDCIdentity{{Issuer: "s", Subject: "i"}}, TrustedRoot: rootJSON},
		"another root":       {Identities: []deploy.OIDCIdentity{id}, TrustedRoot: other.TrustedRootJSON(t)},
		"notation":           notationOf(policyDocument(t, "strict", nil, "*", "*"), k),
		"another level":      notationOf(policyDocument(t, "permissive", nil, "*", "*"), k),
		"other certificates": notationOf(policyDocument(t, "strict", nil, "*", "*"), k, l),
	}
	seen := map[string]string{}
	for what, m := range all {
		h := policy(t, m).Hash()
		if before, ok := seen[h]; ok {
			t.Errorf("%s and %s have the same hash", what, before)
		}
		seen[h] = what
	}
	same := map[string][2]Material{
		"the provider's default":   {{Keys: keysOf(a)}, {Provider: deploy.VerifyCosign, Keys: keysOf(a)}},
		"empty and absent":         {{Keys: keysOf(a)}, {Keys: keysOf(a), Identities: []deploy.OIDCIdentity{}, Certificates: map[string][]byte{}}},
		"what the other one reads": {all["notation"], {Provider: deploy.VerifyNotation, TrustPolicy: all["notation"].TrustPolicy, Certificates: all["notation"].Certificates, Keys: keysOf(a)}},
	}
	for what, m := range same {
		if policy(t, m[0]).Hash() != policy(t, m[1]).Hash() {
			t.Errorf("%s changes the hash", what)
		}
	}
}
