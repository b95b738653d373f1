package applier

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// Why an object is applied, in the words of Change.Reason.
const (
	reasonNew         = "new"
	reasonChanged     = "changed"
	reasonUnconfirmed = "not known to be applied" // an earlier run failed, was cut off, or did not see it healthy
	reasonMissing     = "missing in the cluster"
	reasonReplaced    = "replaced by somebody else"
	reasonDrifted     = "drifted"
	reasonUnknown     = "could not be compared"
	reasonDropped     = "no longer in the artifact"
	reasonGone        = "no longer in the artifact, gone from the cluster"
	reasonByHand      = "changed with kubectl"
	reasonResumed     = "no longer left alone"
)

// note is what Plan leaves for Apply.
type note struct {
	work   deploy.Work
	info   info
	render *rendered
	// apply has the objects that are sent, with what the inventory knows of each; all others are as wanted.
	apply map[object.ObjMetadata]entry
	drop  []verdict
	// skip has the objects that somebody wants to be left alone and that are not recorded as such yet, with what is to be recorded.
	skip map[object.ObjMetadata]entry
	// modes of the objects that are sent and have marks; unread are those whose marks in the cluster could not be read, or which may belong to others.
	modes  map[object.ObjMetadata]mode
	unread map[object.ObjMetadata]bool
	// drifts are the objects that are sent only because somebody changed them.
	drifts map[object.ObjMetadata]bool
	// strangers are the rendered objects that the inventory does not know.
	strangers map[object.ObjMetadata]bool
	// held are the uids of the rendered objects that the inventory knows: they must not be deleted under another name.
	held map[types.UID]bool
	// blocked is why nothing is pruned though there is something to prune; nil where it is within the limit.
	blocked *blockedError
	// ailing are objects to which nothing is sent, but which are not healthy.
	ailing map[object.ObjMetadata]sighting
	// looked: what is not in ailing was healthy when the plan was made.
	looked bool
}

// verdict is what becomes of a dropped object.
type verdict struct {
	dropped
	fate fate
	why  string
}

// Plan compares what the target renders with what the inventory remembers, and where work.Full is set with the cluster. An unchanged target costs no request.
func (e *Engine) Plan(ctx context.Context, w deploy.Work) (*deploy.Plan, error) {
	p, err := e.plan(ctx, w)
	return p, e.missingAccount(ctx, w.Target, err)
}

func (e *Engine) plan(ctx context.Context, w deploy.Work) (*deploy.Plan, error) {
	spec := w.Target.Kustomization
	if spec == nil {
		return nil, &deploy.Failure{Reason: deploy.ReasonPlanFailed, Err: fmt.Errorf("%s is not a kustomization", w.Target.Name)}
	}
	p := &deploy.Plan{Target: w.Target.Name, Digest: w.Revision.Digest}
	if !w.Full && e.isSettled(w) {
		return p, nil
	}
	if f := e.refused(w); f != nil {
		p.Changes, p.Private = f.changes, f
		return p, nil
	}
	e.depart(w.Target.Name)
	defer func() {
		if p.Empty() {
			e.land(w.Target.Name) // else its apply does
		}
	}()
	built, err := e.build.Build(ctx, w.Target, w.Revision.Dir)
	if err != nil {
		return nil, failure(ctx, deploy.ReasonBuildFailed, err)
	}
	here, err := e.site(ctx, w.Target)
	if err != nil {
		return nil, failure(ctx, deploy.ReasonPlanFailed, err)
	}
	n := &note{work: w, info: e.info(w.Target)}
	if n.render, err = here.prepare(ctx, n.info, w.Target, built); err != nil {
		return nil, failure(ctx, deploy.ReasonBuildFailed, err)
	}
	here.grasp(w.Target.Name, n.render)
	known, err := e.store.read(ctx, n.info)
	if err != nil {
		return nil, failure(ctx, deploy.ReasonPlanFailed, err)
	}
	if ids := n.repairs(known); len(ids) > 0 {
		if err := here.planRepair(ctx, p, n, known, ids); err != nil {
			return nil, failure(ctx, deploy.ReasonPlanFailed, err)
		}
		return p, nil
	}
	gone := droppedIDs(n.render, known, w.Full)
	if blocked := emptyGuard(w, n.render, gone, known); blocked != nil {
		return nil, blocked
	}
	v := view{target: w.Target.Name, render: n.render, known: known, version: "0"}
	if w.Full {
		v.version = ""
	}
	live, err := here.observe(ctx, v, regarded(n.render, known, w.Full))
	if err != nil {
		return nil, failure(ctx, deploy.ReasonPlanFailed, err)
	}
	found, err := here.fetch(ctx, gone)
	if err != nil {
		return nil, failure(ctx, deploy.ReasonPlanFailed, err)
	}
	p.Objects = n.render.objects
	p.Changes = append(n.decideApply(known, live), n.decideDrop(known, found, spec.Prune)...)
	if err := n.limitPrune(known, p.Changes, func(id object.ObjMetadata) bool { _, ok := e.store.heir(n.info, id); return ok }); err != nil {
		return nil, failure(ctx, deploy.ReasonPlanFailed, err)
	}
	if w.Full || p.Empty() { // else the apply looks
		ailing, err := here.lookAfter(ctx, n, known)
		if err != nil {
			return nil, failure(ctx, deploy.ReasonPlanFailed, err)
		}
		p.Changes = append(p.Changes, ailing...)
	}
	p.Private = n
	if p.Empty() && len(n.render.unsureKinds) == 0 { // of an unsure kind there may be something to prune
		e.setSettled(w, true)
	}
	return p, nil
}

// droppedIDs are the objects of the inventory that are not rendered, sorted. Kept ones are looked at again only by a full run. Where the scope of a kind is unknown
// now, an object of it cannot be said to have been dropped.
func droppedIDs(r *rendered, known entries, full bool) []object.ObjMetadata {
	var ids []object.ObjMetadata
	for id, e := range known {
		_, wanted := r.hashes[id]
		if wanted || r.unsureKinds[id.GroupKind] || e.kept && !full {
			continue
		}
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

// decideDrop says what becomes of each dropped object. One that is still kept for the same reason is not news.
func (n *note) decideDrop(known entries, found []dropped, prune bool) []deploy.Change {
	var changes []deploy.Change
	for _, d := range found {
		if d.err != nil && known[d.id].kept {
			continue // it would stay anyway
		}
		v := verdict{dropped: d}
		c := deploy.Change{Action: deploy.ActionPrune, Object: objectID(d.id), Reason: reasonDropped, Err: d.err}
		switch {
		case d.err != nil:
		case d.live == nil:
			c.Reason = reasonGone
		default:
			if v.fate, v.why = judge(d.live, n.info, known[d.id].uid, prune); v.fate != fateDelete {
				c.Action, c.Err = deploy.ActionKeep, errors.New(v.why)
			}
		}
		if v.fate == fateKeep && known[d.id].kept {
			continue
		}
		n.drop = append(n.drop, v)
		changes = append(changes, c)
	}
	return changes
}

// failure gives an error its reason; what the context ended is not the step's fault.
func failure(ctx context.Context, reason string, err error) error {
	var f *deploy.Failure
	switch {
	case errors.As(err, &f):
		return err
	case ctx.Err() == nil:
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		reason = deploy.ReasonTimeout
	default:
		reason = deploy.ReasonCanceled
	}
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return &deploy.Failure{Reason: reason, Err: err}
}
