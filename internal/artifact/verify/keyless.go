package verify

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/towline/towline/internal/deploy"
)

// keyless is who may sign with a certificate, and the authorities and logs that certificates are checked with.
//
// It demands what the cosign CLI does by default: a certificate chain to the root, a signed certificate timestamp of a trusted CT log, an entry in a trusted transparency
// log and a time that the log or a timestamp authority has observed. The time of signing is that one: this machine's clock is not asked, so that a node whose clock is
// wrong after a power cut verifies like any other, and no keyless signature is ever deploy.SourceNotYetValid.
type keyless struct {
	material *root.TrustedRoot
	verifier *sigstore.Verifier
	anyOf    []sigstore.PolicyOption
}

func newKeyless(identities []deploy.OIDCIdentity, trustedRoot []byte) (*keyless, error) {
	var material *root.TrustedRoot
	if len(trustedRoot) > 0 {
		var err error
		if material, err = readTrustedRoot(trustedRoot); err != nil {
			return nil, noPolicy("trusted root: %w", err)
		}
	}
	if len(identities) == 0 {
		return nil, nil
	}
	if material == nil {
		return nil, noPolicy("matchOIDCIdentity needs a trusted root: give a trusted_root.json (cosign trusted-root create, or that of Sigstore's public instance)")
	}
	k := &keyless{material: material}
	for i, id := range identities {
		m, err := matcher(id)
		if err != nil {
			return nil, noPolicy("matchOIDCIdentity[%d]: %w", i, err)
		}
		k.anyOf = append(k.anyOf, sigstore.WithCertificateIdentity(m))
	}
	var err error
	k.verifier, err = sigstore.NewVerifier(material,
		sigstore.WithTransparencyLog(1), sigstore.WithObserverTimestamps(1), sigstore.WithSignedCertificateTimestamps(1), sigstore.WithoutStatementPredicate())
	if err != nil {
		return nil, noPolicy("trusted root: %w", err)
	}
	return k, nil
}

func readTrustedRoot(raw []byte) (*root.TrustedRoot, error) {
	r, err := root.NewTrustedRootFromJSON(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is no trusted_root.json: %s", shorten(err.Error()))
	case len(r.FulcioCertificateAuthorities()) == 0:
		return nil, errors.New("it has no certificate authorities")
	case len(r.RekorLogs()) == 0:
		return nil, errors.New("it has no transparency logs (tlogs): when something was signed could not be told")
	case len(r.CTLogs()) == 0:
		return nil, errors.New("it has no certificate transparency logs (ctlogs)")
	}
	return r, nil
}

// matcher makes the two regular expressions match as Flux has it: anywhere in the value. An expression that is to match the whole value needs ^ and $.
func matcher(id deploy.OIDCIdentity) (sigstore.CertificateIdentity, error) {
	for _, e := range []struct{ what, expr string }{{"issuer", id.Issuer}, {"subject", id.Subject}} {
		if e.expr == "" {
			return sigstore.CertificateIdentity{}, fmt.Errorf("its %s is empty", e.what)
		}
		if _, err := regexp.Compile(e.expr); err != nil {
			return sigstore.CertificateIdentity{}, fmt.Errorf("its %s is no regular expression: %w", e.what, err)
		}
	}
	return sigstore.NewShortCertificateIdentity("", id.Issuer, "", id.Subject)
}

// check says whose certificate made the signature, where it is one of the identities.
func (k *keyless) check(e sigstore.SignedEntity, artifact sigstore.ArtifactPolicyOption) (string, *sigstore.VerificationResult, error) {
	res, err := k.verifier.Verify(e, sigstore.NewPolicy(artifact, k.anyOf...))
	if err != nil {
		return "", nil, k.explain(e, err)
	}
	if err := k.inService(e, res.VerifiedTimestamps); err != nil {
		return "", nil, err
	}
	s := res.Signature.Certificate
	if s.Issuer == "" { // .* matches it, and Fulcio issues none
		return "", nil, errors.New("its certificate names no issuer")
	}
	return shorten(fmt.Sprintf("cosign keyless %s (%s)", s.SubjectAlternativeName, s.Issuer)), res, nil
}

// inService refuses what a log took in before or after the time for which the root trusts it. sigstore-go looks at that time where the log promises to include an
// entry, but not where it proves that it has: whoever holds the key of a log that was retired could go on.
func (k *keyless) inService(e sigstore.SignedEntity, signed []sigstore.TimestampVerificationResult) error {
	entries, err := e.TlogEntries()
	if err != nil {
		return err
	}
	logs := k.material.RekorLogs()
	for _, entry := range entries {
		l, known := logs[hex.EncodeToString([]byte(entry.LogKeyID()))]
		if !known || entry.HasInclusionPromise() {
			continue
		}
		for _, s := range signed {
			if s.Timestamp.Before(l.ValidityPeriodStart) || !l.ValidityPeriodEnd.IsZero() && s.Timestamp.After(l.ValidityPeriodEnd) {
				return fmt.Errorf("its log %s was retired or not in service yet when it was signed, %s", l.BaseURL, clock(s.Timestamp))
			}
		}
	}
	return nil
}

// explain puts what sigstore-go says about a certificate's signature into words.
func (k *keyless) explain(e sigstore.SignedEntity, err error) error {
	content, cerr := e.VerificationContent()
	if cerr != nil {
		return err
	}
	leaf := content.Certificate()
	if leaf == nil {
		return errors.New("it was made with a key, not with a certificate")
	}
	var other *sigstore.ErrNoMatchingCertificateIdentity
	if errors.As(err, &other) {
		return fmt.Errorf("signed by %s, who is none of the identities", signer(leaf))
	}
	entries, terr := e.TlogEntries()
	if terr != nil {
		return err
	}
	for _, entry := range entries {
		at := entry.IntegratedTime()
		switch {
		case at.IsZero():
		case at.After(leaf.NotAfter):
			return fmt.Errorf("its certificate had expired when it was signed: valid until %s, signed %s", clock(leaf.NotAfter), clock(at))
		case at.Before(leaf.NotBefore):
			return fmt.Errorf("its certificate was not valid yet when it was signed: valid from %s, signed %s", clock(leaf.NotBefore), clock(at))
		}
	}
	return err
}

// signer names who a certificate is for. It is not verified: for messages about refusals.
func signer(leaf *x509.Certificate) string {
	s, err := certificate.SummarizeCertificate(leaf)
	if err != nil {
		return leaf.Subject.String()
	}
	return fmt.Sprintf("%s (%s)", s.SubjectAlternativeName, s.Issuer)
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }
