package flux

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// Flux's defaults for releases, where ours are the same and a field need not be written.
const (
	releaseTimeout = 5 * time.Minute
	maxHistory     = 5
	valuesKey      = "values.yaml"
)

// helmRelease is the spec as Flux takes it.
func (w *writer) helmRelease(t deploy.Target) any {
	spec := *t.HelmRelease
	spec.ChartRef = w.reference(t.Source)
	spec.DependsOn = w.dependencies(t)
	retry := spec.RetryInterval
	if retry != nil && spec.Interval != nil && *retry == *spec.Interval {
		spec.RetryInterval = nil
	}
	timeout := releaseTimeout
	if spec.Timeout != nil {
		timeout = spec.Timeout.Duration
	}
	unless(&spec.Timeout, releaseTimeout)
	if spec.MaxHistory != nil && *spec.MaxHistory == maxHistory {
		spec.MaxHistory = nil
	}
	w.names(t, &spec)
	spec.ValuesFrom = w.valuesFrom(spec.ValuesFrom)
	operations(&spec, timeout, retry)
	if k := spec.KubeConfig; k != nil {
		spec.KubeConfig = w.kubeConfig(*k)
		spec.Suspend = spec.Suspend || k.Context != ""
	}
	return spec
}

// operations leaves out of the sections what Flux would choose by itself, and writes what only we would. Where nothing was said about failures, we try again and undo nothing, and Flux
// would give up after the first.
func operations(spec *deploy.HelmReleaseSpec, timeout time.Duration, retry *metav1.Duration) {
	ignore := spec.Test != nil && spec.Test.IgnoreFailures
	install := section(spec.Install)
	unless(&install.Timeout, timeout)
	install.CRDs = other(install.CRDs, deploy.CRDsCreate)
	install.Replace = replace(install.Replace)
	if r := install.Remediation; r != nil {
		own := *r
		own.IgnoreTestFailures, own.RemediateLastFailure = notDefault(r.IgnoreTestFailures, ignore), notDefault(r.RemediateLastFailure, false)
		install.Remediation = &own
	}
	install.Strategy = strategyOf(install.Strategy, install.Remediation != nil, retry)
	spec.Install = install

	upgrade := section(spec.Upgrade)
	unless(&upgrade.Timeout, timeout)
	upgrade.CRDs = other(upgrade.CRDs, deploy.CRDsSkip)
	if r := upgrade.Remediation; r != nil {
		own := *r
		own.Strategy = other(own.Strategy, deploy.RemediateRollback)
		own.IgnoreTestFailures, own.RemediateLastFailure = notDefault(r.IgnoreTestFailures, ignore), notDefault(r.RemediateLastFailure, r.Retries > 0)
		upgrade.Remediation = &own
	}
	upgrade.Strategy = strategyOf(upgrade.Strategy, upgrade.Remediation != nil, retry)
	spec.Upgrade = upgrade

	rollback, uninstall, test, drift := section(spec.Rollback), section(spec.Uninstall), section(spec.Test), section(spec.DriftDetection)
	unless(&rollback.Timeout, timeout)
	unless(&uninstall.Timeout, timeout)
	unless(&test.Timeout, timeout)
	uninstall.DeletionPropagation = other(uninstall.DeletionPropagation, deploy.PropagationBackground)
	drift.Mode = other(drift.Mode, deploy.DriftDisabled)
	spec.Rollback, spec.Uninstall, spec.Test, spec.DriftDetection = rollback, uninstall, test, drift
}

// section is a copy, empty where there is none: what is empty is not written.
func section[T any](s *T) *T {
	out := new(T)
	if s != nil {
		*out = *s
	}
	return out
}

// strategyOf writes our default, which is not Flux's: without remediation it is tried again for ever.
func strategyOf(s *deploy.Strategy, remediated bool, retry *metav1.Duration) *deploy.Strategy {
	if s == nil && remediated {
		return nil
	}
	if s == nil {
		s = &deploy.Strategy{Name: deploy.StrategyRetry}
	}
	out := *s
	if out.Name == deploy.StrategyRetry && out.RetryInterval == nil {
		out.RetryInterval = retry
	}
	return &out
}

// replace is our default, true; Flux's is false.
func replace(v *bool) *bool {
	yes := true
	if v == nil || *v {
		return &yes
	}
	return nil
}

// notDefault is the value, unless that is the default.
func notDefault(v *bool, fallback bool) *bool {
	if v == nil || *v == fallback {
		return nil
	}
	return v
}

// valuesFrom puts Secrets in the place of files: without them Flux would install other values.
func (w *writer) valuesFrom(from []deploy.ValuesFrom) (out []deploy.ValuesFrom) {
	for i, f := range from {
		if f.File != "" {
			f.Kind, f.Name, f.File, f.ValuesKey = "Secret", fmt.Sprintf("%s-values-%d", w.entry.Name, i), "", ""
			w.lose(fmt.Sprintf("valuesFrom[%d].file", i),
				fmt.Sprintf("is on this machine, and Flux reads objects only: put it into Secret %s/%s under the key %s", w.entry.Namespace, f.Name, valuesKey))
		}
		f.ValuesKey = other(f.ValuesKey, valuesKey)
		out = append(out, f)
	}
	return out
}

// names leaves out those that Flux would choose by itself.
func (w *writer) names(t deploy.Target, spec *deploy.HelmReleaseSpec) {
	is := t.Release()
	for _, field := range []*string{&spec.TargetNamespace, &spec.StorageNamespace} {
		if *field == w.entry.Namespace {
			*field = ""
		}
	}
	spec.ReleaseName = ""
	if (deploy.Target{Name: t.Name, HelmRelease: spec}).Release().Name != is.Name {
		spec.ReleaseName = is.Name
	}
}
