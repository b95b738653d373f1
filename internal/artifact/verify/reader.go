package verify

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha256" // digests
	_ "crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// reader reads from a content under bounds, checks what it reads against its digest, and remembers it for the evidence: what belongs to the signature at hand, since
// begin drops what the one before needed.
type reader struct {
	content Content
	subject string
	notes   Evidence
}

// begin starts with the next signature.
func (r *reader) begin() { r.notes = Evidence{} }

func (r *reader) evidence() (*Evidence, error) {
	e := r.notes
	e.Subject = r.subject
	n, err := e.size()
	switch {
	case err != nil:
		return nil, err
	case n > maxEvidence:
		return nil, unverified("what proves the signature of %s takes %d bytes: at most %d are kept", r.subject, n, maxEvidence)
	}
	return &e, nil
}

// referrers lists what is attached to the subject. Which of it the evidence needs is said by attach.
func (r *reader) referrers(ctx context.Context) ([]v1.Descriptor, error) {
	return r.content.Referrers(ctx, r.subject)
}

// attach notes a referrer, without what a registry may add to it at any length.
func (r *reader) attach(d v1.Descriptor) {
	r.notes.Attached = append(r.notes.Attached, v1.Descriptor{MediaType: d.MediaType, ArtifactType: d.ArtifactType, Size: d.Size, Digest: d.Digest})
}

func (r *reader) tag(ctx context.Context, tag string) (string, error) {
	digest, err := r.content.Digest(ctx, tag)
	if err != nil {
		return "", err
	}
	if r.notes.Tags == nil {
		r.notes.Tags = map[string]string{}
	}
	r.notes.Tags[tag] = digest
	return digest, nil
}

func (r *reader) manifest(ctx context.Context, digest string) ([]byte, error) {
	raw, err := r.content.Manifest(ctx, digest)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxManifest {
		return nil, bad("its manifest has %d bytes: at most %d are read", len(raw), maxManifest)
	}
	h, err := v1.NewHash(digest)
	if err != nil {
		return nil, bad("digest of a manifest: %v", err)
	}
	if err := matches(raw, h); err != nil {
		return nil, err
	}
	r.keep(digest, raw)
	return raw, nil
}

// keep notes a manifest that was read before.
func (r *reader) keep(digest string, raw []byte) {
	if r.notes.Manifests == nil {
		r.notes.Manifests = map[string][]byte{}
	}
	r.notes.Manifests[digest] = raw
}

func (r *reader) blob(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	if d.Size > maxSignature || d.Size < 0 {
		return nil, bad("it has %d bytes: at most %d are read", d.Size, maxSignature)
	}
	w := &bounded{left: maxSignature}
	if err := r.content.Blob(ctx, d, w); err != nil {
		if errors.Is(err, errTooLong) {
			return nil, bad("it is longer than the %d bytes that it is said to have", d.Size)
		}
		return nil, err
	}
	raw := w.buf.Bytes()
	if err := matches(raw, d.Digest); err != nil {
		return nil, err
	}
	if r.notes.Blobs == nil {
		r.notes.Blobs = map[string][]byte{}
	}
	r.notes.Blobs[d.Digest.String()] = raw
	return raw, nil
}

// matches checks a digest of the algorithms that the OCI image spec registers.
func matches(raw []byte, want v1.Hash) error {
	algorithms := map[string]crypto.Hash{"sha256": crypto.SHA256, "sha512": crypto.SHA512}
	alg, ok := algorithms[want.Algorithm]
	if !ok {
		return bad("its digest is of the unknown kind %q", want.Algorithm)
	}
	h := alg.New()
	_, _ = h.Write(raw) // a hash takes everything
	if got := hex.EncodeToString(h.Sum(nil)); got != want.Hex {
		return bad("it is not what its digest %s says", want)
	}
	return nil
}

var errTooLong = fmt.Errorf("more than %d bytes", maxSignature)

// bounded is a buffer that takes so many bytes and no more.
type bounded struct {
	buf  bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return 0, errTooLong
	}
	b.left -= len(p)
	return b.buf.Write(p)
}
