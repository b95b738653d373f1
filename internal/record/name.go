package record

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"

	"github.com/towline/towline/internal/deploy"
)

// prefix keeps records apart from other ConfigMaps of the namespace.
const prefix = "towline-record."

// maxName is the longest name of a ConfigMap, in bytes (a DNS-1123 subdomain).
const maxName = 253

// label is a DNS-1123 label. It has no dot, so that kind.namespace.name of labels can be read in one way only.
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// objectName is the name of a target's ConfigMap: valid, stable, and different for different targets. Names that are no DNS labels are hashed; having one dot
// less than the others, a hashed name equals none of them.
func objectName(n deploy.Name) string {
	kind := n.Kind.Word()
	plain := prefix + kind + "." + n.Namespace + "." + n.Name
	if label.MatchString(n.Namespace) && label.MatchString(n.Name) && label.MatchString(kind) && len(plain) <= maxName {
		return plain
	}
	sum := sha256.Sum256([]byte(kind + "\x00" + n.Namespace + "\x00" + n.Name))
	return prefix + hex.EncodeToString(sum[:16])
}
