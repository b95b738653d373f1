package verify

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

// signedBundle is a bundle of the cosign command for an artifact.
func signedBundle(t *testing.T, p *Policy, a artifact) []byte {
	t.Helper()
	_, ev, err := p.Verify(t.Context(), a.content(t), a.repository(), a.digest)
	must(t, err)
	for _, raw := range ev.Blobs {
		return raw
	}
	t.Fatal("the evidence has no blob")
	return nil
}

// change alters one place of a bundle's JSON.
func change(t *testing.T, bundle []byte, edit func(envelope map[string]any)) []byte {
	t.Helper()
	var b map[string]any
	must(t, json.Unmarshal(bundle, &b))
	edit(b["dsseEnvelope"].(map[string]any))
	out, err := json.Marshal(b)
	must(t, err)
	return out
}

func TestCosignHostileBundles(t *testing.T) {
	reg := testenv.NewRegistry(t)
	pair := signing.KeyPair(t)
	p := policy(t, Material{Keys: keysOf(pair)})
	origin := push(t, reg)
	signing.Sign(t, pair, origin.ref())
	good := signedBundle(t, p, origin)
	fresh := 0
	next := func() artifact {
		fresh++
		return pushTo(reg, origin.repo, fmt.Sprint("artifact ", fresh))
	}

	t.Run("refuses a bundle moved from another artifact", func(t *testing.T) {
		a := next()
		signing.PushBundle(t, a.ref(), good)
		refused(t, p, a, deploy.SourceUnverified, "it is for another artifact")
	})
	t.Run("refuses a changed statement", func(t *testing.T) {
		a := next()
		signing.PushBundle(t, a.ref(), change(t, good, func(e map[string]any) {
			e["payload"] = base64.StdEncoding.EncodeToString(signing.Statement(a.digest, signing.PredicateSign))
		}))
		refused(t, p, a, deploy.SourceUnverified, "not signed with a.pub")
	})
	t.Run("refuses a changed signature", func(t *testing.T) {
		a := pushTo(reg, origin.repo+"-sig", origin.repo)
		signing.Sign(t, pair, a.ref())
		b := signedBundle(t, p, a)
		other := pushTo(reg, origin.repo+"-sig2", origin.repo) // the same digest in another repository
		signing.PushBundle(t, other.ref(), change(t, b, func(e map[string]any) {
			sig := e["signatures"].([]any)[0].(map[string]any)
			raw, err := base64.StdEncoding.DecodeString(sig["sig"].(string))
			must(t, err)
			raw[len(raw)-1] ^= 1
			sig["sig"] = base64.StdEncoding.EncodeToString(raw)
		}))
		refused(t, p, other, deploy.SourceUnverified, "not signed with a.pub")
	})
	t.Run("refuses an SBOM's bundle that the manifest calls a signature", func(t *testing.T) {
		a := pushTo(reg, origin.repo+"-sbom", "sbom")
		signing.Attest(t, pair, a.ref(), "spdxjson")
		c := a.content(t)
		refs, err := c.Referrers(t.Context(), a.digest)
		must(t, err)
		r := &reader{content: c, subject: a.digest}
		b, err := readBundle(t.Context(), r, refs[0])
		must(t, err)
		js, err := b.MarshalJSON()
		must(t, err)
		signing.PushReferrer(t, a.ref(), signing.MediaBundle, "application/vnd.oci.empty.v1+json", signing.MediaBundle, js,
			map[string]string{annotationPredicate: signing.PredicateSign})
		refused(t, p, a, deploy.SourceUnsigned, "attestations are no signatures: 2")
	})
	garbage := map[string][]byte{
		"empty": nil, "no JSON": []byte("\x00\xff\nsecond line"), "an empty object": []byte("{}"), "null": []byte("null"),
		"without content":  []byte(`{"mediaType":"` + signing.MediaBundle + `"}`),
		"nothing inside":   []byte(`{"mediaType":"` + signing.MediaBundle + `","verificationMaterial":{"publicKey":{}},"dsseEnvelope":{}}`),
		"a null signature": []byte(`{"mediaType":"` + signing.MediaBundle + `","verificationMaterial":{"publicKey":{}},"dsseEnvelope":{"payload":"e30=","signatures":[null]}}`),
		"huge":             bytes.Repeat([]byte(" "), maxSignature+1),
		"deeply nested":    []byte(strings.Repeat(`{"a":`, 100_000)),
	}
	t.Run("refuses garbage", func(t *testing.T) {
		for what, raw := range garbage {
			t.Run(what, func(t *testing.T) {
				a := pushTo(reg, "garbage/"+strings.ReplaceAll(strings.ToLower(what), " ", ""), what)
				signing.PushBundle(t, a.ref(), raw)
				refused(t, p, a, deploy.SourceUnverified, "bundle sha256:")
			})
		}
	})
	t.Run("accepts a good bundle beside garbage of all kinds", func(t *testing.T) {
		a := pushTo(reg, "garbage/beside", "beside")
		for _, raw := range garbage {
			signing.PushBundle(t, a.ref(), raw)
		}
		signing.PushLegacy(t, a.ref(), signing.LegacyLayer{Payload: []byte("x")})
		signing.PushReferrer(t, a.ref(), "application/spdx+json", "application/vnd.oci.empty.v1+json", "application/spdx+json", []byte("{}"), nil)
		refused(t, p, a, deploy.SourceUnverified, "and ") // bounded
		signing.Sign(t, pair, a.ref())
		accepted(t, p, a)
	})
	t.Run("does not say unsigned where it has not looked at all there is", func(t *testing.T) {
		a := pushTo(reg, "garbage/attestations", "attestations")
		for i := range maxSignatures + 2 {
			signing.PushBundle(t, a.ref(), change(t, good, func(e map[string]any) {
				e["payload"] = base64.StdEncoding.EncodeToString(signing.Statement(a.digest, fmt.Sprint("https://example.com/", i)))
			}))
		}
		refused(t, p, a, deploy.SourceUnverified, "2 were not looked at")
	})
	t.Run("looks at no more than it may", func(t *testing.T) {
		a := pushTo(reg, "garbage/many", "many")
		for i := range maxSignatures + 3 {
			signing.PushBundle(t, a.ref(), fmt.Append(nil, "garbage ", i))
		}
		reg.Reset()
		refused(t, p, a, deploy.SourceUnverified, "3 were not looked at")
		if n := reg.Count("", "/blobs/"); n > 2*maxSignatures {
			t.Errorf("%d requests for blobs", n)
		}
	})
}

