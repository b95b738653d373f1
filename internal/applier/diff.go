package applier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// Diff says what an attempt for the work would change in the cluster: the plan of a full run, with each apply of it sent as a dry run of the server. It writes
// nothing, and a later attempt of the same engine knows nothing of it. What the server would leave as it is, is left out; an object that could not be compared has an
// error of its own. In the order of the plan.
func (e *Engine) Diff(ctx context.Context, w deploy.Work) ([]deploy.Difference, error) {
	w.Full = true
	mode := driftMode(w.Target)
	w.Target = minding(w.Target)
	aside := e.aside()
	p, err := aside.Plan(ctx, w)
	var blocked *blockedError
	if errors.As(err, &blocked) { // say nevertheless what would go
		p, err = aside.Plan(ctx, unblocked(w))
	}
	if err != nil || p.Empty() {
		return nil, err
	}
	n, _ := p.Private.(*note) // a plan with changes has it
	here, err := aside.site(ctx, w.Target)
	if err != nil {
		return nil, failure(ctx, deploy.ReasonPlanFailed, err)
	}
	r, err := here.newRun(ctx, n, nil)
	if err != nil {
		return nil, failure(ctx, deploy.ReasonPlanFailed, err)
	}
	if blocked != nil {
		n.blocked = blocked
	}
	v := newPreview(r)
	all := make([]*deploy.Difference, len(p.Changes))
	if err := here.each(ctx, len(p.Changes), func(i int) { all[i] = v.change(ctx, p.Changes[i]) }); err != nil {
		return nil, failure(ctx, deploy.ReasonPlanFailed, err)
	}
	var out []deploy.Difference
	for _, d := range all {
		if d == nil {
			continue
		}
		if mode != deploy.DriftEnabled && n.isDrift(d.Object) {
			d.Action = deploy.ActionDrift
		}
		out = append(out, *d)
	}
	return out, nil
}

// minding is the target as if drift of it were to be put right, so that it is seen.
func minding(t deploy.Target) deploy.Target {
	if driftMode(t) == deploy.DriftEnabled {
		return t
	}
	spec := *t.Kustomization
	d := *spec.DriftDetection
	d.Mode = deploy.DriftEnabled
	spec.DriftDetection = &d
	t.Kustomization = &spec
	return t
}

// isDrift reports whether an object of the plan was applied as it is rendered, and is not so any more.
func (n *note) isDrift(o deploy.ObjectID) bool {
	for id := range n.drifts {
		if objectID(id) == o {
			return true
		}
	}
	return false
}

// aside is the engine without a memory of its own: what is planned there is neither settled nor waited for. The inventories are the same; they are only read.
func (e *Engine) aside() *Engine {
	return (&Engine{own: e.own, clusters: e.clusters, build: e.build, store: e.store, log: zap.NewNop(), slots: e.slots}).blank()
}

// unblocked is the work with leave to prune everything.
func unblocked(w deploy.Work) deploy.Work {
	spec := *w.Target.Kustomization
	spec.AllowMassPrune = w.Revision.Digest
	w.Target.Kustomization = &spec
	return w
}

// preview asks the server what a run would do.
type preview struct {
	*run
	rendered map[deploy.ObjectID]*unstructured.Unstructured
	doomed   map[deploy.ObjectID]verdict
	// namespaces and crds are those that the target makes itself.
	namespaces map[string]bool
	crds       []*unstructured.Unstructured
}

func newPreview(r *run) *preview {
	v := &preview{
		run: r, rendered: map[deploy.ObjectID]*unstructured.Unstructured{}, doomed: map[deploy.ObjectID]verdict{}, namespaces: map[string]bool{},
	}
	for _, u := range r.note.render.objects {
		v.rendered[deploy.IDOf(u)] = u
		switch {
		case object.IsKindNamespace(u):
			v.namespaces[u.GetName()] = true
		case object.IsCRD(u):
			v.crds = append(v.crds, u)
		}
	}
	for _, d := range r.note.drop {
		v.doomed[objectID(d.id)] = d
	}
	return v
}

// change is what becomes of one change of the plan; nil where nothing does.
func (v *preview) change(ctx context.Context, c deploy.Change) *deploy.Difference {
	if d, ok := v.doomed[c.Object]; ok {
		return v.prune(ctx, c, d)
	}
	if c.Action == deploy.ActionWait {
		return nil // nothing is sent
	}
	u := v.rendered[c.Object]
	if c.Err != nil || u == nil {
		return &deploy.Difference{Change: c}
	}
	return v.apply(ctx, c, u)
}

// prune tells of a dropped object. What is gone already changes nothing in the cluster.
func (v *preview) prune(ctx context.Context, c deploy.Change, d verdict) *deploy.Difference {
	out := &deploy.Difference{Change: c}
	switch {
	case d.err != nil:
		return out
	case d.live == nil:
		return nil
	}
	out.Before = visible(d.live)
	keep := func(why string) *deploy.Difference {
		out.Action, out.Reason, out.Err, out.After = deploy.ActionKeep, why, nil, out.Before
		return out
	}
	switch d.fate {
	case fateKeep, fateRelease, fateForget:
		return keep(d.why)
	}
	if heir, ok := v.engine.store.heir(v.info, d.id); ok {
		return keep("it passes to " + heir.target)
	}
	if v.note.blocked != nil {
		out.Blocked = true
		return keep(v.note.blocked.Error())
	}
	if object.IsKindNamespace(d.live) {
		var needed *neededError
		if err := v.inhabited(ctx, d.live.GetName()); errors.As(err, &needed) {
			return keep(needed.why)
		} else if err != nil {
			out.Err = err
		}
	}
	return out
}

