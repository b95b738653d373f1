package applier

import (
	"context"
	"errors"
	"maps"
	"slices"

	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// awaitAll is the wait for health at the end of an apply: for what was applied where the target waits, for what was found unhealthy, and for what healthChecks name.
func (r *run) awaitAll(ctx context.Context) error {
	if r.destroy || !minded(r.target) {
		return nil
	}
	sent := map[object.ObjMetadata]bool{}
	if r.target.Kustomization.Wait {
		for id, res := range r.results {
			sent[id] = res.applied
		}
	}
	others := maps.Clone(r.note.ailing)
	if others == nil {
		others = map[object.ObjMetadata]sighting{}
	}
	for _, id := range checksOf(r.target.Kustomization) {
		_, planned := r.note.apply[id]
		switch _, looked := others[id]; {
		case planned:
			sent[id] = r.results[id].applied // else its own error says it
		case !looked && (len(r.note.apply) > 0 || !r.note.looked):
			others[id] = sighting{id: id}
		}
	}
	if err := r.lookAtRest(ctx, others); err != nil {
		return err
	}
	var ids []object.ObjMetadata
	for id, yes := range sent {
		if _, known := r.unhealthy[id]; yes && !known {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	r.awaited = true
	return r.awaitHealth(ctx, ids, others)
}

// lookAtRest looks at what a target that waits renders and did not send now, and adds to others what is not healthy: it may have turned so since it was applied, and with the rest
// of a new artifact the target would pass for Ready. A full check has looked already.
func (r *run) lookAtRest(ctx context.Context, others map[object.ObjMetadata]sighting) error {
	if !r.target.Kustomization.Wait || r.note.work.Full {
		return nil
	}
	known, err := r.engine.store.read(ctx, r.info)
	if err != nil {
		return err
	}
	var own []object.ObjMetadata
	for id, hash := range r.note.render.hashes {
		_, sent := r.note.apply[id]
		if _, looked := others[id]; !sent && !looked && known[id].rendered == hash {
			own = append(own, id)
		}
	}
	seen, err := r.engine.healths(ctx, r.target.Name, r.rules, own, nil)
	for id, s := range seen {
		if s.status != status.CurrentStatus {
			others[id] = s
		}
	}
	return err
}

// awaitHealth waits until objects are current, and notes those that are not: those of ids were applied by this run, the others only looked at, or not even that.
func (r *run) awaitHealth(ctx context.Context, ids []object.ObjMetadata, others map[object.ObjMetadata]sighting) error {
	pending, foreign := maps.Clone(others), map[object.ObjMetadata]bool{}
	if pending == nil {
		pending = map[object.ObjMetadata]sighting{}
	}
	for id := range others {
		_, rendered := r.note.render.hashes[id]
		foreign[id] = !rendered
	}
	for _, id := range ids {
		if res := r.results[id]; res.health.status != status.CurrentStatus {
			pending[id] = sighting{id: id, uid: res.uid, health: res.health}
		}
	}
	var failed map[object.ObjMetadata]string
	if len(pending) > 0 {
		bounded, cancel := context.WithDeadline(ctx, r.deadline)
		defer cancel()
		w := &waiting{
			engine: r.engine, target: r.target.Name, pending: pending, foreign: foreign, rules: r.rules, failFast: minded(r.target),
			met: func(s sighting) (bool, string) {
				if foreign[s.id] {
					return appears(s)
				}
				return current(s)
			},
			say: func(text string) { r.progress(deploy.PhaseWaiting, text) },
		}
		failed = w.run(bounded)
	}
	for id := range pending {
		if r.unhealthy[id] = failed[id]; failed[id] == "" {
			r.unhealthy[id] = "not ready: " + pending[id].String()
		}
	}
	m := r.tasks.InventoryManager() // knows what was applied only
	var err error
	for _, id := range ids {
		switch _, waitsStill := pending[id]; {
		case !waitsStill:
			err = errors.Join(err, m.SetSuccessfulReconcile(id))
		case failed[id] != "":
			err = errors.Join(err, m.SetFailedReconcile(id))
		default:
			err = errors.Join(err, m.SetTimeoutReconcile(id))
		}
	}
	return errors.Join(err, canceled(ctx))
}
