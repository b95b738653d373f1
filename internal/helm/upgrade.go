package helm

import (
	"context"
	"fmt"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
)

// upgrade runs Helm's upgrade action.
func (op *operation) upgrade(t deploy.Target, p *prepared, history []*release.Release) (*release.Release, error) {
	if err := op.refuseMoved(history); err != nil {
		return nil, err
	}
	crashpoint.At("helm.before-upgrade")
	op.progress(deploy.PhaseApplying, fmt.Sprintf("upgrading to chart %s %s", p.chart.Name(), p.chart.Metadata.Version))
	if err := op.applyCRDs(p.crds, upgradeCRDs(t)); err != nil {
		return nil, err
	}
	return op.newUpgrade(t).RunWithContext(context.Background(), op.place.name, p.chart, p.values) // see install about the context
}

// refuseMoved fails where the release has its objects in another namespace: Helm would send them to the new one and forget those in the old one.
func (op *operation) refuseMoved(history []*release.Release) error {
	if len(history) == 0 {
		return nil
	}
	if last := history[len(history)-1]; last.Namespace != op.place.namespace {
		return fmt.Errorf("release %s has its objects in namespace %s, not %s: uninstall it first (helm uninstall --namespace %s %s), or restore targetNamespace",
			op.place, last.Namespace, op.place.namespace, op.place.storage, op.place.name)
	}
	return nil
}

// newUpgrade is Helm's upgrade action as the target wants it.
func (op *operation) newUpgrade(t deploy.Target) *action.Upgrade {
	o := t.HelmRelease.Upgrade
	if o == nil {
		o = &deploy.Upgrade{}
	}
	up := action.NewUpgrade(op.cfg)
	up.Namespace = op.place.namespace
	up.MaxHistory = 0                                                    // see trim
	up.ResetValues, up.ReuseValues = !o.PreserveValues, o.PreserveValues // no values means no values; by default Helm would take the last revision's
	up.SkipCRDs, up.SkipSchemaValidation = true, true
	up.TakeOwnership, up.Force = !o.DisableTakeOwnership, o.Force
	up.Wait, up.WaitForJobs, up.DisableHooks = !o.DisableWait, !o.DisableWait && !o.DisableWaitForJobs, o.DisableHooks
	up.CleanupOnFail = o.CleanupOnFail
	up.Timeout = op.timeout
	up.PostRenderer = labellerOf(t, op.patch, op.secret)
	return up
}

// upgradeCRDs is what an upgrade does with the chart's CRDs.
func upgradeCRDs(t deploy.Target) deploy.CRDsPolicy {
	if o := t.HelmRelease.Upgrade; o != nil && o.CRDs != "" {
		return o.CRDs
	}
	return deploy.CRDsSkip
}
