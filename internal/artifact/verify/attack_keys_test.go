package verify

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/distribution"
	"github.com/towline/towline/internal/testenv/signing"
)

// hand is a key that signs what the cosign command would not.
type hand struct {
	key    *ecdsa.PrivateKey
	policy *Policy
}

func newHand(t *testing.T) hand {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return hand{key, policy(t, Material{Keys: map[string][]byte{"a.pub": public}})}
}

func (h hand) sign(t *testing.T, data []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(data)
	sig, err := h.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	must(t, err)
	return sig
}

// bundle is a signed statement.
func (h hand) bundle(t *testing.T, payloadType string, payload []byte) []byte {
	t.Helper()
	return mustJSON(t, map[string]any{
		"mediaType": signing.MediaBundle, "verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": "whatever"}},
		"dsseEnvelope": map[string]any{
			"payloadType": payloadType, "payload": payload, "signatures": []any{map[string]any{"sig": h.sign(t, dsse.PAE(payloadType, payload))}},
		},
	})
}

const inToto = "application/vnd.in-toto+json"

func TestSignedStatements(t *testing.T) {
	reg := testenv.NewRegistry(t)
	h := newHand(t)
	const head = `{"_type":"https://in-toto.io/Statement/v1","predicateType":"` + predicateSign + `",`
	none := verdict{deploy.SourceUnsigned, "attestations are no signatures: 1"}
	zero := strings.Repeat("0", 64)
	for what, c := range map[string]struct {
		statement, payloadType string
		want                   verdict
	}{
		"the usual":                       {head + `"subject":[{"digest":{"sha256":"HEX"}}]}`, inToto, good},
		"of in-toto before 1.0":           {strings.Replace(head, "/v1", "/v0.1", 1) + `"subject":[{"digest":{"sha256":"HEX"}}]}`, inToto, good},
		"of several artifacts":            {head + `"subject":[{"digest":{"sha256":"` + zero + `"}},{"digest":{"sha512":"00","sha256":"HEX"}}]}`, inToto, good},
		"of none":                         {head + `"subject":[]}`, inToto, no("for another artifact")},
		"of another":                      {head + `"subject":[{"name":"sha256:HEX","digest":{"sha256":"` + zero + `"}}]}`, inToto, no("for another artifact")},
		"of the beginning of a digest":    {head + `"subject":[{"digest":{"sha256":"HALF"}}]}`, inToto, no("for another artifact")},
		"of a digest of another kind":     {head + `"subject":[{"digest":{"sha512":"HEX"}}]}`, inToto, no("for another artifact")},
		"of a digest and more":            {head + `"subject":[{"digest":{"sha256":"HEX00"}}]}`, inToto, no("for another artifact")},
		"of a kind written another way":   {head + `"subject":[{"digest":{"SHA256":"HEX"}}]}`, inToto, no("for another artifact")},
		"of another kind":                 {strings.Replace(head, predicateSign, "https://slsa.dev/provenance/v1", 1) + `"subject":[{"digest":{"sha256":"HEX"}}]}`, inToto, none},
		"of a kind that begins the same":  {strings.Replace(head, predicateSign, predicateSign+"/x", 1) + `"subject":[{"digest":{"sha256":"HEX"}}]}`, inToto, none},
		"of no kind":                      {`{"subject":[{"digest":{"sha256":"HEX"}}]}`, inToto, none},
		"that is no in-toto statement":    {strings.Replace(head, "in-toto.io", "example.com", 1) + `"subject":[{"digest":{"sha256":"HEX"}}]}`, inToto, no("is no in-toto statement")},
		"in an envelope of another kind":  {head + `"subject":[{"digest":{"sha256":"HEX"}}]}`, "application/json", no("not signed with a.pub")},
		"that says its kind twice":        {head + `"predicateType":"` + predicateSign + `","subject":[{"digest":{"sha256":"HEX"}}]}`, inToto, no("predicateType")},
		"that shouts its kind":            {strings.Replace(head, "predicateType", "PREDICATETYPE", 1) + `"subject":[{"digest":{"sha256":"HEX"}}]}`, inToto, no("predicateType")},
		"that says two kinds":             {`{"predicateType":"https://spdx.dev/Document","PredicateType":"` + predicateSign + `","_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"HEX"}}]}`, inToto, no("predicateType")},
		"that has two lists of artifacts": {head + `"subject":[{"digest":{"sha256":"` + zero + `"}}],"ſubject":[{"digest":{"sha256":"HEX"}}]}`, inToto, no("subject")},
		"that has two digests":            {head + `"subject":[{"digest":{"sha256":"` + zero + `"},"Digest":{"sha256":"HEX"}}]}`, inToto, no("digest")},
		"with something behind it":        {head + `"subject":[{"digest":{"sha256":"HEX"}}]}{}`, inToto, no("not JSON")},
		"that is a list":                  {`[` + head + `"subject":[{"digest":{"sha256":"HEX"}}]}]`, inToto, no("not JSON")},
		"of nothing":                      {`null`, inToto, no("not JSON")},
	} {
		t.Run("a statement "+what, func(t *testing.T) {
			a := push(t, reg)
			hex := strings.TrimPrefix(a.digest, "sha256:")
			statement := strings.NewReplacer("HEX", hex, "HALF", hex[:32]).Replace(c.statement)
			signing.PushBundle(t, a.ref(), h.bundle(t, c.payloadType, []byte(statement)))
			c.want.check(t, h.policy, a)
		})
	}
}

