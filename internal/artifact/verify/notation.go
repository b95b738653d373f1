package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	_ "github.com/notaryproject/notation-core-go/signature/cose" // both kinds of envelopes
	_ "github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// mediaNotation is the artifact type of a Notation signature, and the media type of its config.
	mediaNotation = "application/vnd.cncf.notary.signature"
	// dockerHub is how people write the registry that name.Repository calls by its other name.
	dockerHub = "index.docker.io/"
)

// notary accepts an artifact that the statement of the trust policy for its repository accepts.
//
// notation-go only judges envelopes here. What it would fetch by itself is read through the reader instead, so that everything goes over the one transport with its
// credentials, and so that a registry's error stays an error and does not become a missing signature.
type notary struct{ statements []statementFor }

func (n *notary) verify(ctx context.Context, r *reader, repository, digest string) (string, error) {
	s, err := n.statement(repository)
	if err != nil {
		return "", err
	}
	f := &findings{}
	if by := s.look(ctx, r, digest, f); by != "" {
		return by, nil
	}
	if err := ctx.Err(); err != nil && f.unread == nil {
		f.unread = context.Cause(ctx)
	}
	return "", f.err(digest)
}

// statement is the one that names the repository, or else the one for every repository.
func (n *notary) statement(repository string) (*statementFor, error) {
	for _, scope := range []string{repository, "*"} {
		for i := range n.statements {
			s := &n.statements[i]
			if !slices.ContainsFunc(s.scopes, func(have string) bool { return place(have) == place(scope) }) {
				continue
			}
			if s.refused != nil {
				return nil, s.refused
			}
			return s, nil
		}
	}
	return nil, noPolicy("trustpolicy.json says nothing about %s: no statement has it, or *, among its registryScopes", repository)
}

// place is a scope with one name for Docker Hub.
func place(scope string) string {
	if rest, ok := strings.CutPrefix(scope, "docker.io/"); ok {
		return dockerHub + rest
	}
	return scope
}

// look tries the signatures among the referrers.
func (s *statementFor) look(ctx context.Context, r *reader, digest string, f *findings) string {
	all, err := r.referrers(ctx)
	if err != nil {
		f.failed("referrers", err)
		return ""
	}
	all = signaturesFirst(all)
	if n := len(all) - maxSignatures; n > 0 {
		f.over += n
		all = all[:maxSignatures]
	}
	if len(all) == 0 {
		return ""
	}
	r.begin()
	artifact, err := describe(ctx, r, digest)
	if err != nil {
		f.failed("manifest "+digest, err)
		return ""
	}
	subject := r.notes.Manifests[digest]
	for _, d := range all {
		if ctx.Err() != nil {
			return ""
		}
		r.begin()
		r.keep(digest, subject)
		r.attach(d)
		envelope, err := readEnvelope(ctx, r, d)
		var by string
		if err == nil {
			by, err = s.judge(ctx, artifact, envelope)
		}
		switch {
		case err == nil:
			return by
		case errors.Is(err, errNoSignature):
			f.others++
		case !f.failed("signature "+d.Digest.String(), err):
			return ""
		}
	}
	return ""
}

// signaturesFirst drops referrers of other kinds, as bundlesFirst does.
func signaturesFirst(all []v1.Descriptor) []v1.Descriptor {
	var sure, maybe []v1.Descriptor
	for _, d := range all {
		switch d.ArtifactType {
		case mediaNotation:
			sure = append(sure, d)
		case "":
			maybe = append(maybe, d)
		}
	}
	return append(sure, maybe...)
}

