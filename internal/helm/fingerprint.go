package helm

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// Labels of ours on Helm's release Secrets, beside deploy.LabelTarget.
const (
	// labelFingerprint says what a revision was made of.
	labelFingerprint = "towline.dev/fingerprint"
	// labelRevision is the revision that the labels were written for. Other Helm clients copy labels from one revision to the next: a copy
	// shows by naming another revision than it stands on.
	labelRevision = "towline.dev/revision"
)

// fingerprintVersion changes when the way of hashing does. Old fingerprints then differ, and every release is upgraded once: avoid it.
const fingerprintVersion = "v1"

// fingerprintDigits is the length of each part in hex digits: three parts and the version fit a label's 63 bytes, and 64 bits never meet by accident.
const fingerprintDigits = 16

// fingerprint is what a release is made of: version.chart.values.place, each part a hash. Nothing of it depends on the SDK or on rendering, so an update of the agent
// upgrades no release.
type fingerprint string

// fingerprintOf hashes the chart's digest, the values in canonical form and the namespace of the objects. The error names bad values without quoting them.
func fingerprintOf(digest string, values deploy.Values, at place) (fingerprint, error) {
	canonical, err := canonicalValues(values)
	if err != nil {
		return "", err
	}
	return fingerprint(strings.Join([]string{fingerprintVersion, short([]byte(digest)), short(canonical), short([]byte(at.namespace))}, ".")), nil
}

func short(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])[:fingerprintDigits]
}

// differences names the parts in which two fingerprints differ; nothing where the other one is not of this version.
func (f fingerprint) differences(other fingerprint) []string {
	a, b := strings.Split(string(f), "."), strings.Split(string(other), ".")
	if len(a) != len(b) || a[0] != b[0] {
		return nil
	}
	var out []string
	for i, part := range []string{"", "chart", "values", "targetNamespace"} {
		if i > 0 && a[i] != b[i] {
			out = append(out, part)
		}
	}
	return out
}

// labelsOf are the labels of a revision, without labelRevision, which only the storage driver knows.
func labelsOf(t deploy.Target, f fingerprint) map[string]string {
	return map[string]string{deploy.LabelTarget: t.Name.LabelValue(), labelFingerprint: string(f)}
}
