package verify

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

// statementsOf is a trustpolicy.json with statements of these scopes, each with the identity that belongs to it.
func statementsOf(t *testing.T, stores []string, identityByScope map[string]string) []byte {
	t.Helper()
	var all []any
	for scope, identity := range identityByScope {
		all = append(all, map[string]any{
			"name": "for " + scope, "registryScopes": []string{scope}, "signatureVerification": map[string]string{"level": "strict"},
			"trustStores": stores, "trustedIdentities": []string{identity},
		})
	}
	return mustJSON(t, map[string]any{"version": "1.0", "trustPolicies": all})
}

func TestNotationEnvelopes(t *testing.T) {
	reg := testenv.NewRegistry(t)
	k := validKey(t, "k")
	p := policy(t, notationOf(statementsOf(t, []string{"ca:x"}, map[string]string{"*": "*"}), k))
	attribute := func(key string, critical bool) func(*signature.SignRequest) {
		return func(r *signature.SignRequest) {
			r.ExtendedSignedAttributes = append(r.ExtendedSignedAttributes, signature.Attribute{Key: key, Critical: critical, Value: "x"})
		}
	}
	payload := func(edit func(target map[string]any)) func(*signature.SignRequest) {
		return func(r *signature.SignRequest) {
			var m map[string]map[string]any
			must(t, json.Unmarshal(r.Payload.Content, &m))
			edit(m["targetArtifact"])
			r.Payload.Content = mustJSON(t, m)
		}
	}
	for _, format := range []string{jws.MediaTypeEnvelope, cose.MediaTypeEnvelope} {
		for what, c := range map[string]struct {
			edit func(*signature.SignRequest)
			want verdict
		}{
			"as it should be":                            {func(*signature.SignRequest) {}, good},
			"with an attribute that need not be known":   {attribute("io.example.note", false), good},
			"with an attribute that has to be known":     {attribute("io.example.note", true), no("io.example.note")},
			"that wants a plugin":                        {attribute("io.cncf.notary.verificationPlugin", true), no("plugin")},
			"that wants a plugin of a version":           {attribute("io.cncf.notary.verificationPluginMinVersion", true), no("io.cncf.notary.verificationPluginMinVersion")},
			"that names a plugin without insisting":      {attribute("io.cncf.notary.verificationPlugin", false), no("not a critical")},
			"of another kind of payload":                 {func(r *signature.SignRequest) { r.Payload.ContentType = "application/json" }, no("not supported")},
			"for an artifact of another size":            {payload(func(m map[string]any) { m["size"] = 7 }), no("content descriptor mismatch")},
			"for an artifact of another kind":            {payload(func(m map[string]any) { m["mediaType"] = types.OCIImageIndex }), no("content descriptor mismatch")},
			"of a signing authority, which nobody named": {func(r *signature.SignRequest) { r.SigningScheme = signature.SigningSchemeX509SigningAuthority }, no("no trusted certificates are found")},
		} {
			t.Run(format+" "+what, func(t *testing.T) {
				a := push(t, reg)
				signing.PushNotation(t, a.ref(), format, signing.NotationEnvelope(t, k, format, signing.NotationTarget(t, a.ref()), c.edit))
				c.want.check(t, p, a)
			})
		}
		t.Run(format+" called by the other's name", func(t *testing.T) {
			a := push(t, reg)
			other := map[string]string{jws.MediaTypeEnvelope: cose.MediaTypeEnvelope, cose.MediaTypeEnvelope: jws.MediaTypeEnvelope}[format]
			raw := signing.NotationEnvelope(t, k, format, signing.NotationTarget(t, a.ref()), func(*signature.SignRequest) {})
			signing.PushNotation(t, a.ref(), other, raw)
			signing.PushNotation(t, a.ref(), "application/octet-stream", raw)
			refused(t, p, a, deploy.SourceUnverified, "unable to parse the digital signature")
			signing.PushNotation(t, a.ref(), format, raw)
			accepted(t, p, a)
		})
	}
}

func TestNotationSigningAuthority(t *testing.T) {
	reg := testenv.NewRegistry(t)
	now := time.Now()
	gone := signing.NewNotationKey(t, "gone", now.Add(-48*time.Hour), now.Add(-time.Hour))
	p := policy(t, notationOf(statementsOf(t, []string{"signingAuthority:x"}, map[string]string{"*": "*"}), gone))
	push := func(t *testing.T, name string, at time.Time, scheme signature.SigningScheme) artifact {
		a := pushTo(reg, "team/authority", name)
		signing.PushNotation(t, a.ref(), jws.MediaTypeEnvelope, signing.NotationEnvelope(t, gone, jws.MediaTypeEnvelope, signing.NotationTarget(t, a.ref()), func(r *signature.SignRequest) {
			r.SigningTime, r.SigningScheme = at, scheme
		}))
		return a
	}
	t.Run("accepts what an authority signed while its certificate was valid", func(t *testing.T) {
		accepted(t, p, push(t, "then", now.Add(-24*time.Hour), signature.SigningSchemeX509SigningAuthority))
	})
	t.Run("refuses what somebody else dated back", func(t *testing.T) {
		refused(t, p, push(t, "else", now.Add(-24*time.Hour), signature.SigningSchemeX509), deploy.SourceUnverified, "no trusted certificates are found")
	})
}

