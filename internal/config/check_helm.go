package config

import (
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
)

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
	e.checkReadyExprs(h.DependsOn)
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
	case len(name) > deploy.MaxReleaseName:
		e.bad("releaseName", "%q has %d characters: Helm allows %d", name, len(name), deploy.MaxReleaseName)
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		e.bad("releaseName", "%q is not a release name: want lower-case letters, digits, - and ., with a letter or digit at both ends", name)
	}
}