func TestCosignHostileLegacy(t *testing.T) {
	reg := testenv.NewRegistry(t)
	pair := signing.KeyPair(t)
	p := policy(t, Material{Keys: keysOf(pair)})
	origin := push(t, reg)
	signing.SignLegacy(t, pair, origin.ref())
	r := &reader{content: origin.content(t), subject: origin.digest}
	m, err := legacyManifest(t.Context(), r, strings.Replace(origin.digest, ":", "-", 1)+".sig")
	must(t, err)
	payload, err := r.blob(t.Context(), m.Layers[0])
	must(t, err)
	good := signing.LegacyLayer{Payload: payload, Annotations: m.Layers[0].Annotations}

	a := pushTo(reg, origin.repo, "another")
	sig := good.Annotations[annotationSignature]
	for what, c := range map[string]struct {
		layer signing.LegacyLayer
		text  string
	}{
		"one moved from another artifact": {good, "it is for another artifact"},
		"a changed payload":               {signing.LegacyLayer{Payload: signing.Payload(a.digest), Annotations: good.Annotations}, "not signed with a.pub"},
		"a signature that is not base64": {
			signing.LegacyLayer{Payload: payload, Annotations: map[string]string{annotationSignature: "?" + sig}}, "no signature in base64",
		},
		"no signature at all": {signing.LegacyLayer{Payload: payload}, "no signature in base64"},
		"a huge payload":      {signing.LegacyLayer{Payload: make([]byte, maxSignature+1), Annotations: good.Annotations}, "at most"},
	} {
		t.Run("refuses "+what, func(t *testing.T) {
			signing.PushLegacy(t, a.ref(), c.layer)
			refused(t, p, a, deploy.SourceUnverified, c.text)
		})
	}
	t.Run("accepts a good one among them", func(t *testing.T) {
		signing.PushLegacy(t, origin.ref(), signing.LegacyLayer{Payload: []byte("x")}, good, signing.LegacyLayer{Payload: []byte("y")})
		accepted(t, p, origin)
	})
	t.Run("refuses a signed payload of another kind", func(t *testing.T) {
		b := pushTo(reg, origin.repo, "kind")
		s := signing.NewSigstore(t)
		other := bytes.Replace(signing.Payload(b.digest), []byte("cosign container image signature"), []byte("atomic container signature"), 1)
		who := signing.Signer{Subject: subject, Issuer: issuer}
		signing.PushLegacy(t, b.ref(), s.LegacyLayer(t, who, other))
		p := policy(t, Material{Identities: []deploy.OIDCIdentity{{Issuer: ".", Subject: "."}}, TrustedRoot: s.TrustedRootJSON(t)})
		refused(t, p, b, deploy.SourceUnverified, "its payload: it is of the type")
	})
}

