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
	e.checkValuesFrom(h.ValuesFrom)
	e.checkOperations(h)
	e.checkRendering(h)
	e.checkHealthCheckExprs(h.HealthCheckExprs)
	e.checkServiceAccount(h.ServiceAccountName)
	if c := h.KubeConfig; c != nil {
		e.checkKubeConfig(c)
	}
}

// checkRendering checks what is made of the chart's objects, and what is held against them afterwards.
func (e *entry) checkRendering(h *deploy.HelmReleaseSpec) {
	for i, r := range h.PostRenderers {
		e.checkPostRenderer(item("postRenderers", i), r)
	}
	if m := h.CommonMetadata; m != nil {
		e.checkCommonMetadata(m)
	}
	e.checkDriftDetection(h.DriftDetection)
}

// checkDriftDetection checks what is done about what others change.
func (e *entry) checkDriftDetection(d *deploy.DriftDetection) {
	if d == nil {
		return
	}
	e.oneOf("driftDetection.mode", string(d.Mode), string(deploy.DriftEnabled), string(deploy.DriftWarn), string(deploy.DriftDisabled))
	e.checkIgnoreRules("driftDetection.ignore", d.Ignore)
}

func (e *entry) checkPostRenderer(path string, r deploy.PostRenderer) {
	k, at := r.Kustomize, path+".kustomize"
	if k == nil {
		return // said while it was read
	}
	if len(k.Patches) == 0 && len(k.Images) == 0 && !e.brokenBelow(at) {
		e.bad(at, "changes nothing: give patches or images, or drop it")
	}
	e.checkPatches(at+".patches", k.Patches)
	e.checkImages(at+".images", k.Images)
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
