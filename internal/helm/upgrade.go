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
	o := t.HelmRelease.Upgrade
	if o == nil {
		o = &deploy.Upgrade{}
	}
	policy := o.CRDs
	if policy == "" {
		policy = deploy.CRDsSkip
	}
	if len(history) > 0 {
		// Helm would send the objects to the new namespace and forget those in the old one.
		if last := history[len(history)-1]; last.Namespace != op.place.namespace {
			return nil, fmt.Errorf("release %s has its objects in namespace %s, not %s: uninstall it first (helm uninstall --namespace %s %s), or restore targetNamespace",
				op.place, last.Namespace, op.place.namespace, op.place.storage, op.place.name)
		}
	}
	crashpoint.At("helm.before-upgrade")
	op.progress(deploy.PhaseApplying, fmt.Sprintf("upgrading to chart %s %s", p.chart.Name(), p.chart.Metadata.Version))
	if err := op.applyCRDs(p.crds, policy); err != nil {
		return nil, err
	}
	up := action.NewUpgrade(op.cfg)
	up.Namespace = op.place.namespace
	up.MaxHistory = 0     // see trim
	up.ResetValues = true // no values means no values; by default Helm would take the last revision's
	up.SkipCRDs, up.SkipSchemaValidation = true, true
	up.TakeOwnership = true
	up.Wait, up.WaitForJobs, up.DisableHooks = !o.DisableWait, !o.DisableWait && !o.DisableWaitForJobs, o.DisableHooks
	up.CleanupOnFail = o.CleanupOnFail
	up.Timeout = op.timeout
	up.PostRenderer = labeller{value: t.Name.LabelValue()}
	return up.RunWithContext(context.Background(), op.place.name, p.chart, p.values) // see install about the context
}
