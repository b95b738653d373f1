package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
)

// maxLabelValue is the longest label value that Kubernetes takes, in bytes.
const maxLabelValue = 63

// LabelValue is the name as the value of LabelTarget: kind.namespace.name, or where that is too long its beginning and 16 hex digits of its SHA-256.
func (n Name) LabelValue() string {
	s := n.Kind.Word() + "." + n.Namespace + "." + n.Name
	if len(s) <= maxLabelValue {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	tail := "-" + hex.EncodeToString(sum[:8])
	return strings.TrimRight(s[:maxLabelValue-len(tail)], "-._") + tail
}

// LabelledTarget is a value of LabelTarget as people write targets, kind/namespace/name. One that was too long stays as it is.
func LabelledTarget(value string) string {
	parts := strings.Split(value, ".") // none of the three has dots
	if len(parts) != 3 || len(value) == maxLabelValue {
		return value
	}
	return strings.Join(parts, "/")
}

// HashOf is a short, stable digest of a value's JSON: 32 hex digits. The value must be marshalable.
func HashOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("deploy: hash of a value that is not JSON: " + err.Error()) // only specs of this package are hashed
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
