package config

import (
	"crypto/sha256"
	"encoding/hex"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
)

// maxReleaseName is Helm's limit in characters: 63 of a label less what charts append.
const maxReleaseName = 53

func (e *entry) checkHelmRelease(h *deploy.HelmReleaseSpec) {
	e.checkDuration("interval", h.Interval)
	e.checkDuration("retryInterval", h.RetryInterval)
	e.checkDuration("timeout", h.Timeout)
	e.checkLabel("targetNamespace", h.TargetNamespace)
	e.checkLabel("storageNamespace", h.StorageNamespace)
	e.checkReleaseName(h.ReleaseName)
	if h.MaxHistory != nil && *h.MaxHistory < 0 {
		e.bad("maxHistory", "%d is negative: want the number of revisions to keep, 0 for all", *h.MaxHistory)
	}
	policies := []string{string(deploy.CRDsSkip), string(deploy.CRDsCreate), string(deploy.CRDsCreateReplace)}
	if i := h.Install; i != nil {
		e.checkDuration("install.timeout", i.Timeout)
		e.oneOf("install.crds", string(i.CRDs), policies...)
	}
	if u := h.Upgrade; u != nil {
		e.checkDuration("upgrade.timeout", u.Timeout)
		e.oneOf("upgrade.crds", string(u.CRDs), policies...)
	}
	if u := h.Uninstall; u != nil {
		e.checkDuration("uninstall.timeout", u.Timeout)
	}
}

func (e *entry) checkReleaseName(name string) {
	switch {
	case name == "":
		if _, written := e.places["releaseName"]; written {
			e.bad("releaseName", "is empty: drop it for the default, [targetNamespace-]name")
		}
	case len(name) > maxReleaseName:
		e.bad("releaseName", "%q has %d characters: Helm allows %d", name, len(name), maxReleaseName)
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		e.bad("releaseName", "%q is not a release name: want lower-case letters, digits, - and ., with a letter or digit at both ends", name)
	}
}

// defaultReleaseName is [targetNamespace-]name as in Flux: what is too long keeps 40 characters and gets 12 hex digits of its SHA-256.
func defaultReleaseName(targetNamespace, name string) string {
	if targetNamespace != "" {
		name = targetNamespace + "-" + name
	}
	if len(name) <= maxReleaseName {
		return name
	}
	const hexDigits = 12
	sum := sha256.Sum256([]byte(name))
	return name[:maxReleaseName-hexDigits-1] + "-" + hex.EncodeToString(sum[:])[:hexDigits]
}