// describe is what a signature says that it is for: not the digest alone, but the media type and size too.
func describe(ctx context.Context, r *reader, digest string) (ocispec.Descriptor, error) {
	raw, err := r.manifest(ctx, digest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var m struct {
		MediaType string            `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return ocispec.Descriptor{}, bad("it is not JSON: %v", err)
	}
	switch { // the field is optional in OCI, and only there
	case m.MediaType != "":
	case m.Manifests != nil:
		m.MediaType = string(types.OCIImageIndex)
	default:
		m.MediaType = string(types.OCIManifestSchema1)
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: digests.Digest(digest), Size: int64(len(raw))}, nil
}

// envelope is a signature and its format.
type envelope struct {
	mediaType string
	raw       []byte
}

func readEnvelope(ctx context.Context, r *reader, d v1.Descriptor) (envelope, error) {
	raw, err := r.manifest(ctx, d.Digest.String())
	if err != nil {
		return envelope{}, err
	}
	var m struct {
		ArtifactType string          `json:"artifactType"`
		Config       v1.Descriptor   `json:"config"`
		Layers       []v1.Descriptor `json:"layers"`
		Blobs        []v1.Descriptor `json:"blobs"` // where signatures of Notation before 1.0 lie
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return envelope{}, bad("its manifest is not JSON: %v", err)
	}
	if m.ArtifactType != mediaNotation && string(m.Config.MediaType) != mediaNotation {
		return envelope{}, errNoSignature
	}
	layers := slices.Concat(m.Layers, m.Blobs)
	if len(layers) != 1 {
		return envelope{}, bad("its manifest has %d layers: a signature has one", len(layers))
	}
	if raw, err = r.blob(ctx, layers[0]); err != nil {
		return envelope{}, err
	}
	if len(raw) > maxEnvelope {
		return envelope{}, bad("it has %d bytes: at most %d are looked at", len(raw), maxEnvelope)
	}
	return envelope{mediaType: string(layers[0].MediaType), raw: raw}, nil
}

// judge lets notation-go check an envelope.
func (s *statementFor) judge(ctx context.Context, artifact ocispec.Descriptor, e envelope) (by string, err error) {
	defer func() { // as in cosign.check
		if p := recover(); p != nil {
			by, err = "", bad("it cannot be read: %v", p)
		}
	}()
	out, err := s.verifier.Verify(ctx, artifact, e.raw, notation.VerifierVerifyOptions{
		ArtifactReference:  anyScope + "@" + string(artifact.Digest),
		SignatureMediaType: e.mediaType,
	})
	switch {
	case err != nil:
		return "", &badContent{explain(out, err)}
	case out == nil || out.EnvelopeContent == nil || len(out.EnvelopeContent.SignerInfo.CertificateChain) == 0:
		return "", bad("it was not checked")
	}
	for _, res := range out.VerificationResults { // the statement was checked for this in newStatement; twice is better where it decides
		if (res.Type == trustpolicy.TypeAuthenticity || res.Type == trustpolicy.TypeIntegrity) && res.Error != nil {
			return "", &badContent{res.Error}
		}
	}
	// notation-go leaves this to plugins, and does without where a signature asks for none. The specification has it that what is not known fails the signature.
	for _, a := range out.EnvelopeContent.SignerInfo.SignedAttributes.ExtendedAttributes {
		if a.Critical {
			return "", bad("it demands that its attribute %q be understood, which takes a plugin: there are none here", fmt.Sprint(a.Key))
		}
	}
	return shorten("notation " + out.EnvelopeContent.SignerInfo.CertificateChain[0].Subject.String()), nil
}

// explain finds certificates that begin in the future behind a failed check of times.
func explain(out *notation.VerificationOutcome, err error) error {
	if out == nil || out.EnvelopeContent == nil {
		return err
	}
	timely := slices.ContainsFunc(out.VerificationResults, func(r *notation.ValidationResult) bool {
		return r.Type == trustpolicy.TypeAuthenticTimestamp && r.Error != nil
	})
	if !timely {
		return err
	}
	now := time.Now()
	for _, c := range out.EnvelopeContent.SignerInfo.CertificateChain {
		switch {
		case now.Before(c.NotBefore):
			return &notYet{fmt.Errorf("its certificate %q is valid from %s, and this machine's clock says %s: is one of the two clocks wrong?", c.Subject, clock(c.NotBefore), clock(now))}
		case now.After(c.NotAfter):
			return fmt.Errorf("its certificate %q has expired on %s (%w)", c.Subject, clock(c.NotAfter), err)
		}
	}
	return err
}
