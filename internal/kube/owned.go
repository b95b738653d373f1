package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// OwnedHash digests which fields a manager owns through an operation, 32 hex digits, or "" where it owns none. As long as the hash stays the same, nobody
// has taken a field from the manager or removed one; foreign fields, status and values that only the manager itself can write do not enter it.
func OwnedHash(entries []metav1.ManagedFieldsEntry, manager string, operation metav1.ManagedFieldsOperationType) string {
	h := sha256.New()
	found := false
	for _, m := range entries {
		if m.Manager != manager || m.Operation != operation || m.Subresource != "" || m.FieldsV1 == nil {
			continue
		}
		// The order of keys depends on who decoded the object; one pass through a map makes it alphabetical.
		var fields map[string]any
		if json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields) != nil {
			continue // the API server validates the set: not reachable with a real one
		}
		b, err := json.Marshal(fields)
		if err != nil {
			continue
		}
		found = true
		h.Write([]byte(m.APIVersion))
		h.Write(b)
	}
	if !found {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