func TestNotationTimestampsAndLevels(t *testing.T) {
	reg := testenv.NewRegistry(t)
	k := validKey(t, "k")
	sign := func(name string, edit func(*signature.SignRequest)) artifact {
		a := pushTo(reg, "team/times", name)
		signing.PushNotation(t, a.ref(), jws.MediaTypeEnvelope, signing.NotationEnvelope(t, k, jws.MediaTypeEnvelope, signing.NotationTarget(t, a.ref()), edit))
		return a
	}
	t.Run("refuses a signature without the timestamp that a store for it demands", func(t *testing.T) {
		p := policy(t, notationOf(statementsOf(t, []string{"ca:x", "tsa:x"}, map[string]string{"*": "*"}), k))
		refused(t, p, sign("plain", func(*signature.SignRequest) {}), deploy.SourceUnverified, "no timestamp countersignature")
	})
	expired := sign("expired", func(r *signature.SignRequest) {
		r.SigningTime, r.Expiry = time.Now().Add(-30*time.Minute), time.Now().Add(-time.Minute)
	})
	t.Run("a permissive level lets expired signatures pass, and nobody else's", func(t *testing.T) {
		refused(t, policy(t, notationOf(policyDocument(t, "strict", nil, "*", "*"), k)), expired, deploy.SourceUnverified, "has expired on")
		accepted(t, policy(t, notationOf(policyDocument(t, "permissive", nil, "*", "*"), k)), expired)
		refused(t, policy(t, notationOf(policyDocument(t, "permissive", nil, "*", "*"), validKey(t, "other"))), expired, deploy.SourceUnverified, "any trusted certificate")
		refused(t, policy(t, notationOf(policyDocument(t, "permissive", nil, "x509.subject: C=DE, ST=BE, O=Other", "*"), k)), expired, deploy.SourceUnverified, "does not match")
	})
}

func TestNotationScopes(t *testing.T) {
	reg := testenv.NewRegistry(t)
	k := validKey(t, "k")
	a := push(t, reg)
	signing.NotationSign(t, k, signing.FormatJWS, a.ref())
	const ours, others = "x509.subject: C=DE, ST=BE, O=Example, CN=k", "x509.subject: C=DE, ST=BE, O=Other"
	for what, c := range map[string]struct {
		scopes     map[string]string
		repository string
		reason     string
	}{
		"the repository itself":             {map[string]string{"example.com/team/app": ours}, "example.com/team/app", ""},
		"every repository":                  {map[string]string{"*": ours}, "example.com/team/app", ""},
		"the repository before every":       {map[string]string{"*": ours, "example.com/team/app": others}, "example.com/team/app", deploy.SourceUnverified},
		"a folder above it":                 {map[string]string{"example.com/team": ours}, "example.com/team/app", deploy.SourceNoPolicy},
		"a repository below it":             {map[string]string{"example.com/team/app/sub": ours}, "example.com/team/app", deploy.SourceNoPolicy},
		"a registry with another port":      {map[string]string{"example.com:5000/team/app": ours}, "example.com/team/app", deploy.SourceNoPolicy},
		"Docker Hub by its usual name":      {map[string]string{"docker.io/library/app": ours}, "index.docker.io/library/app", ""},
		"Docker Hub by its other name":      {map[string]string{"index.docker.io/library/app": ours}, "index.docker.io/library/app", ""},
		"a registry that ends like the Hub": {map[string]string{"docker.io/library/app": ours}, "not-docker.io/library/app", deploy.SourceNoPolicy},
		"a folder of this machine":          {map[string]string{"example.com/team/app": ours}, "/example.com/team/app", deploy.SourceNoPolicy},
		"every repository, for a folder":    {map[string]string{"*": ours}, "/var/lib/app", ""},
		"a repository that is called *":     {map[string]string{"example.com/team/app": ours}, "*", deploy.SourceNoPolicy},
	} {
		t.Run(what, func(t *testing.T) {
			_, _, err := policy(t, notationOf(statementsOf(t, []string{"ca:x"}, c.scopes), k)).Verify(t.Context(), a.content(t), c.repository, a.digest)
			got := deploy.Failure{}
			if f := new(deploy.Failure); errors.As(err, &f) {
				got = *f
			}
			if got.Reason != c.reason || (err == nil) != (c.reason == "") {
				t.Errorf("got %v, want %q", err, c.reason)
			}
		})
	}
}
