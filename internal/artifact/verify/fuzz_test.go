package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

// FuzzVerify gives evidence of any bytes to policies of all kinds. The seeds are good signatures for other keys, so that mutations reach deep; whatever comes out of
// them must neither panic nor be accepted. A signature that is taken over unchanged proves nothing either: nobody has signed with the keys that are trusted.
func FuzzVerify(f *testing.F) {
	reg, err := testenv.StartRegistry("127.0.0.1:0")
	must(f, err)
	f.Cleanup(reg.Close)
	pair, stranger := signing.KeyPair(f), signing.KeyPair(f)
	s, elsewhere := signing.NewSigstore(f), signing.NewSigstore(f)
	key, another := validKey(f, "theirs"), validKey(f, "ours")
	id := []deploy.OIDCIdentity{{Issuer: ".", Subject: "."}}
	strict := []byte(`{"version":"1.0","trustPolicies":[{"name":"all","registryScopes":["*"],"signatureVerification":{"level":"strict"},"trustStores":["ca:x"],"trustedIdentities":["*"]}]}`)
	theirs := []Material{
		{Keys: keysOf(stranger), Identities: id, TrustedRoot: elsewhere.TrustedRootJSON(f)},
		notationOf(strict, key),
	}
	var trusted []*Policy
	for _, m := range []Material{{Keys: keysOf(pair)}, {Keys: keysOf(pair), Identities: id, TrustedRoot: s.TrustedRootJSON(f)}, notationOf(strict, another)} {
		p, err := New(m)
		must(f, err)
		trusted = append(trusted, p)
	}
	digest := ""
	for i, sign := range []func(ref string){
		func(ref string) { signing.Sign(f, stranger, ref) },
		func(ref string) { signing.SignLegacy(f, stranger, ref) },
		func(ref string) { elsewhere.Keyless(f, signing.Signer{Subject: subject, Issuer: issuer}, ref) },
		func(ref string) { elsewhere.KeylessLegacy(f, signing.Signer{Subject: subject, Issuer: issuer}, ref) },
		func(ref string) { signing.NotationSign(f, key, signing.FormatJWS, ref) },
		func(ref string) { signing.NotationSign(f, key, signing.FormatCOSE, ref) },
	} {
		a := pushTo(reg, fmt.Sprint("team/fuzz", i), "fuzz")
		digest = a.digest // the same in each repository
		sign(a.ref())
		p, err := New(theirs[i/4])
		must(f, err)
		_, ev, err := p.Verify(f.Context(), a.content(f), a.repository(), a.digest)
		must(f, err)
		tags := slices.Collect(maps.Values(ev.Tags))
		for d, manifest := range ev.Manifests {
			for _, blob := range ev.Blobs {
				if d != a.digest {
					f.Add(manifest, blob, len(tags) > 0)
				}
			}
		}
	}
	subjectManifest := reg.Manifest("team/fuzz0", "v1")
	f.Fuzz(func(t *testing.T, manifest, blob []byte, tagged bool) {
		// A manifest that leads to the blob, whatever its digest is by now, and the blob: what a hostile registry would do.
		var m map[string]any
		if json.Unmarshal(manifest, &m) == nil {
			if layers, ok := m["layers"].([]any); ok && len(layers) > 0 {
				if l, ok := layers[0].(map[string]any); ok {
					l["digest"], l["size"] = sha(blob), len(blob)
					manifest = mustJSON(t, m)
				}
			}
		}
		ev := &Evidence{
			Subject:   digest,
			Manifests: map[string][]byte{digest: subjectManifest, sha(manifest): manifest},
			Blobs:     map[string][]byte{sha(blob): blob},
		}
		if tagged {
			ev.Tags = map[string]string{strings.Replace(digest, ":", "-", 1) + ".sig": sha(manifest)}
		} else {
			h, err := v1.NewHash(sha(manifest))
			must(t, err)
			for _, kind := range []string{"", mediaNotation, signing.MediaBundle} {
				ev.Attached = append(ev.Attached, v1.Descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", ArtifactType: kind, Digest: h, Size: int64(len(manifest))})
			}
		}
		for _, p := range trusted {
			by, _, err := p.Verify(t.Context(), ev, "example.com/team/fuzz", digest)
			if err == nil {
				t.Fatalf("accepted: %q vouches", by)
			}
			var fail *deploy.Failure
			if !errors.As(err, &fail) {
				t.Fatalf("no verdict: %v", err)
			}
		}
		// The evidence as it lies on the disk.
		for _, raw := range [][]byte{manifest, blob} {
			var e Evidence
			if json.Unmarshal(raw, &e) != nil {
				continue
			}
			for _, p := range trusted {
				if by, _, err := p.Verify(t.Context(), &e, "example.com/team/fuzz", digest); err == nil {
					t.Fatalf("accepted: %q vouches", by)
				}
			}
		}
	})
}

func sha(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	must(t, err)
	return raw
}