func TestSignedPayloads(t *testing.T) {
	reg := testenv.NewRegistry(t)
	h := newHand(t)
	const kind = `"type":"cosign container image signature"`
	other := "sha256:" + strings.Repeat("0", 64)
	for what, c := range map[string]struct {
		payload string
		want    verdict
	}{
		"the usual":                     {`{"critical":{"image":{"docker-manifest-digest":"DIGEST"},` + kind + `},"optional":{"Critical":"x","critical":"y"}}`, good},
		"with two critical parts":       {`{"critical":{"image":{"docker-manifest-digest":"` + other + `"},` + kind + `},"critical":{"image":{"docker-manifest-digest":"DIGEST"},` + kind + `}}`, no(`"critical"`)},
		"with a part that shouts":       {`{"critical":{"image":{"docker-manifest-digest":"` + other + `"},` + kind + `},"CRITICAL":{"image":{"docker-manifest-digest":"DIGEST"},` + kind + `}}`, no(`"critical"`)},
		"with two digests":              {`{"critical":{"image":{"docker-manifest-digest":"` + other + `","Docker-Manifest-Digest":"DIGEST"},` + kind + `}}`, no(`"docker-manifest-digest"`)},
		"with two images":               {`{"critical":{"image":{"docker-manifest-digest":"` + other + `"},"Image":{"docker-manifest-digest":"DIGEST"},` + kind + `}}`, no(`"image"`)},
		"with a digest in another case": {`{"critical":{"image":{"docker-manifest-digest":"UPPER"},` + kind + `}}`, no("for another artifact")},
		"with part of a digest":         {`{"critical":{"image":{"docker-manifest-digest":"HALF"},` + kind + `}}`, no("for another artifact")},
		"with something behind it":      {`{"critical":{"image":{"docker-manifest-digest":"DIGEST"},` + kind + `}}{}`, no("not JSON")},
		"without a type":                {`{"critical":{"image":{"docker-manifest-digest":"DIGEST"}}}`, no("type")},
		"of nothing":                    {`null`, no("not JSON")},
	} {
		t.Run("a payload "+what, func(t *testing.T) {
			a := push(t, reg)
			payload := []byte(strings.NewReplacer("DIGEST", a.digest, "UPPER", strings.ToUpper(a.digest), "HALF", a.digest[:39]).Replace(c.payload))
			signing.PushLegacy(t, a.ref(), layerOf(payload, h.sign(t, payload)))
			c.want.check(t, h.policy, a)
		})
	}
	t.Run("what is signed as a statement is no payload, and the other way round", func(t *testing.T) {
		a := push(t, reg)
		payload, statement := signing.Payload(a.digest), signing.Statement(a.digest, signing.PredicateSign)
		pae := dsse.PAE(inToto, payload)
		signing.PushLegacy(t, a.ref(), layerOf(payload, h.sign(t, pae)), layerOf(pae, h.sign(t, pae)), layerOf(statement, h.sign(t, statement)))
		signing.PushBundle(t, a.ref(), h.bundle(t, inToto, payload))
		refused(t, h.policy, a, deploy.SourceUnverified, "not signed with a.pub")
	})
}

func TestLargeManifestsDoNotSpoilAGoodSignature(t *testing.T) {
	reg := testenv.NewRegistry(t)
	h := newHand(t)
	a := push(t, reg)
	b := h.bundle(t, inToto, signing.Statement(a.digest, signing.PredicateSign))
	b = append(b, strings.Repeat(" ", maxSignature-len(b))...)
	// Each < takes six bytes in JSON, once in the list of referrers and once in the manifest.
	annotations := map[string]string{annotationPredicate: predicateSign, "note": strings.Repeat("<", maxManifest/7)}
	signing.PushReferrer(t, a.ref(), signing.MediaBundle, "application/vnd.oci.empty.v1+json", signing.MediaBundle, b, annotations)
	accepted(t, h.policy, a)
	c := &crowd{Content: a.content(t), size: maxManifest / 2}
	if _, ev, err := h.policy.Verify(t.Context(), c, a.repository(), a.digest); err != nil || len(mustJSON(t, ev)) > maxEvidence {
		t.Errorf("refused: %v", err)
	}
}

// crowd is a registry that says more about its referrers than their manifests do.
type crowd struct {
	Content
	size int
}

// Referrers have long annotations.
func (c *crowd) Referrers(ctx context.Context, digest string) ([]v1.Descriptor, error) {
	all, err := c.Content.Referrers(ctx, digest)
	for i := range all {
		all[i].Annotations = map[string]string{"note": strings.Repeat("<", c.size)}
		all[i].Data = make([]byte, c.size)
	}
	return all, err
}

func TestRegistryWithoutReferrers(t *testing.T) {
	d := distribution.New(t, distribution.Options{})
	pair, key := signing.KeyPair(t), validKey(t, "k")
	a := artifact{host: d.Host(), repo: "team/app"}
	a.digest = pushImage(t, a.repository())
	cosign := policy(t, Material{Keys: keysOf(pair)})
	notation := policy(t, notationOf(policyDocument(t, "strict", nil, "*", a.repository()), key))
	refused(t, cosign, a, deploy.SourceUnsigned, "is not signed")
	refused(t, notation, a, deploy.SourceUnsigned, "is not signed")
	signing.Attest(t, pair, a.ref(), "spdxjson")
	signing.NotationSign(t, key, signing.FormatCOSE, a.ref())
	refused(t, cosign, a, deploy.SourceUnsigned, "attestations are no signatures: 1")
	accepted(t, notation, a)
	signing.Sign(t, pair, a.ref())
	accepted(t, cosign, a)
	b := artifact{host: d.Host(), repo: "team/legacy"}
	b.digest = pushImage(t, b.repository())
	signing.SignLegacy(t, pair, b.ref())
	accepted(t, cosign, b)
}
