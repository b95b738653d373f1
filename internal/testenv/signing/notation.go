package signing

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/notaryproject/notation-core-go/signature"
	_ "github.com/notaryproject/notation-core-go/signature/cose" // both kinds of envelopes
	"github.com/notaryproject/notation-core-go/signature/jws"
)

// The formats of a Notation signature.
const (
	FormatJWS  = "jws"
	FormatCOSE = "cose"
)

// keyName is what the notation command calls the key of a NotationKey.
const keyName = "test"

// NotationKey is a key with a self-signed certificate.
type NotationKey struct {
	// Certificate is PEM.
	Certificate []byte
	// Subject of the certificate.
	Subject string

	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	home string // XDG_CONFIG_HOME of the notation command
}

// NewNotationKey makes a key whose certificate is valid between two times.
func NewNotationKey(t testing.TB, commonName string, from, until time.Time) *NotationKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: commonName, Organization: []string{"Example"}, Country: []string{"DE"}, Province: []string{"BE"}},
		NotBefore:    from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	k := &NotationKey{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Subject: cert.Subject.String(),
		key: key, cert: cert, home: t.TempDir(),
	}
	k.install(t)
	return k
}

// install makes the key known to the notation command.
func (k *NotationKey) install(t testing.TB) {
	t.Helper()
	dir := filepath.Join(k.home, "notation")
	must(t, os.MkdirAll(dir, 0o700))
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	must(t, err)
	keyFile, certFile := filepath.Join(dir, "test.key"), filepath.Join(dir, "test.crt")
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	must(t, os.WriteFile(certFile, k.Certificate, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "signingkeys.json"), mustJSON(map[string]any{
		"default": keyName, "keys": []any{map[string]string{"name": keyName, "keyPath": keyFile, "certPath": certFile}},
	}), 0o600))
}

// NotationSign signs host/repo@digest with the notation command: a signature among the referrers, or with the referrers tag where the registry has none.
func NotationSign(t testing.TB, k *NotationKey, format, ref string, args ...string) {
	t.Helper()
	all := append([]string{"sign", "--insecure-registry", "--force-referrers-tag=false", "--signature-format", format, "--key", keyName}, args...)
	run(t, []string{"XDG_CONFIG_HOME=" + k.home}, Notation(t), append(all, ref)...)
}

// NotationSignAt attaches a signature that says it was made at another time, and ends at another: the notation command only knows now.
func NotationSignAt(t testing.TB, k *NotationKey, ref string, at, expiry time.Time) {
	t.Helper()
	PushNotation(t, ref, jws.MediaTypeEnvelope, NotationEnvelope(t, k, jws.MediaTypeEnvelope, NotationTarget(t, ref), func(r *signature.SignRequest) {
		r.SigningTime, r.Expiry = at, expiry
	}))
}

// NotationTarget is what a signature of host/repo@digest is about.
func NotationTarget(t testing.TB, ref string) v1.Descriptor {
	t.Helper()
	d, err := name.NewDigest(ref)
	must(t, err)
	target, err := remote.Head(d)
	must(t, err)
	return *target
}

// NotationEnvelope signs what the notation command would not: the edit is made before signing.
func NotationEnvelope(t testing.TB, k *NotationKey, mediaType string, target v1.Descriptor, edit func(*signature.SignRequest)) []byte {
	t.Helper()
	payload, err := json.Marshal(map[string]any{"targetArtifact": map[string]any{"mediaType": target.MediaType, "digest": target.Digest, "size": target.Size}})
	must(t, err)
	signer, err := signature.NewLocalSigner([]*x509.Certificate{k.cert}, k.key)
	must(t, err)
	env, err := signature.NewEnvelope(mediaType)
	must(t, err)
	req := &signature.SignRequest{
		Payload: signature.Payload{ContentType: "application/vnd.cncf.notary.payload.v1+json", Content: payload},
		Signer:  signer, SigningTime: time.Now(), SigningScheme: signature.SigningSchemeX509, SigningAgent: "test",
	}
	edit(req)
	raw, err := env.Sign(req)
	must(t, err)
	return raw
}
