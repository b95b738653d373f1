package applier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/apply/event"
	"sigs.k8s.io/cli-utils/pkg/apply/filter"
	"sigs.k8s.io/cli-utils/pkg/apply/task"
	"sigs.k8s.io/cli-utils/pkg/apply/taskrunner"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
)

// errPutOff stands at what was not pruned because something before went wrong; the inventory still has it.
var errPutOff = errors.New("put off until everything is applied and healthy")

// beforePrune runs once, between the last apply and the first deletion. It waits for health where the target asks for it: only then is it known that what is dropped is not needed any more.
func (r *run) beforePrune(ctx context.Context) error {
	if r.applyEnded {
		return nil
	}
	r.applyEnded = true
	if err := r.awaitAll(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mayPrune = r.note.blocked == nil && r.failed() == nil
	if len(r.note.drop) > 0 && r.mayPrune {
		r.progress(r.phase(), fmt.Sprintf("pruning %d objects", len(r.note.drop)))
		r.engine.awaitOthers(ctx, r.target.Name)
		crashpoint.At("applier.before-prune")
	}
	return nil
}

// phase is what deletions are called.
func (r *run) phase() deploy.Phase {
	if r.destroy {
		return deploy.PhaseDeleting
	}
	return deploy.PhasePruning
}

// pruneWave deletes the objects of one wave, as many at once as there are slots.
func (r *run) pruneWave(ctx context.Context, wave *task.PruneTask) error {
	// An object that is applied under another API group, now or earlier, must not be deleted under its old one.
	current := filter.CurrentUIDFilter{CurrentUIDs: r.tasks.InventoryManager().AppliedResourceUIDs()}
	for uid := range r.note.held {
		current.CurrentUIDs.Insert(string(uid))
	}
	filters := append(slices.Clone(wave.Filters), current)
	results := make([]result, len(wave.Objects))
	err := r.engine.each(ctx, len(wave.Objects), func(i int) {
		results[i] = r.pruneObject(ctx, wave, filters, wave.Objects[i])
	})
	m := r.tasks.InventoryManager()
	for i, u := range wave.Objects {
		id, res := object.UnstructuredToObjMetadata(u), results[i]
		switch {
		case res.gone && res.err == nil:
			m.AddSuccessfulDelete(id, u.GetUID())
		case res.sent:
			m.AddFailedDelete(id)
		default:
			m.AddSkippedDelete(id)
		}
		if res.err == nil && !res.gone { // the context ended before its turn
			res.err = errPutOff
		}
		r.results[id] = res
	}
	return err
}

// pruneObject lets one of cli-utils' prune tasks delete the object, alone. The uid that was read before is a condition: what somebody created anew stays.
func (r *run) pruneObject(ctx context.Context, wave *task.PruneTask, filters []filter.ValidationFilter, u *unstructured.Unstructured) result {
	var res result
	again := func(err error) bool { return transient(err) && !apierrors.IsConflict(err) }
	err := retryPausing(ctx, r.engine.pause, again, func() error {
		if done, err := r.reconsider(ctx, u); done || err != nil {
			res = result{gone: done}
			return err
		}
		if heir, ok := r.engine.store.heir(r.info, object.UnstructuredToObjMetadata(u)); ok {
			r.engine.log.Info("object passes to another target", zap.Stringer("target", r.target.Name), zap.Stringer("object", deploy.IDOf(u)), zap.String("to", heir.target))
			res = result{gone: true}
			return r.handOver(ctx, u, heir)
		}
		if err := r.needed(ctx, u); err != nil {
			return r.spare(ctx, u, err, &res)
		}
		single := *wave
		single.Objects, single.Filters = object.UnstructuredSet{u}, slices.Clip(filters)
		events := make(chan event.Event, 4) // a task of one object sends one
		alone := taskrunner.NewTaskContext(events, r.tasks.ResourceCache())
		single.Start(alone)
		end := <-alone.TaskChannel()
		close(events)
		var err error
		res, err = pruned(events)
		return errors.Join(err, end.Err)
	})
	if res.err = explain(u, err); err != nil {
		res.gone = false
	} else {
		crashpoint.At("applier.object-pruned")
	}
	return res
}

// reconsider judges an object once more where the target waits for health: minutes may have passed since the plan, and what somebody said of the object meanwhile
// counts. done means that it is gone or another's by now.
func (r *run) reconsider(ctx context.Context, planned *unstructured.Unstructured) (done bool, err error) {
	if r.destroy || !minded(r.target) {
		return false, nil
	}
	now := r.engine.fetchOne(ctx, object.UnstructuredToObjMetadata(planned))
	if now.err != nil || now.live == nil {
		return now.err == nil, now.err
	}
	switch fate, why := judge(now.live, r.info, planned.GetUID(), true); fate {
	case fateDelete:
		return false, nil
	case fateForget:
		return true, nil
	default:
		return false, &neededError{why}
	}
}

// spare lets an object live that others need. A target that goes away lets go of it; one that stays keeps it in its inventory and says so.
func (r *run) spare(ctx context.Context, u *unstructured.Unstructured, why error, res *result) error {
	var needed *neededError
	if !r.destroy || !errors.As(why, &needed) {
		return why
	}
	r.engine.log.Warn("object of a deleted target stays", zap.Stringer("target", r.target.Name), zap.Stringer("object", deploy.IDOf(u)), zap.Error(why))
	*res = result{gone: true}
	return r.unmark(ctx, u)
}

// pruned reads what became of the one object of a prune or delete task.
func pruned(events <-chan event.Event) (result, error) {
	for ev := range events {
		var failure error
		var done, skipped bool
		switch ev.Type {
		case event.PruneType:
			failure, done, skipped = ev.PruneEvent.Error, ev.PruneEvent.Status == event.PruneSuccessful, ev.PruneEvent.Status == event.PruneSkipped
		case event.DeleteType:
			failure, done, skipped = ev.DeleteEvent.Error, ev.DeleteEvent.Status == event.DeleteSuccessful, ev.DeleteEvent.Status == event.DeleteSkipped
		default:
			continue
		}
		var same *filter.ApplyPreventedDeletionError
		switch {
		case done, errors.As(failure, &same):
			return result{sent: done, gone: true}, nil
		case skipped:
			return result{}, &skippedError{failure}
		}
		return result{sent: true}, failure
	}
	return result{sent: true}, &lostError{errors.New("the deletion ended without a result")}
}

// heldFor is how long the end of a deleted object with finalizers is waited for. Controllers are mostly done by then; if not, the next attempt looks again.
const heldFor = 5 * time.Second

// awaitGone waits for the end of deleted objects: where a later wave deletes what they need, where the target wants it of all, and for a moment where finalizers
// may hold them. What does not go stays in the inventory.
func (r *run) awaitGone(ctx context.Context, ids object.ObjMetadataSet) error {
	all := r.destroy && r.target.Kustomization.DeletionPolicy == deploy.DeletionWait
	pending := map[object.ObjMetadata]sighting{}
	lives := map[object.ObjMetadata]*unstructured.Unstructured{}
	for _, v := range r.note.drop {
		if v.live != nil {
			lives[v.id] = v.live
		}
	}
	deadline := time.Now().Add(heldFor)
	for _, id := range ids {
		if res := r.results[id]; !res.gone || !res.sent {
			continue
		}
		switch {
		case all, len(r.tasks.Graph().Dependencies(id)) > 0:
			deadline = r.deadline
		case len(holders(lives[id])) == 0:
			continue
		}
		pending[id] = sighting{id: id}
	}
	if len(pending) == 0 {
		return nil
	}
	waited := slices.Collect(func(yield func(object.ObjMetadata) bool) {
		for id := range pending {
			if !yield(id) {
				return
			}
		}
	})
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	w := &waiting{
		engine: r.engine, target: r.target.Name, pending: pending,
		met: func(s sighting) (bool, string) {
			return s.status == status.NotFoundStatus || s.uid != "" && s.uid != lives[s.id].GetUID(), "" // no uid: it could not be read
		},
		say: func(text string) { r.progress(r.phase(), text) },
	}
	w.run(bounded)
	m := r.tasks.InventoryManager()
	var err error
	for _, id := range waited {
		last, left := pending[id]
		if !left {
			err = errors.Join(err, m.SetSuccessfulReconcile(id))
			continue
		}
		err = errors.Join(err, m.SetTimeoutReconcile(id))
		r.results[id] = result{sent: true, err: stuckError(last, lives[id])}
	}
	return errors.Join(err, canceled(ctx))
}

// stuckError says what holds an object: as it was seen last, or where it never was seen again, as it was before.
func stuckError(last sighting, before *unstructured.Unstructured) error {
	why, seen := strings.CutPrefix(last.message, beingDeleted)
	if !seen {
		why = heldBy(before)
	}
	return errors.New(beingDeleted + " but does not go" + why)
}

// letGo handles the dropped objects that are not deleted: those that are gone or somebody else's leave the inventory; those that stay lose our marks first, so that
// somebody else can take them.
func (r *run) letGo(ctx context.Context) error {
	var release []verdict
	for _, v := range r.note.drop {
		switch {
		case v.err != nil:
			r.results[v.id] = result{err: v.err}
		case v.live == nil || v.fate == fateForget:
			r.results[v.id] = result{gone: true}
		case v.fate == fateRelease:
			release = append(release, v)
		}
	}
	results := make([]result, len(release))
	err := r.engine.each(ctx, len(release), func(i int) {
		err := retryPausing(ctx, r.engine.pause, transient, func() error { return r.unmark(ctx, release[i].live) })
		results[i] = result{sent: true, gone: err == nil, err: err}
	})
	for i, v := range release {
		if results[i].err == nil && !results[i].gone {
			results[i].err = errPutOff
		}
		r.results[v.id] = results[i]
	}
	return err
}
