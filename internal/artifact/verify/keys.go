package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// key is a public key and every way in which Cosign's versions sign with its kind.
type key struct {
	name string
	ways []*sigstore.Verifier
}

// newKeys parses the keys, in the order of their names.
func newKeys(raw map[string][]byte) ([]key, error) {
	keys := make([]key, 0, len(raw))
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		pub, err := publicKey(raw[name])
		if err != nil {
			return nil, noPolicy("key %s: %w", name, err)
		}
		ways, err := waysOf(pub)
		if err != nil {
			return nil, noPolicy("key %s: %w", name, err)
		}
		k := key{name: name}
		for _, way := range ways {
			v, err := keyVerifier(way)
			if err != nil {
				return nil, noPolicy("key %s: %w", name, err)
			}
			k.ways = append(k.ways, v)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// publicKey reads the one public key of a PEM file. Errors never quote the file.
func publicKey(raw []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(raw)
	switch {
	case block == nil:
		return nil, errors.New("it is no PEM file: want -----BEGIN PUBLIC KEY-----, as in a cosign.pub")
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, errors.New("it is a private key: give the public one (cosign public-key --key …), and treat the private one as leaked")
	case block.Type == "CERTIFICATE":
		return nil, errors.New("it is a certificate: cosign wants its public key (openssl x509 -pubkey -noout), notation takes certificates")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("it holds more than one PEM block: give each key a file of its own")
	}
	pub, err := parsePublicKey(block)
	if err != nil {
		return nil, err
	}
	if !strong(pub) {
		return nil, errors.New("it is of a kind that is not trusted: want ECDSA P-256/384/521, RSA of 2048 to 8192 bits, or Ed25519")
	}
	return pub, nil
}

// strong reports whether nobody can forge a key's signatures, and whether one is checked in reasonable time.
func strong(pub crypto.PublicKey) bool {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521()
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && k.N.BitLen() <= 8192
	case ed25519.PublicKey:
		return true
	}
	return false
}

func parsePublicKey(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case string(cryptoutils.PublicKeyPEMType):
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("its PEM block holds no public key: %w", err)
		}
		return pub, nil
	case string(cryptoutils.PKCS1PublicKeyPEMType):
		pub, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("its PEM block holds no RSA public key: %w", err)
		}
		return pub, nil
	}
	return nil, fmt.Errorf("its PEM block is of the type %q: want PUBLIC KEY", block.Type)
}

// waysOf lists how a key of this kind may have signed. Cosign 2 hashed with SHA-256 whatever the curve; version 3 takes the hash that belongs to the curve. RSA is PKCS #1
// v1.5, or PSS from a KMS. Ed25519 is pure in bundles and old signatures, and prehashed where version 3 signs a payload.
func waysOf(pub crypto.PublicKey) ([]signature.Verifier, error) {
	var ways []signature.Verifier
	var failed error
	add := func(v signature.Verifier, err error) {
		if err != nil {
			failed = err
			return
		}
		ways = append(ways, v)
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		add(signature.LoadECDSAVerifier(k, crypto.SHA256))
		switch k.Curve {
		case elliptic.P384():
			add(signature.LoadECDSAVerifier(k, crypto.SHA384))
		case elliptic.P521():
			add(signature.LoadECDSAVerifier(k, crypto.SHA512))
		}
	case *rsa.PublicKey:
		add(signature.LoadRSAPKCS1v15Verifier(k, crypto.SHA256))
		add(signature.LoadRSAPSSVerifier(k, crypto.SHA256, nil))
	case ed25519.PublicKey:
		add(signature.LoadED25519Verifier(k))
		add(signature.LoadED25519phVerifier(k))
	default:
		failed = fmt.Errorf("unknown kind of key %T", pub)
	}
	return ways, failed
}

// keyVerifier checks signatures of one key. Neither a log nor a timestamp is asked for, as with Flux: who trusts a key trusts it for as long as it is configured.
func keyVerifier(way signature.Verifier) (*sigstore.Verifier, error) {
	always := root.NewExpiringKey(way, time.Time{}, time.Time{})
	material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return always, nil })
	return sigstore.NewVerifier(material, sigstore.WithNoObserverTimestamps(), sigstore.WithoutStatementPredicate())
}
