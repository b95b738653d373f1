package verify

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
	"google.golang.org/protobuf/encoding/protojson"
)

// What Cosign 3 writes.
const (
	// mediaBundle begins the media type of a Sigstore bundle of any version.
	mediaBundle = "application/vnd.dev.sigstore.bundle"
	// predicateSign is what a statement says that is a signature. The same signer's statements about an artifact, such as its SBOM, are of other types and approve of
	// nothing; the cosign CLI takes them for signatures.
	predicateSign = "https://sigstore.dev/cosign/sign/v1"
	// annotationPredicate is where Cosign notes the type on the manifest.
	annotationPredicate = "dev.sigstore.bundle.predicateType"
)

// inTotoStatements are the types of the versions of a statement, which say the same in what is read here.
var inTotoStatements = []string{"https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"}

// errNoSignature says that a referrer is something else.
var errNoSignature = errors.New("it is no signature")

// bundles looks at the referrers. more is false where the registry should not be asked again.
func (c *cosign) bundles(ctx context.Context, r *reader, digest string, f *findings) (by string, more bool) {
	all, err := r.referrers(ctx)
	if err != nil {
		return "", f.failed("referrers", err)
	}
	all = bundlesFirst(all)
	if n := len(all) - maxSignatures; n > 0 {
		f.over += n
		all = all[:maxSignatures]
	}
	for _, d := range all {
		if ctx.Err() != nil {
			return "", false
		}
		r.begin()
		r.attach(d)
		b, err := readBundle(ctx, r, d)
		if err == nil {
			by, err = c.bundle(b, digest)
		}
		what := "bundle " + d.Digest.String()
		switch {
		case err == nil:
			return by, true
		case errors.Is(err, errNoSignature):
			f.others++
		case !f.failed(what, err):
			return "", false
		}
	}
	return "", true
}

// bundlesFirst drops referrers of other kinds and puts those first that are said to be signatures, since not all may be looked at. Some registries say the media type of
// the config instead of the artifact type, or nothing: what might be a bundle is kept.
func bundlesFirst(all []v1.Descriptor) []v1.Descriptor {
	rank := func(d v1.Descriptor) int {
		switch {
		case !strings.HasPrefix(d.ArtifactType, mediaBundle):
			return 2
		case d.Annotations[annotationPredicate] == predicateSign:
			return 0
		}
		return 1
	}
	var out []v1.Descriptor
	for _, d := range all {
		known := d.ArtifactType == "" || strings.HasPrefix(d.ArtifactType, "application/vnd.oci.") || strings.HasPrefix(d.ArtifactType, "application/vnd.docker.")
		if known || rank(d) < 2 {
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, func(a, b v1.Descriptor) int { return rank(a) - rank(b) })
	return out
}

// readBundle reads the one layer of a referrer that has a bundle in it.
func readBundle(ctx context.Context, r *reader, d v1.Descriptor) (*bundle.Bundle, error) {
	raw, err := r.manifest(ctx, d.Digest.String())
	if err != nil {
		return nil, err
	}
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, bad("its manifest is not JSON: %v", err)
	}
	i := slices.IndexFunc(m.Layers, func(l v1.Descriptor) bool { return strings.HasPrefix(string(l.MediaType), mediaBundle) })
	if i < 0 {
		return nil, errNoSignature
	}
	if raw, err = r.blob(ctx, m.Layers[i]); err != nil {
		return nil, err
	}
	return parseBundle(raw)
}

func parseBundle(raw []byte) (b *bundle.Bundle, err error) {
	defer func() { // as in check
		if p := recover(); p != nil {
			b, err = nil, bad("it cannot be read: %v", p)
		}
	}()
	pb := &pbbundle.Bundle{}
	if err := protojson.Unmarshal(raw, pb); err != nil {
		return nil, bad("it is no bundle: %v", err)
	}
	if err := withinLimits(pb); err != nil {
		return nil, err
	}
	if b, err = bundle.NewBundle(pb); err != nil {
		return nil, bad("it is no bundle: %v", err)
	}
	return b, nil
}

// bundle checks a bundle: it must hold a signature of this artifact.
func (c *cosign) bundle(b *bundle.Bundle, digest string) (string, error) {
	s, err := statement(b)
	if err != nil {
		return "", err
	}
	if s.predicate != predicateSign {
		return "", errNoSignature
	}
	if !slices.Contains(inTotoStatements, s.kind) {
		return "", bad("it is no in-toto statement: its type is %q", s.kind)
	}
	h, err := v1.NewHash(digest)
	if err != nil {
		return "", err
	}
	if !slices.Contains(s.subjects, h) {
		return "", bad("it is for another artifact")
	}
	sum, err := hex.DecodeString(h.Hex)
	if err != nil {
		return "", err
	}
	by, res, err := c.check(claim{
		keyed: b, certified: certified(b),
		artifact: func() sigstore.ArtifactPolicyOption {
			return sigstore.WithArtifactDigest(h.Algorithm, bytes.Clone(sum))
		},
	})
	switch {
	case err != nil:
		return "", &badContent{err}
	// What was looked at before the check was not proven then.
	case res.Statement == nil || res.Statement.GetPredicateType() != predicateSign:
		return "", errNoSignature
	}
	return by, nil
}

// certified is the bundle where it bears a certificate.
func certified(b *bundle.Bundle) sigstore.SignedEntity {
	if c, err := b.VerificationContent(); err != nil || c.Certificate() == nil {
		return nil
	}
	return b
}

// statementOf is what an envelope claims, before anything of it is proven.
type statementOf struct {
	kind      string
	predicate string
	subjects  []v1.Hash
}

func statement(b *bundle.Bundle) (s statementOf, err error) {
	if b.GetDsseEnvelope() == nil {
		return s, bad("it signs no statement")
	}
	var subjects []json.RawMessage
	if err := exactly(b.GetDsseEnvelope().GetPayload(), map[string]any{"_type": &s.kind, "predicateType": &s.predicate, "subject": &subjects}); err != nil {
		return s, bad("its statement: %v", err)
	}
	for _, raw := range subjects {
		var digests map[string]string
		if err := exactly(raw, map[string]any{"digest": &digests}); err != nil {
			return s, bad("its statement's subject: %v", err)
		}
		for alg, sum := range digests {
			s.subjects = append(s.subjects, v1.Hash{Algorithm: alg, Hex: sum})
		}
	}
	return s, nil
}
