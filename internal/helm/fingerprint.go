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
	// labelTry is which attempt made the revision: see try.
	labelTry = "towline.dev/attempt"
	// labelRejected is the fingerprint of what was rolled back, on the revision that the rollback made. labelHeld says that somebody did it by hand.
	labelRejected = "towline.dev/rejected"
	labelHeld     = "towline.dev/held"
	// labelTested is how the revision's tests ended.
	labelTested = "towline.dev/tested"
)

// ourLabels are all of them: whoever makes a new revision of an old one copies its labels.
var ourLabels = []string{labelFingerprint, labelRevision, labelTry, labelRejected, labelHeld, labelTested}

// How tests ended.
const (
	testsPassed  = "passed"
	testsFailed  = "failed"
	testsIgnored = "ignored" // failed, and nobody minds
)

// fingerprintVersion changes when the way of hashing does. Old fingerprints then differ, and every release is upgraded once: avoid it.
const fingerprintVersion = "v1"

// fingerprintDigits is the length of each part in hex digits: four parts and the version fit a label's 63 bytes, and 56 bits do not meet by accident.
const fingerprintDigits = 14

// fingerprint is what a release is made of: version.chart.values.place.renderers, each part a hash. Nothing of it depends on the SDK or on rendering, so an update of the agent
// upgrades no release.
type fingerprint string

// fingerprintOf hashes the chart's digest, the values in canonical form, the namespace of the objects, and what is done to them after rendering. What merely steers operations is no
// part of it. The error names bad values without quoting them.
func fingerprintOf(digest string, h *deploy.HelmReleaseSpec, at place) (fingerprint, error) {
	canonical, err := canonicalValues(h.Values)
	if err != nil {
		return "", err
	}
	after := ""
	if len(h.PostRenderers) > 0 || h.CommonMetadata != nil {
		after = deploy.HashOf([]any{h.PostRenderers, h.CommonMetadata})
	}
	return fingerprint(strings.Join([]string{fingerprintVersion, short([]byte(digest)), short(canonical), short([]byte(at.namespace)), short([]byte(after))}, ".")), nil
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
	for i, part := range []string{"", "chart", "values", "targetNamespace", "postRenderers"} {
		if i > 0 && i < len(a) && a[i] != b[i] {
			out = append(out, part)
		}
	}
	return out
}

// labelsOf are the labels of a revision, without labelRevision, which only the storage driver knows.
func labelsOf(t deploy.Target, f fingerprint, number int) map[string]string {
	return map[string]string{deploy.LabelTarget: t.Name.LabelValue(), labelFingerprint: string(f), labelTry: try{number, specOf(t)}.String()}
}
