package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/towline/towline/internal/deploy"
)

// hash covers the whole material: an empty provider and cosign are the same, everything else counts byte for byte.
func hash(m Material) string {
	if m.Provider == "" {
		m.Provider = deploy.VerifyCosign
	}
	raw, err := json.Marshal(m) // maps come out in the order of their keys
	if err != nil {
		panic(fmt.Errorf("marshal strings and bytes: %w", err)) // cannot fail
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
