package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/artifact/oci"
)

// Bounds of a search for what belongs to a digest.
const (
	maxSearched = 1_000    // manifests of an index that are read
	maxPayload  = 64 << 10 // bytes of what a signature signs; cosign's have some hundred
)

// referrer is what says in a manifest whether it refers to another, and as what.
type referrer struct {
	MediaType    types.MediaType `json:"mediaType"`
	ArtifactType string          `json:"artifactType"`
	Config       struct {
		MediaType types.MediaType `json:"mediaType"`
	} `json:"config"`
	Layers      []v1.Descriptor   `json:"layers"`
	Subject     *v1.Descriptor    `json:"subject"`
	Manifests   []v1.Descriptor   `json:"manifests"`
	Annotations map[string]string `json:"annotations"`
}

// Referrers are the manifests in the index that name the digest as their subject, as oras cp -r leaves them, and those that the digest's own tag lists, as regctl does
// (distribution-spec, referrers tag schema). Descriptors are as a registry's referrers API gives them.
func (i *image) Referrers(ctx context.Context, digest string) ([]v1.Descriptor, error) {
	if _, err := hexOf(digest); err != nil {
		return nil, err
	}
	from, index, err := i.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = from.Close() }() // only read
	todo := index.Manifests
	if listed := tags(index)[strings.Replace(digest, ":", "-", 1)]; len(listed) == 1 {
		list, err := readReferrer(ctx, from, listed[0])
		if err != nil {
			return nil, err
		}
		todo = append(todo, list.Manifests...)
	}
	var out []v1.Descriptor
	seen := map[v1.Hash]bool{}
	for _, d := range todo {
		if seen[d.Digest] {
			continue
		}
		if seen[d.Digest] = true; len(seen) > maxSearched {
			return nil, fmt.Errorf("the image layout %s has more than %d manifests: use a layout for each artifact", i.path, maxSearched)
		}
		m, err := readReferrer(ctx, from, d.Digest.String())
		if errors.Is(err, oci.ErrNotFound) {
			continue // a manifest that was not copied, such as of another platform
		}
		if err != nil {
			return nil, err
		}
		if m.Subject != nil && m.Subject.Digest.String() == digest {
			out = append(out, m.describe(d))
		}
	}
	return out, nil
}

func readReferrer(ctx context.Context, from files, digest string) (*referrer, error) {
	raw, err := manifest(ctx, from, digest)
	if err != nil {
		return nil, err
	}
	m := &referrer{}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", digest, err)
	}
	return m, nil
}

// describe is the descriptor of the manifest, with its annotations and its type, which is the config's where it names none.
func (m *referrer) describe(d v1.Descriptor) v1.Descriptor {
	out := v1.Descriptor{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest, Annotations: m.Annotations, ArtifactType: m.ArtifactType}
	if out.MediaType == "" {
		out.MediaType = m.MediaType
	}
	if out.ArtifactType == "" {
		out.ArtifactType = string(m.Config.MediaType)
	}
	return out
}

// savedSignatures finds the signatures that cosign save wrote: it names them like the artifact, so what they sign says which they belong to. Whether they are good
// is for others to say.
func (i *image) savedSignatures(ctx context.Context, from files, index *v1.IndexManifest, digest string) (string, error) {
	searched := 0
	for _, d := range index.Manifests {
		if d.Annotations[kindAnnotation] != kindSignatures {
			continue
		}
		m, err := readReferrer(ctx, from, d.Digest.String())
		if err != nil {
			return "", err
		}
		for _, layer := range m.Layers {
			if searched++; searched > maxSearched {
				return "", fmt.Errorf("the image layout %s has more than %d signatures", i.path, maxSearched)
			}
			signed, err := signedDigest(ctx, from, layer)
			if err != nil {
				return "", err
			}
			if signed == digest {
				return d.Digest.String(), nil
			}
		}
	}
	return "", missing("the image layout %s has no signatures of %s", i.path, digest)
}

// signedDigest is the digest that a payload of cosign names (simple signing); empty where it names none.
func signedDigest(ctx context.Context, from files, layer v1.Descriptor) (string, error) {
	if layer.Size > maxPayload {
		return "", nil
	}
	r, err := blob(from, layer.Digest.String())
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }() // only read
	var payload strings.Builder
	if err := copyChecked(ctx, &payload, r, layer); err != nil {
		return "", err
	}
	var p struct {
		Critical struct {
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
	if json.Unmarshal([]byte(payload.String()), &p) != nil {
		return "", nil
	}
	return p.Critical.Image.Digest, nil
}
