package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/towline/towline/internal/deploy"
)

// rules counts how often this package became stricter: artifacts that an older one accepted are verified again.
const rules = 1

// hash covers what the provider decides with, byte for byte, and nothing else.
func hash(m Material) string {
	type decides struct {
		Rules        int
		Provider     string
		Keys         map[string][]byte     `json:",omitempty"`
		Identities   []deploy.OIDCIdentity `json:",omitempty"`
		TrustedRoot  []byte                `json:",omitempty"`
		TrustPolicy  []byte                `json:",omitempty"`
		Certificates map[string][]byte     `json:",omitempty"`
	}
	d := decides{Rules: rules, Provider: deploy.VerifyCosign, Keys: m.Keys, Identities: m.Identities, TrustedRoot: m.TrustedRoot}
	if m.Provider == deploy.VerifyNotation {
		d = decides{Rules: rules, Provider: m.Provider, TrustPolicy: m.TrustPolicy, Certificates: m.Certificates}
	}
	raw, err := json.Marshal(d) // maps come out in the order of their keys
	if err != nil {
		panic(fmt.Errorf("marshal strings and bytes: %w", err)) // cannot fail
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
