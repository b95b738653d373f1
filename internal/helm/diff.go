package helm

import (
	"context"
	"fmt"
	"io"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"helm.sh/helm/v3/pkg/chart"
	helmkube "helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
)

// Diff says what Apply would change: the release itself first, then the chart's CRDs, then its objects, those that an earlier revision left behind last. Nothing, where the release is
// as wanted. It goes the way of Plan and Apply: observed and decided alike, rendered with the cluster's own capabilities and lookups, labelled alike. Objects are compared with the deployed
// revision's manifest; only those that it does not have are looked up, since Helm takes over what is there. What somebody changed in the cluster by hand is part of it only where
// there is nothing else to do and driftDetection looks for it: neither does an upgrade. Hooks are left out, for they are run and not kept. Nothing is written: CRDs that would be replaced are sent as a dry run, and all else is read.
func (e *Engine) Diff(ctx context.Context, w deploy.Work) ([]deploy.Difference, error) {
	w.Full, w.Asked = true, true // what is remembered, or held back, is no answer to somebody who asks
	p, err := e.Plan(ctx, w)
	if err != nil || p.Empty() {
		return nil, err
	}
	n, ok := p.Private.(note)
	switch {
	case !ok:
		return nil, errUnexpected
	case n.decision.do == doTest:
		return nil, nil
	case n.decision.do == doRepair:
		return n.repairs(), nil
	}
	w = n.work
	var out []deploy.Difference
	err = e.operate(ctx, w.Target, n.place, targetTimeout(w.Target), nil, func(op *operation) (err error) {
		op.secrets.dry, op.log, op.secret = true, zap.NewNop(), n.secret
		op.seed(n.observed)
		out, err = op.compare(w, n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("release %s: %w", n.place, err)
	}
	return out, nil
}

// repairs are the deviations as differences: what the cluster has, and what it would have again.
func (n note) repairs() []deploy.Difference {
	var out []deploy.Difference
	for i, c := range n.changes() {
		d := deploy.Difference{Change: c, After: n.found[i].then}
		if live := n.found[i].live; live != nil {
			d.Before = own(live.DeepCopy())
		} else {
			d.After = n.found[i].Unstructured
		}
		out = append(out, d)
	}
	return out
}

// compare is bring without the doing.
func (op *operation) compare(w deploy.Work, n note) ([]deploy.Difference, error) {
	p, err := prepare(w, n.decision.do)
	if err != nil {
		return nil, err
	}
	if op.cfg.Capabilities, err = op.pool.capabilities(false); err != nil {
		return nil, err
	}
	op.kube.target = w.Target.Name.LabelValue()
	var history []*release.Release
	if len(n.observed) > 0 {
		if history, err = op.history(); err != nil {
			return nil, err
		}
	}
	s := &sketch{op: op}
	if s.replaced = n.sameChart(chartsOf(history), p.chart.Name()); s.replaced != nil {
		n.decision.do, n.decision.recover, n.decision.replace = doInstall, false, true
		if p, err = prepare(w, doInstall); err != nil {
			return nil, err
		}
	}
	if err := op.recover(history, n); err != nil {
		return nil, err
	}
	policy := upgradeCRDs(w.Target)
	if n.decision.do == doInstall {
		policy = installCRDs(w.Target)
	}
	crds, err := s.crds(p.crds, policy)
	if err != nil {
		return nil, err
	}
	rel, err := op.draw(w.Target, p, n, history)
	if err != nil {
		return nil, err
	}
	base := baseOf(n, history)
	if s.replaced != nil {
		base = history[len(history)-1] // which is what an uninstallation looks at
	}
	after, err := s.objects(rel, true)
	if err != nil {
		return nil, err
	}
	before, err := s.objects(base, false)
	if err != nil {
		return nil, err
	}
	out := append([]deploy.Difference{s.release(n, history, base, rel)}, crds...)
	namespace, err := s.namespace(w.Target, n, after)
	if err != nil {
		return nil, err
	}
	out = append(out, namespace...)
	objects, err := s.changes(before, after)
	if err != nil {
		return nil, err
	}
	out = append(out, objects...)
	left, err := op.removeLeftovers(history, []*release.Release{rel}, release.StatusFailed)
	if err != nil {
		return nil, err
	}
	return append(out, s.leftovers(left, out)...), nil
}

// blank keeps the SDK's dry runs from looking at the cluster's objects: the sketch does that, and knows the kinds of CRDs that are not there yet.
type blank struct{ *client }

// Build reads nothing.
func (blank) Build(io.Reader, bool) (helmkube.ResourceList, error) { return nil, nil }

// draw renders what would be sent, with the actions that would send it.
func (op *operation) draw(t deploy.Target, p *prepared, n note, history []*release.Release) (*release.Release, error) {
	op.cfg.KubeClient = blank{op.kube}
	const asIfInEarnest = "server" // lookup finds what is there
	if n.decision.do == doInstall {
		in := op.newInstall(t, n.decision.replace)
		in.DryRun, in.DryRunOption = true, asIfInEarnest
		rel, err := in.RunWithContext(context.Background(), p.chart, p.values) // see install about the context
		return drawn(rel, err, p.chart)
	}
	if err := op.refuseMoved(history); err != nil {
		return nil, err
	}
	up := op.newUpgrade(t)
	up.DryRun, up.DryRunOption = true, asIfInEarnest
	rel, err := up.RunWithContext(context.Background(), op.place.name, p.chart, p.values)
	return drawn(rel, err, p.chart)
}

func drawn(rel *release.Release, err error, c *chart.Chart) (*release.Release, error) {
	if err == nil && rel == nil {
		err = errUnexpected
	}
	if err != nil {
		return nil, fmt.Errorf("render chart %s: %w", c.Name(), err)
	}
	return rel, nil
}

// baseOf is the revision that an upgrade starts from, by Helm's own choice: the deployed one, else the newest. Nil for an installation.
func baseOf(n note, history []*release.Release) *release.Release {
	if n.decision.do == doInstall || len(history) == 0 {
		return nil
	}
	for i := len(history) - 1; i >= 0; i-- {
		if history[i].Info.Status == release.StatusDeployed {
			return history[i]
		}
	}
	return history[len(history)-1]
}

// release is the change of the release itself, shown as an object that says which chart it has.
func (s *sketch) release(n note, history []*release.Release, base, rel *release.Release) deploy.Difference {
	next := 1
	if keeps := orZero(n.work.Target.HelmRelease.Uninstall).KeepHistory; len(history) > 0 && (s.replaced == nil || keeps) {
		next = history[len(history)-1].Version + 1
	}
	d := deploy.Difference{Change: n.decision.changes(s.op.place)[0], After: s.shown(rel, next)}
	if s.replaced != nil {
		d.Action, d.Reason = deploy.ActionRecreate, s.replaced.Error()
	}
	if base != nil {
		d.Before = s.shown(base, base.Version)
		d.Fields = fieldsThatDiffer(d.Before.Object, d.After.Object)
	}
	return d
}

func (s *sketch) shown(r *release.Release, version int) *unstructured.Unstructured {
	id := s.op.place.id()
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": id.Group + "/v3", "kind": id.Kind, "revision": int64(version)}}
	u.SetName(id.Name)
	u.SetNamespace(id.Namespace)
	if r.Chart != nil && r.Chart.Metadata != nil {
		m := r.Chart.Metadata
		u.Object["chart"] = map[string]any{"name": m.Name, "version": m.Version, "appVersion": m.AppVersion}
	}
	return u
}

// namespace is the one that install.createNamespace would make.
func (s *sketch) namespace(t deploy.Target, n note, objects []piece) ([]deploy.Difference, error) {
	if o := t.HelmRelease.Install; n.decision.do != doInstall || o == nil || !o.CreateNamespace {
		return nil, nil
	}
	id := deploy.ObjectID{Kind: "Namespace", Name: s.op.place.namespace}
	for _, o := range objects {
		if o.id == id {
			return nil, nil
		}
	}
	_, err := s.op.kube.set.CoreV1().Namespaces().Get(s.op.ctx, id.Name, metav1.GetOptions{})
	if err == nil {
		return nil, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read %s: %w", id, err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": id.Kind}}
	u.SetName(id.Name)
	u.SetLabels(map[string]string{"name": id.Name}) // as Helm makes it
	return []deploy.Difference{{Change: deploy.Change{Action: deploy.ActionCreate, Object: id, Reason: "install.createNamespace"}, After: u}}, nil
}
