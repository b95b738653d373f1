package applier

import (
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// Delete takes a target out of the cluster by its deletion policy, from the inventory alone: its artifact need not exist any more. Objects that may not be deleted
// (see judge) stay and lose our marks. Where the inventory was lost, the marks on the objects stand in for it. The inventory goes last, and only when nothing is left in it.
func (e *Engine) Delete(ctx context.Context, t deploy.Target, progress deploy.Progress) error {
	spec := t.Kustomization
	if spec == nil {
		return &deploy.Failure{Reason: deploy.ReasonPruneFailed, Err: fmt.Errorf("%s is not a kustomization", t.Name)}
	}
	i := e.info(t)
	left, err := e.leave(ctx, t, i)
	if err != nil {
		return failure(ctx, deploy.ReasonPruneFailed, err)
	}
	if left {
		e.forget(t.Name)
		return nil
	}
	here, err := e.site(ctx, t)
	if err != nil {
		return failure(ctx, deploy.ReasonPruneFailed, err)
	}
	known, err := e.store.read(ctx, i)
	if err != nil {
		return failure(ctx, deploy.ReasonPruneFailed, err)
	}
	if len(known) == 0 && e.store.unheard(i) {
		marked, err := here.marked(ctx, i, &rendered{})
		if err != nil {
			return failure(ctx, deploy.ReasonPruneFailed, err)
		}
		known = entries{}
		for _, id := range marked {
			known[id] = entry{}
		}
	}
	ids := droppedIDs(&rendered{}, known, true)
	if len(ids) == 0 {
		return nil
	}
	found, err := here.fetch(ctx, ids)
	if err != nil {
		return failure(ctx, deploy.ReasonPruneFailed, err)
	}
	n := &note{work: deploy.Work{Target: t}, info: i, render: &rendered{}, drop: e.farewell(t, i, known, found)}
	r, err := here.newRun(ctx, n, progress)
	if err != nil {
		return failure(ctx, deploy.ReasonPruneFailed, err)
	}
	r.destroy = true
	e.forget(t.Name)
	r.progress(deploy.PhaseDeleting, fmt.Sprintf("deleting %d objects", len(ids)))
	return r.outcome(ctx, r.do(ctx))
}

// forget drops what is remembered of a target beside its inventory.
func (e *Engine) forget(n deploy.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.settled, n)
	delete(e.refusals, n)
	delete(e.rules, n)
	delete(e.grips, n)
}

// farewell judges every object of a target that goes away. What a target that stays would keep an eye on is released: nobody would look at it again.
func (e *Engine) farewell(t deploy.Target, i info, known entries, found []dropped) []verdict {
	policy := t.Kustomization.DeletionPolicy
	remove := policy == deploy.DeletionDelete || policy == deploy.DeletionWait || policy != deploy.DeletionOrphan && t.Kustomization.Prune
	var out []verdict
	for _, d := range found {
		v := verdict{dropped: d}
		if d.live != nil {
			v.fate, v.why = judge(d.live, i, known[d.id].uid, remove)
			if v.fate == fateKeep {
				v.fate = fateRelease
			}
			if v.fate == fateRelease && remove {
				e.log.Warn("object of a deleted target stays", zap.Stringer("target", t.Name), zap.Stringer("object", objectID(d.id)), zap.String("reason", v.why))
			}
		}
		out = append(out, v)
	}
	return slices.Clip(out)
}
