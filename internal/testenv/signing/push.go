package signing

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Media types of signatures.
const (
	MediaBundle        = "application/vnd.dev.sigstore.bundle.v0.3+json"
	MediaSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	MediaNotation      = "application/vnd.cncf.notary.signature"
	mediaEmpty         = "application/vnd.oci.empty.v1+json"
	// PredicateSign is the type of the statement that is cosign's signature.
	PredicateSign = "https://sigstore.dev/cosign/sign/v1"
)

// raw is a manifest as it is to be sent.
type raw []byte

func (r raw) RawManifest() ([]byte, error)        { return r, nil }
func (r raw) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// PushReferrer attaches one blob to host/repo@digest, and returns the digest of the manifest that holds it.
func PushReferrer(t testing.TB, ref, artifactType string, configType, layerType types.MediaType, blob []byte, annotations map[string]string) string {
	t.Helper()
	d, err := name.NewDigest(ref)
	must(t, err)
	subject, err := remote.Head(d)
	must(t, err)
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: artifactType,
		Config:      pushBlob(t, d, "{}", configType),
		Layers:      []v1.Descriptor{pushBlob(t, d, string(blob), layerType)},
		Subject:     &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations: annotations,
	}
	body, err := json.Marshal(m)
	must(t, err)
	h, _, err := v1.SHA256(bytes.NewReader(body))
	must(t, err)
	must(t, remote.Put(d.Context().Digest(h.String()), raw(body)))
	return h.String()
}

// PushBundle attaches a Sigstore bundle as cosign 3 does.
func PushBundle(t testing.TB, ref string, bundle []byte) string {
	t.Helper()
	return PushReferrer(t, ref, MediaBundle, mediaEmpty, MediaBundle, bundle, map[string]string{"dev.sigstore.bundle.content": "dsse-envelope"})
}

// PushNotation attaches an envelope as notation does.
func PushNotation(t testing.TB, ref, mediaType string, envelope []byte) string {
	t.Helper()
	return PushReferrer(t, ref, "", MediaNotation, types.MediaType(mediaType), envelope, nil)
}

// LegacyLayer is one signature of the format of cosign 2.
type LegacyLayer struct {
	Payload     []byte
	Annotations map[string]string
}

// PushLegacy writes the tag sha256-….sig of host/repo@digest.
func PushLegacy(t testing.TB, ref string, layers ...LegacyLayer) {
	t.Helper()
	d, err := name.NewDigest(ref)
	must(t, err)
	h, err := v1.NewHash(d.DigestStr())
	must(t, err)
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: pushBlob(t, d, "{}", types.OCIConfigJSON)}
	for _, l := range layers {
		desc := pushBlob(t, d, string(l.Payload), MediaSimpleSigning)
		desc.Annotations = l.Annotations
		m.Layers = append(m.Layers, desc)
	}
	body, err := json.Marshal(m)
	must(t, err)
	must(t, remote.Put(d.Context().Tag(h.Algorithm+"-"+h.Hex+".sig"), raw(body)))
}

func pushBlob(t testing.TB, d name.Digest, data string, mediaType types.MediaType) v1.Descriptor {
	t.Helper()
	l := static.NewLayer([]byte(data), mediaType)
	must(t, remote.WriteLayer(d.Context(), l))
	h, err := l.Digest()
	must(t, err)
	return v1.Descriptor{MediaType: mediaType, Digest: h, Size: int64(len(data))}
}

// Payload is what a signature of the format of cosign 2 signs.
func Payload(digest string) []byte {
	return mustJSON(map[string]any{
		"critical": map[string]any{
			"identity": map[string]string{"docker-reference": ""},
			"image":    map[string]string{"docker-manifest-digest": digest},
			"type":     "cosign container image signature",
		},
		"optional": nil,
	})
}

// Statement is what a bundle signs.
func Statement(digest, predicateType string) []byte {
	h, err := v1.NewHash(digest)
	if err != nil {
		panic(err)
	}
	return mustJSON(map[string]any{
		"_type":         "https://in-toto.io/Statement/v1",
		"subject":       []any{map[string]any{"digest": map[string]string{h.Algorithm: h.Hex}}},
		"predicateType": predicateType,
		"predicate":     map[string]any{},
	})
}

// mustJSON marshals what cannot fail to.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