// apply sends an object as a run would, but as a dry run.
func (v *preview) apply(ctx context.Context, c deploy.Change, u *unstructured.Unstructured) *deploy.Difference {
	out := &deploy.Difference{Change: c}
	id := object.UnstructuredToObjMetadata(u)
	live, err := v.live(ctx, u)
	fail := func(err error) *deploy.Difference {
		out.Err = explain(live, explain(u, err))
		return out
	}
	if err != nil {
		return fail(fmt.Errorf("read it: %w", err))
	}
	m := v.note.modes[id]
	if live == nil {
		out.Action = deploy.ActionCreate
		if why := m.and(v.note.render.modes[id]).skip; why != "" {
			out.Action, out.Reason = deploy.ActionSkip, why
			return out
		}
	} else {
		out.Action, out.Before = deploy.ActionUpdate, visible(live)
		m = m.and(v.note.render.modes[id]).and(modeOf(live))
		if why := cmp.Or(m.skip, m.once); why != "" {
			out.Action, out.Reason, out.After = deploy.ActionSkip, why, out.Before
			return out
		}
	}
	after, err := v.dryRun(ctx, u)
	switch {
	case err != nil && live == nil && v.early(u, err):
		out.After = visible(u)
		return out
	case err != nil && live != nil && v.recreatable(u, m, err):
		out.Action, out.Reason = deploy.ActionRecreate, strings.Join(shownFields(u, immutable(err)), ", ")+" cannot be changed"
		if after, err = v.anew(ctx, u); err != nil {
			return fail(err)
		}
	case err != nil:
		return fail(err)
	case live != nil && !m.merge:
		if after, err = settled(after, u, v.note.render.ignored[id]); err != nil {
			return fail(err)
		}
	}
	out.After = visible(after)
	if live == nil {
		return out
	}
	if out.Fields = differing(closed(out.Before, out.After)); len(out.Fields) == 0 {
		return nil
	}
	return out
}

// recreatable reports whether a run would delete and create an object that the server refuses to change.
func (v *preview) recreatable(u *unstructured.Unstructured, m mode, err error) bool {
	_, never := protected[u.GroupVersionKind().GroupKind()]
	return len(immutable(err)) > 0 && (m.force || v.target.Kustomization.Force) && !never
}

// anew is what the server would make of an object if it were not there.
func (v *preview) anew(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	gvk := u.GroupVersionKind()
	mapping, err := v.clients.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	after, err := v.clients.Dynamic.Resource(mapping.Resource).Namespace(u.GetNamespace()).
		Create(ctx, stand(u), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: deploy.FieldManager})
	if err != nil {
		return nil, fmt.Errorf("the server would not take the new object: %w", err)
	}
	after.SetName(u.GetName())
	return after, nil
}

// early reports whether the server refused an object only because what it needs is made by the same run, before it.
func (v *preview) early(u *unstructured.Unstructured, err error) bool {
	if meta.IsNoMatchError(err) {
		for _, crd := range v.crds {
			if gk, ok := object.GetCRDGroupKind(crd); ok && gk == u.GroupVersionKind().GroupKind() {
				return true
			}
		}
		return false
	}
	return apierrors.IsNotFound(err) && v.namespaces[u.GetNamespace()]
}

// live is the object in the cluster; nil where it, or its kind, is not there.
func (v *preview) live(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	gvk := u.GroupVersionKind()
	mapping, err := v.clients.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	live, err := v.clients.Dynamic.Resource(mapping.Resource).Namespace(u.GetNamespace()).Get(ctx, u.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return live, err
}

// dryRun is what the server would make of an apply. As in a run, an object that is not known to be ours is looked at before it is taken.
func (v *preview) dryRun(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	id := object.UnstructuredToObjMetadata(u)
	uid := string(v.note.apply[id].uid)
	pre := precondition{create: uid == "", uid: uid}
	var after *unstructured.Unstructured
	err := retryPausing(ctx, v.engine.pause, transient, func() error {
		var err error
		if after, err = v.try(ctx, u, pre); pre.violated(err) {
			if pre, _, err = v.claim(ctx, id); err != nil {
				return err
			}
			after, err = v.try(ctx, u, pre)
		}
		return err
	})
	return after, err
}

// try applies once, with what a run would send.
func (v *preview) try(ctx context.Context, u *unstructured.Unstructured, pre precondition) (*unstructured.Unstructured, error) {
	body, pre, err := v.body(ctx, u, pre)
	if err != nil {
		return nil, err
	}
	gvk := u.GroupVersionKind()
	mapping, err := v.clients.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	text, err := pre.on(body).MarshalJSON()
	if err != nil {
		return nil, err
	}
	force := true
	return v.clients.Dynamic.Resource(mapping.Resource).Namespace(u.GetNamespace()).Patch(ctx, u.GetName(), types.ApplyPatchType, text,
		metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: deploy.FieldManager, Force: &force})
}
