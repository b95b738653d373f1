package helm

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
)

// bring makes the release be what was decided, and cleans up behind earlier failures. It returns the revision that it made, and the objects that were removed by the way.
func (op *operation) bring(n note) (version int, removed []deploy.Change, err error) {
	w := n.work
	p, err := prepare(w, n.decision.do)
	if err != nil {
		return 0, nil, err
	}
	if op.cfg.Capabilities, err = op.pool.capabilities(false); err != nil {
		return 0, nil, err
	}
	op.kube.target = w.Target.Name.LabelValue()
	if big(p.chart, p.values) {
		if err := op.measure(n); err != nil {
			return 0, nil, err
		}
	}
	defer op.trim(maxHistory(w.Target))
	var history []*release.Release
	if len(n.observed) > 0 {
		if history, err = op.history(); err != nil {
			return 0, nil, err
		}
		if err := n.sameChart(chartsOf(history), p.chart.Name()); err != nil {
			return 0, nil, err
		}
		if err := op.recover(history, n); err != nil {
			return 0, nil, err
		}
		if err := op.rememberTried(history); err != nil {
			return 0, nil, err
		}
	}
	var rel *release.Release
	if n.decision.do == doInstall {
		rel, err = op.install(w.Target, p, n.decision.replace)
	} else {
		rel, err = op.upgrade(w.Target, p, history)
	}
	if err != nil {
		return 0, nil, err
	}
	if err := op.confirm(rel); err != nil {
		return 0, nil, err
	}
	op.log.Info("release is as wanted", zap.String("did", string(n.decision.changes(op.place)[0].Action)), zap.Int("revision", rel.Version),
		zap.String("chart", p.chart.Name()+" "+p.chart.Metadata.Version), zap.String("because", n.decision.why))
	removed, err = op.removeLeftovers(history, []*release.Release{rel}, release.StatusFailed)
	return rel.Version, removed, err
}

// measure renders a chart as it would be sent, to see whether its record fits a Secret. What cannot be rendered yet, since the chart brings CRDs, is for the operation itself to find out.
func (op *operation) measure(n note) error {
	p, err := prepare(n.work, n.decision.do) // rendering uses a chart up
	if err != nil {
		return err
	}
	cfg := *op.cfg
	cfg.KubeClient, cfg.Releases = blank{op.kube}, storage.Init(driver.NewMemory())
	in := op.newInstall(n.work.Target, true)
	dry := action.NewInstall(&cfg)
	dry.ReleaseName, dry.Namespace, dry.Replace, dry.PostRenderer = in.ReleaseName, in.Namespace, true, in.PostRenderer
	dry.DryRun, dry.DryRunOption, dry.SkipCRDs, dry.SkipSchemaValidation = true, "client", true, true
	rel, err := dry.RunWithContext(context.Background(), p.chart, p.values) // see install about the context
	if err != nil || rel == nil {
		return nil //nolint:nilerr // the operation says it in its own words
	}
	return fits(rel)
}

// chartsOf are the names of the charts that a release has been of since it was last deployed, oldest first.
func chartsOf(history []*release.Release) []string {
	var names []string
	for _, r := range history {
		if r.Chart == nil || r.Chart.Metadata == nil {
			continue
		}
		switch r.Info.Status {
		case release.StatusDeployed, release.StatusSuperseded:
			names = []string{r.Chart.Metadata.Name}
		case release.StatusFailed, release.StatusPendingInstall, release.StatusPendingUpgrade, release.StatusPendingRollback:
			names = append(names, r.Chart.Metadata.Name)
		}
	}
	return names
}

// install runs Helm's install action, over what is uninstalled or never came to be if replace says so.
func (op *operation) install(t deploy.Target, p *prepared, replace bool) (*release.Release, error) {
	crashpoint.At("helm.before-install")
	op.progress(deploy.PhaseApplying, fmt.Sprintf("installing chart %s %s", p.chart.Name(), p.chart.Metadata.Version))
	if err := op.applyCRDs(p.crds, installCRDs(t)); err != nil {
		return nil, err
	}
	// The SDK's own context would only make it return while it goes on: the operation's ends its requests and waits instead.
	return op.newInstall(t, replace).RunWithContext(context.Background(), p.chart, p.values)
}

// newInstall is Helm's install action as the target wants it.
func (op *operation) newInstall(t deploy.Target, replace bool) *action.Install {
	o := t.HelmRelease.Install
	if o == nil {
		o = &deploy.Install{}
	}
	in := action.NewInstall(op.cfg)
	in.ReleaseName, in.Namespace, in.Replace = op.place.name, op.place.namespace, replace
	in.CreateNamespace = o.CreateNamespace
	in.SkipCRDs, in.SkipSchemaValidation = true, true // both are done, above and in prepare
	in.TakeOwnership = !o.DisableTakeOwnership        // of what nobody owns: see client.refuseForeign
	in.Wait, in.WaitForJobs, in.DisableHooks = !o.DisableWait, !o.DisableWait && !o.DisableWaitForJobs, o.DisableHooks
	in.Timeout = op.timeout
	in.PostRenderer = labellerOf(t, op.patch, op.secret)
	return in
}

// installCRDs is what an installation does with the chart's CRDs.
func installCRDs(t deploy.Target) deploy.CRDsPolicy {
	if o := t.HelmRelease.Install; o != nil && o.CRDs != "" {
		return o.CRDs
	}
	return deploy.CRDsCreate
}

// confirm makes sure that the record says what the SDK says: it only logs when it cannot write that the release is deployed.
func (op *operation) confirm(rel *release.Release) error {
	if rel == nil {
		return errUnexpected
	}
	status, err := op.secrets.status(rel.Version)
	if err != nil {
		return err
	}
	if status != string(release.StatusDeployed) {
		return fmt.Errorf("revision %d is installed, but its record could not be written and says %s", rel.Version, status)
	}
	return nil
}
