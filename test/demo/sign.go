package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"strings"

	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

// annotationSignature holds a signature of Cosign 2 (cosign's SIGNATURE_SPEC.md).
const annotationSignature = "dev.cosignproject.cosign/signature"

// signer signs as `cosign sign --key` did before its version 3, with a key that lives as long as the demo.
type signer struct{ key *ecdsa.PrivateKey }

// newSigner makes a key, and writes the public one to a file, as the agent wants it.
func newSigner(public string) (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return &signer{key}, os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)
}

// sign puts the signature of a digest beside it.
func (s *signer) sign(r *testenv.Registry, repo, digest string) error {
	payload := signing.Payload(digest)
	sum := sha256.Sum256(payload)
	signature, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	if err != nil {
		return err
	}
	tag := strings.Replace(digest, ":", "-", 1) + ".sig"
	r.PushLayers(repo, tag, "application/vnd.oci.image.config.v1+json", []byte("{}"), nil, testenv.Layer{
		MediaType: signing.MediaSimpleSigning, Data: payload, Annotations: map[string]string{annotationSignature: base64.StdEncoding.EncodeToString(signature)},
	})
	return nil
}
