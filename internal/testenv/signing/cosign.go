package signing

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

// password of every private key that the cosign command makes.
const password = "test"

// nowhere is where the command looks for the keys of Sigstore's public instance: a test asks nothing of the internet.
const nowhere = "http://127.0.0.1:1"

// Pair is a key pair of the cosign command.
type Pair struct {
	// Public is the PEM of cosign.pub.
	Public []byte
	// Private is the path of the encrypted private key, and Plain its PEM as it is on disk.
	Private string
	Plain   []byte
}

// KeyPair makes a key pair as cosign does by itself: ECDSA P-256.
func KeyPair(t testing.TB) Pair {
	t.Helper()
	prefix := filepath.Join(t.TempDir(), "cosign")
	cosign(t, "generate-key-pair", "--output-key-prefix", prefix)
	return readPair(t, prefix)
}

// Import makes a key pair of a private key of another kind: ECDSA, RSA or Ed25519.
func Import(t testing.TB, private crypto.PrivateKey) Pair {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "plain.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	prefix := filepath.Join(dir, "cosign")
	cosign(t, "import-key-pair", "--key", file, "--output-key-prefix", prefix)
	return readPair(t, prefix)
}

func readPair(t testing.TB, prefix string) Pair {
	t.Helper()
	pub, err := os.ReadFile(prefix + ".pub")
	must(t, err)
	key, err := os.ReadFile(prefix + ".key")
	must(t, err)
	return Pair{Public: pub, Private: prefix + ".key", Plain: key}
}

// Sign signs host/repo@digest as cosign 3 does: a bundle among the referrers. Nothing is written to a log.
func Sign(t testing.TB, p Pair, ref string) {
	t.Helper()
	cosign(t, "sign", "--yes", "--key", p.Private, "--signing-config", noServices(t), "--allow-http-registry", ref)
}

// SignLegacy signs host/repo@digest as cosign 2 does: at the tag sha256-….sig.
func SignLegacy(t testing.TB, p Pair, ref string) {
	t.Helper()
	cosign(t, "sign", "--yes", "--key", p.Private, "--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false", "--allow-http-registry", ref)
}

// Attest attaches a signed statement about the artifact that is no signature of it, such as an SBOM.
func Attest(t testing.TB, p Pair, ref, predicateType string) {
	t.Helper()
	predicate := filepath.Join(t.TempDir(), "predicate.json")
	must(t, os.WriteFile(predicate, []byte(`{"packages":[]}`), 0o600))
	cosign(t, "attest", "--yes", "--key", p.Private, "--signing-config", noServices(t), "--allow-http-registry",
		"--predicate", predicate, "--type", predicateType, ref)
}

// noServices is a signing config without any service: cosign 3 asks for one where nothing is to be logged.
func noServices(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "signing-config.json")
	must(t, os.WriteFile(file, []byte(`{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json","rekorTlogConfig":{},"tsaConfig":{}}`), 0o600))
	return file
}

func cosign(t testing.TB, args ...string) {
	t.Helper()
	run(t, []string{"COSIGN_PASSWORD=" + password, "TUF_MIRROR=" + nowhere}, Cosign(t), args...)
}
