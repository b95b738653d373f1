package deploy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
)

// MaxReleaseName is Helm's limit for a release's name, in bytes: 63 of a label less what charts append.
const MaxReleaseName = 53

// ReleaseID says which Helm release a target is: two targets with equal ids are the same release.
type ReleaseID struct {
	Name      string
	Namespace string
	// Storage is the namespace of Helm's records.
	Storage string
}

// Release is the id of a HelmRelease target with Flux's defaults filled in; the zero value for other targets.
func (t Target) Release() ReleaseID {
	h := t.HelmRelease
	if h == nil {
		return ReleaseID{}
	}
	name := h.ReleaseName
	if name == "" {
		name = t.Name.Name
		if h.TargetNamespace != "" {
			name = h.TargetNamespace + "-" + name
		}
	}
	return ReleaseID{
		Name:      shortReleaseName(name),
		Namespace: cmp.Or(h.TargetNamespace, t.Name.Namespace),
		Storage:   cmp.Or(h.StorageNamespace, t.Name.Namespace),
	}
}

// shortReleaseName shortens a name that Helm would refuse as Flux does: 40 characters, a dash and 12 hex digits of the SHA-256 of the whole.
func shortReleaseName(name string) string {
	if len(name) <= MaxReleaseName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:40] + "-" + hex.EncodeToString(sum[:])[:12]
}
