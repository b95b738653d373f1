// Package verify answers whether somebody who is trusted has signed an artifact: with Cosign (keys, or keyless with a given trusted root) or with Notation. It reads
// what a registry holds beside the artifact and asks nobody else: no transparency log, no OCSP responder, no CRL, no update server.
package verify

import (
	"context"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/deploy"
)

// Bounds of what is read for one artifact: whoever may push beside it must not be able to keep an agent busy, or fill its memory.
const (
	// maxSignatures is how many signatures of one format are looked at. Cosign itself stops at 128 layers, Flux at 3 Notation signatures.
	maxSignatures = 64
	// maxSignature is the size in bytes of one signature. A bundle with log entry and timestamp has 10 to 20 KiB.
	maxSignature = 1 << 20
	// maxManifest is the size in bytes of a signature's manifest. The manifest of a .sig tag holds every signature's certificates and log entries in annotations.
	maxManifest = 1 << 20
	// maxEvidence is the size in bytes of an Evidence in JSON.
	maxEvidence = 4 << 20
)

// Content is where an artifact and its signatures lie: a registry's repository, an image layout, or an Evidence. What is not there is oci.ErrNotFound. All calls come
// from one goroutine at a time.
type Content interface {
	// Digest is what a tag points to.
	Digest(ctx context.Context, tag string) (string, error)
	// Manifest is the manifest or index with the digest.
	Manifest(ctx context.Context, digest string) ([]byte, error)
	// Blob writes the blob to w.
	Blob(ctx context.Context, d v1.Descriptor, w io.Writer) error
	// Referrers lists the manifests that name the digest as their subject; none are no error.
	Referrers(ctx context.Context, digest string) ([]v1.Descriptor, error)
}

// Material is what signatures are checked with, in bytes: who reads Secrets and files is elsewhere.
type Material struct {
	// Provider is deploy.VerifyCosign (also when empty) or deploy.VerifyNotation.
	Provider string
	// Keys are PEM public keys by name (cosign): one that fits is enough. The names are for messages.
	Keys map[string][]byte
	// Identities are who may have signed without a key (cosign): one that fits is enough.
	Identities []deploy.OIDCIdentity
	// TrustedRoot is a trusted_root.json; Identities need it.
	TrustedRoot []byte
	// TrustPolicy is a trustpolicy.json (notation).
	TrustPolicy []byte
	// Certificates are PEM certificates by name (notation): each is in every trust store that the policy names.
	Certificates map[string][]byte
}

// Policy decides about signatures. It never changes and is safe for concurrent use.
type Policy struct {
	hash   string
	scheme scheme
}

// scheme is one provider's way to find and check signatures.
type scheme interface {
	// verify looks for a good signature of the digest and says who made it. What it needed is in the reader's notes.
	verify(ctx context.Context, r *reader, repository, digest string) (by string, err error)
}

// New reads everything that decides. Where something is missing or cannot be read, the error is a *deploy.Failure with deploy.SourceNoPolicy and says which part.
func New(m Material) (*Policy, error) {
	var s scheme
	var err error
	switch m.Provider {
	case "", deploy.VerifyCosign:
		s, err = newCosign(m)
	case deploy.VerifyNotation:
		s, err = newNotation(m)
	default:
		err = noPolicy("the provider %q is neither %s nor %s", m.Provider, deploy.VerifyCosign, deploy.VerifyNotation)
	}
	if err != nil {
		return nil, err
	}
	return &Policy{hash: hash(m), scheme: s}, nil
}

// Hash is a hex digest of all that decides: it changes exactly when something of the material does. Names of keys count, since they are in the state that is shown.
func (p *Policy) Hash() string { return p.hash }

// Verify looks for a good signature of the artifact with the digest (algorithm:hex). The repository is host/path, as name.Repository.Name() gives it; only Notation's
// scopes look at it.
//
// by says who vouches: "cosign key cosign.pub", "cosign keyless <subject> (<issuer>)" or "notation <subject>". The evidence is enough to verify again without c.
//
// The error is a *deploy.Failure with deploy.SourceUnsigned where there is no signature, deploy.SourceNotYetValid where the clocks disagree, deploy.SourceNoPolicy where
// the policy says nothing about the repository, or less than that signatures decide, and deploy.SourceUnverified for everything else that is wrong with signatures.
// Errors of c pass through as they are: a signature that could not be read is neither missing nor bad.
func (p *Policy) Verify(ctx context.Context, c Content, repository, digest string) (by string, ev *Evidence, err error) {
	if _, err := v1.NewHash(digest); err != nil {
		return "", nil, unverified("%q is no digest: %v", digest, err)
	}
	r := &reader{content: c, subject: digest}
	by, err = p.scheme.verify(ctx, r, repository, digest)
	if err != nil {
		return "", nil, err
	}
	ev, err = r.evidence()
	if err != nil {
		return "", nil, err
	}
	return by, ev, nil
}
