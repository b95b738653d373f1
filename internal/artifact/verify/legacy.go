package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	pbcommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	pbrekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/towline/towline/internal/artifact/oci"
)

// What Cosign 2 writes: https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md.
const (
	mediaSimpleSigning   = "application/vnd.dev.cosign.simplesigning.v1+json"
	annotationSignature  = "dev.cosignproject.cosign/signature"
	annotationCert       = "dev.sigstore.cosign/certificate"
	annotationRekor      = "dev.sigstore.cosign/bundle"
	annotationTimestamp  = "dev.sigstore.cosign/rfc3161timestamp"
	typeSimpleSigning    = "cosign container image signature"
	mediaBundleOfLegacy  = mediaBundle + "+json;version=0.1"
	legacyTagOfSignature = ".sig"
)

// legacy looks at the tag sha256-<hex>.sig: each layer of its manifest is a payload, and its annotations are the signature.
func (c *cosign) legacy(ctx context.Context, r *reader, digest string, f *findings) string {
	tag := strings.Replace(digest, ":", "-", 1) + legacyTagOfSignature
	r.begin()
	m, err := legacyManifest(ctx, r, tag)
	switch {
	case errors.Is(err, oci.ErrNotFound):
		return ""
	case err != nil:
		f.failed("tag "+tag, err)
		return ""
	}
	manifest := r.notes
	for i, l := range m.Layers {
		if l.MediaType != mediaSimpleSigning {
			continue
		}
		if i >= maxSignatures {
			f.over++
			continue
		}
		if ctx.Err() != nil {
			return ""
		}
		r.notes = manifest
		r.notes.Blobs = nil
		what := "signature " + l.Digest.String()
		payload, err := r.blob(ctx, l)
		if err != nil {
			if !f.failed(what, err) {
				return ""
			}
			continue
		}
		by, err := c.layer(l.Annotations, payload, digest)
		if err == nil {
			return by
		}
		f.refuse(what, err)
	}
	return ""
}

func legacyManifest(ctx context.Context, r *reader, tag string) (*v1.Manifest, error) {
	digest, err := r.tag(ctx, tag)
	if err != nil {
		return nil, err
	}
	raw, err := r.manifest(ctx, digest)
	if err != nil {
		return nil, err
	}
	m := &v1.Manifest{}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, bad("its manifest is not JSON: %v", err)
	}
	return m, nil
}

// layer checks one signature: it must be of the payload, and the payload must be about this artifact.
func (c *cosign) layer(a map[string]string, payload []byte, digest string) (string, error) {
	cl := claim{artifact: func() sigstore.ArtifactPolicyOption { return sigstore.WithArtifact(bytes.NewReader(payload)) }}
	keyed, err := legacyKeyed(a, payload)
	if err != nil {
		return "", err
	}
	cl.keyed = keyed
	if a[annotationCert] != "" && c.keyless != nil {
		b, err := legacyCertified(a, payload)
		if err != nil && len(c.keys) == 0 {
			return "", err
		}
		if err == nil {
			cl.certified = b
		}
	}
	by, _, err := c.check(cl)
	if err != nil {
		return "", err
	}
	if err := signs(payload, digest); err != nil {
		return "", fmt.Errorf("its payload: %w", err)
	}
	return by, nil
}

// signs looks into a payload that was signed by somebody who is trusted: it may be about something else.
func signs(payload []byte, digest string) error {
	var critical, image json.RawMessage
	var kind, signed string
	if err := exactly(payload, map[string]any{"critical": &critical}); err != nil {
		return err
	}
	if err := exactly(critical, map[string]any{"type": &kind, "image": &image}); err != nil {
		return err
	}
	if err := exactly(image, map[string]any{"docker-manifest-digest": &signed}); err != nil {
		return err
	}
	switch {
	case kind != typeSimpleSigning:
		return fmt.Errorf("it is of the type %q: want %q", kind, typeSimpleSigning)
	case signed != digest:
		return fmt.Errorf("it is for another artifact: %q", signed)
	}
	return nil
}

