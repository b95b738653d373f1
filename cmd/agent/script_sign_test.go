package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towline/towline/internal/testenv/signing"
)

// signers are those who sign in a script, good and bad. What trusts the good ones is in files of the work folder.
type signers struct {
	good, other signing.Pair
	sigstore    *signing.Sigstore
	notation    *signing.NotationKey
}

// The identity that a script trusts.
var trusted = signing.Signer{Subject: "publisher@example.org", Issuer: "https://login.example.org"}

// signers DIR makes the signers and writes good.pub, trusted_root.json, trustpolicy.json and release.crt into a folder.
func cmdSigners(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	w.signers = &signers{
		good: signing.KeyPair(w.tb), other: signing.KeyPair(w.tb), sigstore: signing.NewSigstore(w.tb),
		notation: signing.NewNotationKey(w.tb, "release", time.Now().Add(-48*time.Hour), time.Now().Add(48*time.Hour)),
	}
	policy, err := json.Marshal(map[string]any{"version": "1.0", "trustPolicies": []any{map[string]any{
		"name": "all", "registryScopes": []string{"*"}, "signatureVerification": map[string]string{"level": "strict"},
		"trustStores": []string{"ca:release"}, "trustedIdentities": []string{"*"},
	}}})
	ts.Check(err)
	for name, content := range map[string][]byte{
		"good.pub": w.signers.good.Public, "trusted_root.json": w.signers.sigstore.TrustedRootJSON(w.tb), "trustpolicy.json": policy,
		"release.crt": w.signers.notation.Certificate,
	} {
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+"/"+name), content, 0o600))
	}
}

// sign HOW REPO signs what push left in $DIGEST.
func cmdSign(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	s, tb := w.signers, w.tb
	digest := ts.Getenv("DIGEST")
	ref := w.registry.Host() + "/" + args[1] + "@" + digest
	stranger := trusted
	stranger.Subject = "stranger@example.org"
	switch args[0] {
	case "key":
		signing.Sign(tb, s.good, ref)
	case "key-legacy":
		signing.SignLegacy(tb, s.good, ref)
	case "other-key":
		signing.Sign(tb, s.other, ref)
	case "keyless":
		s.sigstore.Keyless(tb, trusted, ref)
	case "keyless-legacy":
		s.sigstore.KeylessLegacy(tb, trusted, ref)
	case "other-identity":
		s.sigstore.Keyless(tb, stranger, ref)
	case "other-root":
		signing.NewSigstore(tb).Keyless(tb, trusted, ref)
	case "other-digest": // a good signature, of something else
		signing.PushBundle(tb, ref, s.sigstore.Bundle(tb, trusted, signing.Statement("sha256:"+string(bytes.Repeat([]byte("0"), 64)), signing.PredicateSign)))
	case "tampered": // a good signature, changed
		layer := s.sigstore.LegacyLayer(tb, trusted, signing.Payload("sha256:"+string(bytes.Repeat([]byte("0"), 64))))
		layer.Payload = signing.Payload(digest)
		signing.PushLegacy(tb, ref, layer)
	case "notation":
		signing.NotationSign(tb, s.notation, signing.FormatCOSE, ref)
	case "expired":
		signing.NotationSignAt(tb, s.notation, ref, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	default:
		ts.Fatalf("sign %s is not known", args[0])
	}
}
