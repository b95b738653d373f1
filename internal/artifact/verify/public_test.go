package verify

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sigstore "github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/towline/towline/internal/deploy"
)

// published reads a file of sigstore-go's test data: what Sigstore's public instance has signed.
func published(t *testing.T, path ...string) []byte {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/sigstore/sigstore-go").Output()
	must(t, err)
	raw, err := os.ReadFile(filepath.Join(append([]string{strings.TrimSpace(string(dir)), "pkg", "testing", "data"}, path...)...))
	must(t, err)
	return raw
}

func TestPublicInstance(t *testing.T) {
	trusted := published(t, "trusted-roots", "public-good.json")
	with := func(subject string) *cosign {
		s, err := newCosign(Material{TrustedRoot: trusted, Identities: []deploy.OIDCIdentity{{Issuer: `^https://token\.actions\.githubusercontent\.com$`, Subject: subject}}})
		must(t, err)
		return s.(*cosign)
	}
	b, err := parseBundle(published(t, "bundles", "sigstore.js@2.0.0-provenance.sigstore.json"))
	must(t, err)
	sum, err := hex.DecodeString("46d4e2f74c4877316640000a6fdf8a8b59f1e0847667973e9859f774dd31b8f1e0937813b777fb66a2ac67d50540fe34640966eee9fc2ccca387082b4c85cd3c")
	must(t, err)
	claimOf := func(alg string, sum []byte) claim {
		return claim{keyed: b, certified: certified(b), artifact: func() sigstore.ArtifactPolicyOption { return sigstore.WithArtifactDigest(alg, sum) }}
	}
	const workflow = "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main"
	t.Run("accepts the certificate, the log and the times of a real signature", func(t *testing.T) {
		by, _, err := with("^https://github.com/sigstore/sigstore-js/").check(claimOf("sha512", sum))
		if want := "cosign keyless " + workflow + " (https://token.actions.githubusercontent.com)"; err != nil || by != want {
			t.Errorf("%q vouches, want %q: %v", by, want, err)
		}
	})
	t.Run("refuses it for another identity", func(t *testing.T) {
		_, _, err := with("^https://github.com/somebody/").check(claimOf("sha512", sum))
		if err == nil || !strings.Contains(err.Error(), "signed by "+workflow) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("refuses it for another artifact", func(t *testing.T) {
		for alg, other := range map[string][]byte{"sha512": make([]byte, 64), "sha256": sum[:32], "": sum} {
			if by, _, err := with(".").check(claimOf(alg, other)); err == nil {
				t.Errorf("%s: %q vouches", alg, by)
			}
		}
	})
	t.Run("refuses it with the root of another instance", func(t *testing.T) {
		trusted = published(t, "trusted-roots", "scaffolding.json")
		if by, _, err := with(".").check(claimOf("sha512", sum)); err == nil {
			t.Errorf("%q vouches", by)
		}
	})
	t.Run("takes provenance for no signature of a release", func(t *testing.T) {
		trusted = published(t, "trusted-roots", "public-good.json")
		if s, err := statement(b); err != nil || s.predicate != "https://slsa.dev/provenance/v1" {
			t.Errorf("%+v: %v", s, err)
		}
		if _, err := with(".").bundle(b, "sha512:"+hex.EncodeToString(sum)); !errors.Is(err, errNoSignature) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("refuses two signatures in an envelope", func(t *testing.T) {
		two, err := parseBundle(published(t, "bundles", "dsse-2sigs.sigstore.json"))
		must(t, err)
		b = two
		var s struct {
			Subject []struct{ Digest map[string]string }
		}
		must(t, json.Unmarshal(two.GetDsseEnvelope().GetPayload(), &s))
		for alg, h := range s.Subject[0].Digest {
			raw, err := hex.DecodeString(h)
			must(t, err)
			if by, _, err := with(".").check(claimOf(alg, raw)); err == nil || !strings.Contains(err.Error(), "exactly one signature") {
				t.Errorf("%q vouches: %v", by, err)
			}
		}
	})
}