// legacyKeyed is the signature as a bundle for a check with keys: neither the certificate nor the log count there.
func legacyKeyed(a map[string]string, payload []byte) (*bundle.Bundle, error) {
	return legacyBundle(a, payload, &pbbundle.VerificationMaterial{
		Content: &pbbundle.VerificationMaterial_PublicKey{PublicKey: &pbcommon.PublicKeyIdentifier{}},
	})
}

// legacyCertified is the signature with everything that a certificate needs.
func legacyCertified(a map[string]string, payload []byte) (b *bundle.Bundle, err error) {
	defer func() { // as in check
		if p := recover(); p != nil {
			b, err = nil, bad("it cannot be read: %v", p)
		}
	}()
	block, _ := pem.Decode([]byte(a[annotationCert]))
	if block == nil {
		return nil, errors.New("its certificate is not PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("its certificate cannot be read: %w", err)
	}
	// Only the leaf: the authorities above it come from the trusted root.
	vm := &pbbundle.VerificationMaterial{Content: &pbbundle.VerificationMaterial_X509CertificateChain{
		X509CertificateChain: &pbcommon.X509CertificateChain{Certificates: []*pbcommon.X509Certificate{{RawBytes: leaf.Raw}}},
	}}
	if a[annotationRekor] != "" {
		entry, err := legacyEntry(a[annotationRekor])
		if err != nil {
			return nil, fmt.Errorf("its log entry cannot be read: %w", err)
		}
		vm.TlogEntries = []*pbrekor.TransparencyLogEntry{entry}
	}
	if a[annotationTimestamp] != "" {
		var t struct{ SignedRFC3161Timestamp []byte }
		if err := json.Unmarshal([]byte(a[annotationTimestamp]), &t); err != nil {
			return nil, fmt.Errorf("its timestamp cannot be read: %w", err)
		}
		vm.TimestampVerificationData = &pbbundle.TimestampVerificationData{
			Rfc3161Timestamps: []*pbcommon.RFC3161SignedTimestamp{{SignedTimestamp: t.SignedRFC3161Timestamp}},
		}
	}
	return legacyBundle(a, payload, vm)
}

// legacyEntry reads a log entry as Cosign 2 wrote it: the log's promise to include it, without the proof.
func legacyEntry(text string) (*pbrekor.TransparencyLogEntry, error) {
	var r struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           []byte `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		}
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, err
	}
	var kind struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal(r.Payload.Body, &kind); err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(r.Payload.LogID)
	if err != nil {
		return nil, err
	}
	return &pbrekor.TransparencyLogEntry{
		LogIndex:          r.Payload.LogIndex,
		LogId:             &pbcommon.LogId{KeyId: id},
		KindVersion:       &pbrekor.KindVersion{Kind: kind.Kind, Version: kind.APIVersion},
		IntegratedTime:    r.Payload.IntegratedTime,
		InclusionPromise:  &pbrekor.InclusionPromise{SignedEntryTimestamp: r.SignedEntryTimestamp},
		CanonicalizedBody: r.Payload.Body,
	}, nil
}

func legacyBundle(a map[string]string, payload []byte, vm *pbbundle.VerificationMaterial) (*bundle.Bundle, error) {
	sig, err := base64.StdEncoding.DecodeString(a[annotationSignature])
	if err != nil || len(sig) == 0 {
		return nil, errors.New("its annotation has no signature in base64")
	}
	sum := sha256.Sum256(payload)
	b := &pbbundle.Bundle{
		MediaType:            mediaBundleOfLegacy,
		VerificationMaterial: vm,
		Content: &pbbundle.Bundle_MessageSignature{MessageSignature: &pbcommon.MessageSignature{
			MessageDigest: &pbcommon.HashOutput{Algorithm: pbcommon.HashAlgorithm_SHA2_256, Digest: sum[:]},
			Signature:     sig,
		}},
	}
	if err := withinLimits(b); err != nil {
		return nil, err
	}
	return bundle.NewBundle(b)
}