func TestErrorsOfTheRegistryAreNoVerdict(t *testing.T) {
	reg := testenv.NewRegistry(t)
	pair, stranger := signing.KeyPair(t), signing.KeyPair(t)
	p := policy(t, Material{Keys: keysOf(pair)})
	a := push(t, reg)
	signing.Sign(t, stranger, a.ref())
	signing.Sign(t, pair, a.ref())
	is := func(t *testing.T, want error) {
		t.Helper()
		_, _, err := p.Verify(t.Context(), a.content(t), a.repository(), a.digest)
		var f *deploy.Failure
		if !errors.Is(err, want) || errors.As(err, &f) {
			t.Errorf("got %v (a verdict: %t), want %v", err, f != nil, want)
		}
	}
	for what, f := range map[string]struct {
		fault testenv.Fault
		want  error
	}{
		"the list of referrers":      {testenv.Fault{Kind: testenv.FaultReset, Path: "/referrers/"}, oci.ErrNetwork},
		"the manifests":              {testenv.Fault{Kind: testenv.FaultStatus, Status: 503, Path: "/manifests/"}, oci.ErrUnavailable},
		"the blobs":                  {testenv.Fault{Kind: testenv.FaultReset, Path: "/blobs/"}, oci.ErrNetwork},
		"blobs that break off":       {testenv.Fault{Kind: testenv.FaultTruncate, Path: "/blobs/", Method: "GET"}, oci.ErrNetwork},
		"everything, being too busy": {testenv.Fault{Kind: testenv.FaultStatus, Status: 429}, oci.ErrRateLimited},
	} {
		t.Run("passes on what befell "+what, func(t *testing.T) {
			reg.Fail(f.fault)
			defer reg.Heal()
			is(t, f.want)
		})
	}
	t.Run("finds the good one behind one that cannot be read", func(t *testing.T) {
		refs, err := a.content(t).Referrers(t.Context(), a.digest)
		must(t, err)
		found, hidden := 0, 0
		for _, d := range refs { // either the stranger's or the good one
			reg.Fail(testenv.Fault{Kind: testenv.FaultReset, Path: "/manifests/" + d.Digest.String()})
			_, _, err := p.Verify(t.Context(), a.content(t), a.repository(), a.digest)
			reg.Heal()
			var f *deploy.Failure
			switch {
			case err == nil:
				found++
			case errors.Is(err, oci.ErrNetwork) && !errors.As(err, &f):
				hidden++
			default:
				t.Errorf("got %v: the unreadable one may have been good", err)
			}
		}
		if found != 1 || hidden != 1 {
			t.Errorf("found %d, hidden %d", found, hidden)
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("stopped")
		cancel(gone)
		_, _, err := p.Verify(ctx, a.content(t), a.repository(), a.digest)
		if !errors.Is(err, gone) && !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a signature that is listed and gone is no good one", func(t *testing.T) {
		b := pushTo(reg, a.repo+"-gone", "gone")
		signing.Sign(t, pair, b.ref())
		refs, err := b.content(t).Referrers(t.Context(), b.digest)
		must(t, err)
		reg.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 404, Path: "/manifests/" + refs[0].Digest.String()})
		defer reg.Heal()
		refused(t, p, b, deploy.SourceUnverified, "it is listed, but not there")
	})
}
