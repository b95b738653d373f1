package verify

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/result"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
)

// anyScope stands for the repository: its statement is chosen before, also for places that are no registry.
const anyScope = "any.invalid/artifact"

// statementFor is one statement of a trust policy, ready to judge.
type statementFor struct {
	scopes   []string
	verifier notation.Verifier
	// refused says why the statement is no reason to accept anything.
	refused error
}

func newNotation(m Material) (scheme, error) {
	if len(strings.TrimSpace(string(m.TrustPolicy))) == 0 {
		return nil, noPolicy("notation needs a trust policy: give a trustpolicy.json")
	}
	var doc trustpolicy.Document
	if err := json.Unmarshal(m.TrustPolicy, &doc); err != nil {
		return nil, noPolicy("trustpolicy.json cannot be read: %w", err)
	}
	for i := range doc.TrustPolicies { // as Flux: what a skip statement trusts does not matter, and notation-go would refuse it
		if s := &doc.TrustPolicies[i]; s.SignatureVerification.VerificationLevel == trustpolicy.LevelSkip.Name {
			s.TrustStores, s.TrustedIdentities = nil, nil
		}
	}
	if err := doc.Validate(); err != nil {
		return nil, noPolicy("trustpolicy.json: %w", err)
	}
	store, err := newTrustStore(m.Certificates)
	if err != nil {
		return nil, err
	}
	n := &notary{}
	for _, s := range doc.TrustPolicies {
		st, err := newStatement(s, store)
		if err != nil {
			return nil, err
		}
		n.statements = append(n.statements, st)
	}
	return n, nil
}

// newStatement prepares a statement. One that lets unsigned artifacts pass, or those of anybody, is refused when its repository comes: Flux takes a level of skip for
// "not verified" and goes on with the artifact, and so for audit where the signer is unknown. Here verify is a demand. Whoever wants no signature leaves it out.
//
// Revocation is not checked, whatever the level says: that takes calls of OCSP responders and CRL servers, which an agent at the edge cannot reach or must not, and
// without an answer strict would accept nothing. A statement that asks for it by an override is refused, so that nobody relies on it. A certificate is taken back by
// taking it out of the trust store.
func newStatement(s trustpolicy.TrustPolicy, store truststore.X509TrustStore) (statementFor, error) {
	out := statementFor{scopes: s.RegistryScopes}
	level, err := s.SignatureVerification.GetVerificationLevel()
	if err != nil {
		return out, noPolicy("trustpolicy.json: statement %q: %w", s.Name, err)
	}
	switch {
	case level.Enforcement[trustpolicy.TypeAuthenticity] != trustpolicy.ActionEnforce:
		out.refused = noPolicy("trustpolicy.json: statement %q has the level %s, which accepts artifacts of unknown signers: use strict or permissive, or leave verify out",
			s.Name, s.SignatureVerification.VerificationLevel)
		return out, nil
	case s.SignatureVerification.Override[trustpolicy.TypeRevocation] == trustpolicy.ActionEnforce:
		out.refused = noPolicy("trustpolicy.json: statement %q enforces revocation, which is not checked here since it takes calls of other servers: take the override out", s.Name)
		return out, nil
	}
	override := maps.Clone(s.SignatureVerification.Override)
	if override == nil {
		override = map[trustpolicy.ValidationType]trustpolicy.ValidationAction{}
	}
	override[trustpolicy.TypeRevocation] = trustpolicy.ActionSkip
	s.SignatureVerification.Override = override
	s.RegistryScopes = []string{"*"}
	doc := &trustpolicy.Document{Version: "1.0", TrustPolicies: []trustpolicy.TrustPolicy{s}}
	out.verifier, err = verifier.NewWithOptions(doc, store, nil, verifier.VerifierOptions{
		RevocationCodeSigningValidator: noCalls{}, RevocationTimestampingValidator: noCalls{},
	})
	if err != nil {
		return out, noPolicy("trustpolicy.json: statement %q: %w", s.Name, err)
	}
	return out, nil
}

// noCalls asks nobody whether a certificate was revoked.
type noCalls struct{}

// ValidateContext says of every certificate that there is nothing to ask.
func (noCalls) ValidateContext(_ context.Context, o revocation.ValidateContextOptions) ([]*result.CertRevocationResult, error) {
	out := make([]*result.CertRevocationResult, len(o.CertChain))
	for i := range out {
		out[i] = &result.CertRevocationResult{Result: result.ResultNonRevokable}
	}
	return out, nil
}

// trustStore holds the configured certificates: each is in every store of every type, as with Flux, because a Secret has no folders to tell them apart. Which may sign
// what is up to the trusted identities of the statement.
type trustStore []*x509.Certificate

var _ truststore.X509TrustStore = trustStore(nil)

// GetCertificates returns them all.
func (t trustStore) GetCertificates(context.Context, truststore.Type, string) ([]*x509.Certificate, error) {
	return t, nil
}

func newTrustStore(raw map[string][]byte) (trustStore, error) {
	var store trustStore
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		certs, err := certificates(raw[name])
		if err != nil {
			return nil, noPolicy("certificate %s: %w", name, err)
		}
		store = append(store, certs...)
	}
	if len(store) == 0 {
		return nil, noPolicy("notation has no certificates to trust: give at least one (a Secret's keys have to end with .crt or .pem)")
	}
	return store, nil
}

// certificates reads every certificate of a PEM file, or of one in DER. Errors never quote the file.
func certificates(raw []byte) ([]*x509.Certificate, error) {
	block, rest := pem.Decode(raw)
	if block == nil {
		certs, err := x509.ParseCertificates(raw)
		if err != nil || len(certs) == 0 {
			return nil, errors.New("it is neither PEM nor DER: want -----BEGIN CERTIFICATE-----")
		}
		return certs, nil
	}
	var out []*x509.Certificate
	for ; block != nil; block, rest = pem.Decode(rest) {
		if strings.Contains(block.Type, "PRIVATE KEY") {
			return nil, errors.New("it holds a private key: give the certificate alone, and treat the key as leaked")
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a PEM block of the type %q: want CERTIFICATE", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("a PEM block is no certificate: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}
