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
	defaultValuesKey     = "values.yaml"
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
	if k.DriftDetection != nil {
		fill(&k.DriftDetection.Mode, deploy.DriftEnabled)
	}
	if k.Rollback != nil {
		fill(&k.Rollback.OnFailure, deploy.OnFailureKeep)
	}
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
	fillValuesFrom(h.ValuesFrom)
	fillOperations(h)
	for _, section := range []**metav1.Duration{&h.Install.Timeout, &h.Upgrade.Timeout, &h.Rollback.Timeout, &h.Uninstall.Timeout, &h.Test.Timeout} {
		fillDuration(section, h.Timeout.Duration)
	}
	fill(&h.DriftDetection.Mode, deploy.DriftDisabled)
}

// fillValuesFrom names the key of objects; a file has none.
func fillValuesFrom(from []deploy.ValuesFrom) {
	for i := range from {
		if from[i].File == "" {
			fill(&from[i].ValuesKey, defaultValuesKey)
		}
	}
}

// fillOperations completes the sections of a release, all but their timeouts. What follows a failure stays unsaid where nothing was said about it.
func fillOperations(h *deploy.HelmReleaseSpec) {
	fillSection(&h.Install)
	fillSection(&h.Upgrade)
	fillSection(&h.Rollback)
	fillSection(&h.Uninstall)
	fillSection(&h.Test)
	fillSection(&h.DriftDetection)
	fill(&h.Install.CRDs, deploy.CRDsCreate)
	fill(&h.Upgrade.CRDs, deploy.CRDsSkip)
	fill(&h.Uninstall.DeletionPropagation, deploy.PropagationBackground)
	fillBool(&h.Install.Replace, true)
	fillStrategy(h.Install.Strategy, h.RetryInterval)
	fillStrategy(h.Upgrade.Strategy, h.RetryInterval)
	if r := h.Install.Remediation; r != nil {
		fillBool(&r.IgnoreTestFailures, h.Test.IgnoreFailures)
		fillBool(&r.RemediateLastFailure, false)
	}
	if r := h.Upgrade.Remediation; r != nil {
		fill(&r.Strategy, deploy.RemediateRollback)
		fillBool(&r.IgnoreTestFailures, h.Test.IgnoreFailures)
		fillBool(&r.RemediateLastFailure, r.Retries > 0)
	}
}

func fillStrategy(s *deploy.Strategy, retryInterval *metav1.Duration) {
	if s != nil && s.Name == deploy.StrategyRetry {
		fillDuration(&s.RetryInterval, retryInterval.Duration)
	}
}

// fillSection makes a section that was not written an empty one.
func fillSection[T any](s **T) {
	if *s == nil {
		*s = new(T)
	}
}

func fillBool(v **bool, fallback bool) {
	if *v == nil {
		*v = &fallback
	}
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
