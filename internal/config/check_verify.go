package config

import (
	"regexp"

	"github.com/towline/towline/internal/deploy"
)

// getTrustedRoot says where a trusted root comes from.
const getTrustedRoot = "for the public Sigstore, `cosign trusted-root create --with-default-services --out trusted_root.json` writes one"

func (e *entry) checkVerify(v *deploy.Verify) {
	e.oneOf("verify.provider", v.Provider, deploy.VerifyCosign, deploy.VerifyNotation)
	e.checkSecretRef("verify.secretRef", v.SecretRef)
	e.checkFiles("verify.keys", v.Keys)
	for i, id := range v.MatchOIDCIdentity {
		e.checkIdentity(item("verify.matchOIDCIdentity", i), id)
	}
	e.checkFile("verify.trustedRoot", v.TrustedRoot)
	e.checkSecretRef("verify.trustedRootSecretRef", v.TrustedRootSecretRef)
	e.checkFile("verify.trustPolicy", v.TrustPolicy)
	e.checkFiles("verify.certificates", v.Certificates)
	switch v.Provider {
	case deploy.VerifyCosign, "":
		e.checkCosign(v)
	case deploy.VerifyNotation:
		e.checkNotation(v)
	}
}

// checkIdentity wants patterns that leave somebody out: with two that fit everything, whoever can sign at all would be trusted.
func (e *entry) checkIdentity(path string, id deploy.OIDCIdentity) {
	e.checkRegexp(path+".issuer", id.Issuer)
	e.checkRegexp(path+".subject", id.Subject)
	if id.Issuer != "" && id.Subject != "" && fitsEmptyText(id.Issuer) && fitsEmptyText(id.Subject) {
		e.bad(path, "fits everybody: name who may sign, such as issuer ^https://token.actions.githubusercontent.com$ and subject ^https://github.com/owner/repository/")
	}
}

// fitsEmptyText reports whether a pattern matches even the empty text, as .* does.
func fitsEmptyText(pattern string) bool {
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString("")
}

func (e *entry) checkCosign(v *deploy.Verify) {
	e.otherProvider(v.TrustPolicy != "", "trustPolicy", deploy.VerifyNotation)
	e.otherProvider(len(v.Certificates) > 0, "certificates", deploy.VerifyNotation)
	keyless, roots := len(v.MatchOIDCIdentity) > 0, count(v.TrustedRoot != "", v.TrustedRootSecretRef != nil)
	if v.SecretRef == nil && len(v.Keys) == 0 && !keyless && !e.brokenBelow("verify") {
		e.bad("verify", "does not say whose signature is wanted: give secretRef or keys (public keys), or matchOIDCIdentity (signers without a key)")
	}
	switch {
	case roots > 1:
		e.bad("verify.trustedRoot", "trustedRootSecretRef says the same: keep one")
	case keyless && roots == 0 && !e.brokenBelow("verify"):
		e.bad("verify.matchOIDCIdentity", "needs trustedRoot or trustedRootSecretRef: %s", getTrustedRoot)
	case !keyless && roots == 1 && !e.brokenBelow("verify"):
		field := "verify.trustedRoot"
		if v.TrustedRoot == "" {
			field = "verify.trustedRootSecretRef"
		}
		e.bad(field, "has no effect without matchOIDCIdentity: say who may sign, or drop it")
	}
}

func (e *entry) checkNotation(v *deploy.Verify) {
	e.otherProvider(len(v.Keys) > 0, "keys", deploy.VerifyCosign)
	e.otherProvider(len(v.MatchOIDCIdentity) > 0, "matchOIDCIdentity", deploy.VerifyCosign)
	e.otherProvider(v.TrustedRoot != "", "trustedRoot", deploy.VerifyCosign)
	e.otherProvider(v.TrustedRootSecretRef != nil, "trustedRootSecretRef", deploy.VerifyCosign)
	policy, certificates := v.TrustPolicy != "", len(v.Certificates) > 0
	switch {
	case e.brokenBelow("verify"):
	case v.SecretRef != nil && (policy || certificates):
		e.bad("verify.secretRef", "trustPolicy and certificates say the same: keep the Secret or the files")
	case v.SecretRef == nil && !policy && !certificates:
		e.bad("verify", "does not say whose signature is wanted: give secretRef, or trustPolicy and certificates")
	case policy && !certificates:
		e.bad("verify.trustPolicy", "needs certificates beside it")
	case certificates && !policy:
		e.bad("verify.certificates", "needs trustPolicy beside it")
	}
}

func (e *entry) otherProvider(given bool, field, provider string) {
	if given {
		e.bad("verify."+field, "is for provider %s: drop it, or set provider: %s", provider, provider)
	}
}
