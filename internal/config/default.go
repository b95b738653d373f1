package config

import (
	"path"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// The defaults, as the comments of the spec types say.
const (
	defaultInterval      = 10 * time.Minute
	defaultTargetTimeout = 5 * time.Minute
	defaultPollTimeout   = time.Minute
	defaultTag           = "latest"
	defaultMaxHistory    = 5
)

// fillDefaults completes the spec, all but its references.
func (e *entry) fillDefaults() {
	switch {
	case e.source != nil:
		fillSource(e.source)
	case e.kustomization != nil:
		fillKustomization(e.kustomization)
	case e.sink != nil:
		fill(&e.sink.EventSeverity, deploy.SeverityInfo)
	default:
		fillHelmRelease(e.helmRelease, e.name)
	}
}

func fill[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}

func fillDuration(d **metav1.Duration, fallback time.Duration) {
	if *d == nil {
		*d = &metav1.Duration{Duration: fallback}
	}
}

func fillSource(s *deploy.SourceSpec) {
	fillDuration(&s.Timeout, defaultPollTimeout)
	if s.Ref == nil {
		s.Ref = &deploy.Ref{}
	}
	if *s.Ref == (deploy.Ref{}) {
		s.Ref.Tag = defaultTag
	}
	if s.LayerSelector == nil {
		s.LayerSelector = &deploy.LayerSelector{}
	}
	fill(&s.LayerSelector.Operation, deploy.OperationExtract)
	fill(&s.Provider, deploy.ProviderGeneric)
	if s.Verify != nil {
		fill(&s.Verify.Provider, deploy.VerifyCosign)
	}
}

func fillKustomization(k *deploy.KustomizationSpec) {
	fillDuration(&k.Interval, defaultInterval)
	fillDuration(&k.RetryInterval, k.Interval.Duration)
	fillDuration(&k.Timeout, defaultTargetTimeout)
	fill(&k.DeletionPolicy, deploy.DeletionMirrorPrune)
	if k.PostBuild != nil {
		fill(&k.PostBuild.SubstituteStrategy, deploy.SubstituteWithVariables)
	}
	k.Path = path.Clean(k.Path) // the root is .
}

func fillHelmRelease(h *deploy.HelmReleaseSpec, name deploy.Name) {
	fillDuration(&h.Interval, defaultInterval)
	fillDuration(&h.RetryInterval, h.Interval.Duration)
	fillDuration(&h.Timeout, defaultTargetTimeout)
	id := deploy.Target{Name: name, HelmRelease: h}.Release()
	h.ReleaseName, h.TargetNamespace, h.StorageNamespace = id.Name, id.Namespace, id.Storage
	if h.MaxHistory == nil {
		n := defaultMaxHistory
		h.MaxHistory = &n
	}
	if h.Install == nil {
		h.Install = &deploy.Install{}
	}
	if h.Upgrade == nil {
		h.Upgrade = &deploy.Upgrade{}
	}
	if h.Uninstall == nil {
		h.Uninstall = &deploy.Uninstall{}
	}
	if h.Rollback == nil {
		h.Rollback = &deploy.Rollback{}
	}
	if h.Test == nil {
		h.Test = &deploy.Test{}
	}
	if h.DriftDetection == nil {
		h.DriftDetection = &deploy.DriftDetection{}
	}
	fillDuration(&h.Install.Timeout, h.Timeout.Duration)
	fillDuration(&h.Rollback.Timeout, h.Timeout.Duration)
	fillDuration(&h.Test.Timeout, h.Timeout.Duration)
	fill(&h.DriftDetection.Mode, deploy.DriftDisabled)
	fill(&h.Uninstall.DeletionPropagation, deploy.PropagationBackground)
	fillDuration(&h.Upgrade.Timeout, h.Timeout.Duration)
	fillDuration(&h.Uninstall.Timeout, h.Timeout.Duration)
	fill(&h.Install.CRDs, deploy.CRDsCreate)
	fill(&h.Upgrade.CRDs, deploy.CRDsSkip)
}

// asSource is the entry as the poller takes it.
func (e *entry) asSource() deploy.Source {
	return deploy.Source{
		Name:     e.name,
		Spec:     *e.source,
		Interval: e.source.Interval.Duration,
		Timeout:  e.source.Timeout.Duration,
		Hash:     deploy.HashOf(e.source),
	}
}

// asSink is the entry as the notifier takes it.
func (e *entry) asSink() deploy.Sink {
	return deploy.Sink{Name: e.name.Name, Namespace: e.name.Namespace, Spec: *e.sink, Hash: deploy.HashOf(e.sink)}
}

// asTarget is the entry as the scheduler takes it, references resolved.
func (e *entry) asTarget() deploy.Target {
	t := deploy.Target{Name: e.name, Source: e.sourceName, DependsOn: e.dependsOn, ReadyExprs: e.readyExprs, Kustomization: e.kustomization, HelmRelease: e.helmRelease}
	if k := e.kustomization; k != nil {
		t.Interval, t.RetryInterval, t.Timeout, t.Suspend = k.Interval.Duration, k.RetryInterval.Duration, k.Timeout.Duration, k.Suspend
		t.Hash = deploy.HashOf(k)
		return t
	}
	h := e.helmRelease
	t.Interval, t.RetryInterval, t.Timeout, t.Suspend = h.Interval.Duration, h.RetryInterval.Duration, h.Timeout.Duration, h.Suspend
	t.Hash = deploy.HashOf(h)
	return t
}
