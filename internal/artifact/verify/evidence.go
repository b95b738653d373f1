package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/oci"
)

// Evidence is what was read for the signature that was accepted, and nothing else: with it the same policy, or another one, can verify the artifact again without a
// registry. It is not trusted: whoever verifies with it checks everything anew. It marshals to JSON of at most 4 MiB.
type Evidence struct {
	// Subject is the digest of the artifact.
	Subject string `json:"subject"`
	// Attached are the referrers of the subject.
	Attached []v1.Descriptor `json:"attached,omitempty"`
	// Tags to digests.
	Tags map[string]string `json:"tags,omitempty"`
	// Manifests and Blobs by digest.
	Manifests map[string][]byte `json:"manifests,omitempty"`
	Blobs     map[string][]byte `json:"blobs,omitempty"`
}

var _ Content = (*Evidence)(nil)

// Digest is what the tag pointed to.
func (e *Evidence) Digest(_ context.Context, tag string) (string, error) {
	d, ok := e.Tags[tag]
	if !ok {
		return "", fmt.Errorf("tag %s in the evidence: %w", tag, oci.ErrNotFound)
	}
	return d, nil
}

// Manifest is the manifest with the digest.
func (e *Evidence) Manifest(_ context.Context, digest string) ([]byte, error) {
	raw, ok := e.Manifests[digest]
	if !ok {
		return nil, fmt.Errorf("manifest %s in the evidence: %w", digest, oci.ErrNotFound)
	}
	return raw, nil
}

// Blob writes the blob to w.
func (e *Evidence) Blob(_ context.Context, d v1.Descriptor, w io.Writer) error {
	raw, ok := e.Blobs[d.Digest.String()]
	if !ok {
		return fmt.Errorf("blob %s in the evidence: %w", d.Digest, oci.ErrNotFound)
	}
	_, err := w.Write(raw)
	return err
}

// Referrers lists what is attached to the subject.
func (e *Evidence) Referrers(_ context.Context, digest string) ([]v1.Descriptor, error) {
	if digest != e.Subject {
		return nil, nil
	}
	return e.Attached, nil
}

// size is the length of the evidence in JSON.
func (e *Evidence) size() (int, error) {
	raw, err := json.Marshal(e)
	return len(raw), err
}
