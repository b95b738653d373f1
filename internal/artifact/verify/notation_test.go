package verify

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

// policyDocument is a trustpolicy.json of one statement.
func policyDocument(t *testing.T, level string, override map[string]string, identity string, scopes ...string) []byte {
	t.Helper()
	verification := map[string]any{"level": level}
	if override != nil {
		verification["override"] = override
	}
	b, err := json.Marshal(map[string]any{"version": "1.0", "trustPolicies": []any{map[string]any{
		"name": "apps", "registryScopes": scopes, "signatureVerification": verification,
		"trustStores": []string{"ca:release", "signingAuthority:release"}, "trustedIdentities": []string{identity},
	}}})
	must(t, err)
	return b
}

func notationOf(doc []byte, keys ...*signing.NotationKey) Material {
	m := Material{Provider: deploy.VerifyNotation, TrustPolicy: doc, Certificates: map[string][]byte{}}
	for _, k := range keys {
		m.Certificates[k.Subject+".crt"] = k.Certificate
	}
	return m
}

func validKey(t testing.TB, name string) *signing.NotationKey {
	t.Helper()
	return signing.NewNotationKey(t, name, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
}

func TestNotation(t *testing.T) {
	mine, other := validKey(t, "release signer"), validKey(t, "someone else")
	both(t, func(t *testing.T, reg *testenv.Registry) {
		for _, format := range []string{signing.FormatJWS, signing.FormatCOSE} {
			t.Run("accepts "+format, func(t *testing.T) {
				a := push(t, reg)
				signing.NotationSign(t, mine, format, a.ref())
				p := policy(t, notationOf(policyDocument(t, "strict", nil, "x509.subject: C=DE, ST=BE, O=Example, CN=release signer", a.repository()), mine, other))
				if by, want := accepted(t, p, a), "notation "+mine.Subject; by != want {
					t.Errorf("%q vouches, want %q", by, want)
				}
			})
		}
		t.Run("refuses", func(t *testing.T) {
			a := push(t, reg)
			refused(t, policy(t, notationOf(policyDocument(t, "strict", nil, "*", "*"), mine)), a, deploy.SourceUnsigned, "is not signed")
			signing.NotationSign(t, mine, signing.FormatJWS, a.ref())
			for what, c := range map[string]struct {
				m            Material
				reason, text string
			}{
				"a certificate that is not trusted": {notationOf(policyDocument(t, "strict", nil, "*", "*"), other), deploy.SourceUnverified, "any trusted certificate"},
				"another identity":                  {notationOf(policyDocument(t, "strict", nil, "x509.subject: C=DE, ST=BE, O=Other", "*"), mine), deploy.SourceUnverified, "does not match"},
				"a repository without a statement":  {notationOf(policyDocument(t, "strict", nil, "*", "example.com/else"), mine), deploy.SourceNoPolicy, "says nothing about " + a.repository()},
				"the level audit":                   {notationOf(policyDocument(t, "audit", nil, "*", "*"), mine), deploy.SourceNoPolicy, "accepts artifacts of unknown signers"},
				"the level skip":                    {notationOf(policyDocument(t, "skip", nil, "*", "*"), mine), deploy.SourceNoPolicy, "accepts artifacts of unknown signers"},
				"a level that only logs authenticity": {
					notationOf(policyDocument(t, "strict", map[string]string{"authenticity": "log"}, "*", "*"), mine), deploy.SourceNoPolicy, "accepts artifacts of unknown signers",
				},
				"a level that wants revocation checked": {
					notationOf(policyDocument(t, "permissive", map[string]string{"revocation": "enforce"}, "*", "*"), mine), deploy.SourceNoPolicy, "revocation",
				},
			} {
				t.Run(what, func(t *testing.T) { refused(t, policy(t, c.m), a, c.reason, c.text) })
			}
		})
		t.Run("prefers the statement that names the repository", func(t *testing.T) {
			a := push(t, reg)
			signing.NotationSign(t, mine, signing.FormatCOSE, a.ref())
			doc, err := json.Marshal(map[string]any{"version": "1.0", "trustPolicies": []any{
				map[string]any{
					"name": "all", "registryScopes": []string{"*"}, "signatureVerification": map[string]string{"level": "skip"},
				},
				map[string]any{
					"name": "this", "registryScopes": []string{a.repository()}, "signatureVerification": map[string]string{"level": "strict"},
					"trustStores": []string{"ca:x"}, "trustedIdentities": []string{"*"},
				},
			}})
			must(t, err)
			p := policy(t, notationOf(doc, mine))
			accepted(t, p, a)
			refused(t, p, pushTo(reg, "team/elsewhere", "x"), deploy.SourceNoPolicy, "accepts artifacts of unknown signers")
		})
	})
}

func TestNotationTimes(t *testing.T) {
	reg := testenv.NewRegistry(t)
	strict := policyDocument(t, "strict", nil, "*", "*")
	now := time.Now()
	t.Run("refuses a signature that has expired", func(t *testing.T) {
		k, a := signing.NewNotationKey(t, "k", now.Add(-48*time.Hour), now.Add(time.Hour)), push(t, reg)
		signing.NotationSignAt(t, k, a.ref(), now.Add(-24*time.Hour), now.Add(-time.Hour))
		refused(t, policy(t, notationOf(strict, k)), a, deploy.SourceUnverified, "has expired on")
	})
	t.Run("refuses a certificate that has expired", func(t *testing.T) {
		k, a := signing.NewNotationKey(t, "k", now.Add(-48*time.Hour), now.Add(-time.Hour)), push(t, reg)
		signing.NotationSignAt(t, k, a.ref(), now.Add(-24*time.Hour), time.Time{})
		refused(t, policy(t, notationOf(strict, k)), a, deploy.SourceUnverified, "has expired on")
	})
	t.Run("says that a certificate is not valid yet", func(t *testing.T) {
		k, a := signing.NewNotationKey(t, "k", now.Add(time.Hour), now.Add(48*time.Hour)), push(t, reg)
		signing.NotationSignAt(t, k, a.ref(), now.Add(2*time.Hour), time.Time{})
		refused(t, policy(t, notationOf(strict, k)), a, deploy.SourceNotYetValid, "is one of the two clocks wrong?")
	})
	t.Run("accepts a good one beside all of them", func(t *testing.T) {
		late, good, a := signing.NewNotationKey(t, "late", now.Add(-48*time.Hour), now.Add(-time.Hour)), validKey(t, "good"), push(t, reg)
		signing.NotationSignAt(t, late, a.ref(), now.Add(-24*time.Hour), time.Time{})
		signing.PushNotation(t, a.ref(), "application/jose+json", []byte("garbage"))
		signing.NotationSign(t, good, signing.FormatJWS, a.ref())
		accepted(t, policy(t, notationOf(strict, late, good)), a)
	})
	t.Run("refuses a signature for another artifact", func(t *testing.T) {
		k, a := validKey(t, "k"), push(t, reg)
		signing.NotationSign(t, k, signing.FormatJWS, a.ref())
		b := pushTo(reg, a.repo, "another")
		_, ev, err := policy(t, notationOf(strict, k)).Verify(t.Context(), a.content(t), a.repository(), a.digest)
		must(t, err)
		for _, raw := range ev.Blobs {
			signing.PushNotation(t, b.ref(), "application/jose+json", raw)
		}
		refused(t, policy(t, notationOf(strict, k)), b, deploy.SourceUnverified, "content descriptor mismatch")
	})
}
