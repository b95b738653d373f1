package applier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/apply/task"
	"sigs.k8s.io/cli-utils/pkg/inventory"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/crashpoint"
)

// webhookMost is how long a run waits for a webhook that nobody answers: a controller that the same artifact brings needs about that to start.
const webhookMost = time.Minute

// attempt is the applying of one object in a run, over all its tries. It belongs to one goroutine at a time.
type attempt struct {
	of   *run
	wave *task.ApplyTask
	u    *unstructured.Unstructured
	id   object.ObjMetadata
	// known is the uid that the inventory remembers.
	known string
	pre   precondition
	mode  mode
	// unread: the marks in the cluster have not been seen yet.
	unread    bool
	tries     int
	reclaimed bool
	looked    bool // for entries to take over: once
	absorbed  bool // the same for what was set with kubectl
	taken     *takeover
	// late: it waits for a webhook that nobody answers.
	late bool
	res  result
}

func (r *run) newAttempt(wave *task.ApplyTask, u *unstructured.Unstructured) *attempt {
	id := object.UnstructuredToObjMetadata(u)
	before := r.note.apply[id]
	uid := string(before.uid)
	return &attempt{
		of: r, wave: wave, u: u, id: id, known: uid, pre: precondition{create: uid == "", uid: uid, version: before.version}, mode: r.note.modes[id], unread: r.note.unread[id],
	}
}

// run applies the object, again where the obstacle may pass within seconds. A webhook that nobody answers is left to persist.
func (a *attempt) run(ctx context.Context) {
	a.finish(ctx, retryPausing(ctx, a.of.engine.pause, func(err error) bool { return !unready(err) && a.worthAgain(err) }, func() error { return a.try(ctx) }))
}

// persist goes on with one that run gave up because of a webhook, until the time.
func (a *attempt) persist(ctx context.Context, until time.Time) {
	wait := retryFirst
	for {
		err := retryPausing(ctx, a.of.engine.pause, func(err error) bool { return !unready(err) && a.worthAgain(err) }, func() error { return a.try(ctx) })
		if !unready(err) || !time.Now().Add(wait).Before(until) || a.of.engine.pause(ctx, wait) != nil {
			a.finish(ctx, err)
			return
		}
		wait = min(wait*2, retryMost)
	}
}

func (a *attempt) finish(ctx context.Context, err error) {
	if err != nil && a.taken != nil {
		a.of.giveBack(ctx, a.u, a.taken)
		a.taken = nil
	}
	a.res.reclaimed = a.reclaimed && a.of.note.strangers[a.id]
	a.res.err = nil
	a.late = unready(err)
	a.res.managed = nil // a run of thousands of objects would hold megabytes of it
	if err != nil {
		a.res.applied = false
		a.res.err = explain(a.u, err)
	} else if a.res.applied {
		crashpoint.At("applier.object-applied")
	}
}

// try is one try.
func (a *attempt) try(ctx context.Context) error {
	r := a.of
	a.tries++
	if a.unread {
		if _, err := a.claim(ctx); err != nil {
			return err
		}
		a.unread = false
	}
	if a.res.skipped != "" {
		return nil
	}
	var err error
	if a.res, err = a.send(ctx); a.pre.violated(err) {
		ours, refused := a.claim(ctx)
		if refused != nil || a.res.skipped != "" {
			return refused
		}
		a.reclaimed = a.reclaimed || ours && a.tries == 1 // later it may be what a try of this run made
		a.res, err = a.send(ctx)
	}
	if refusal := err; !a.looked && a.known != "" && a.pre.uid == a.known && apierrors.IsInvalid(refusal) {
		a.looked = true
		if a.taken = r.takeOver(ctx, a.u, a.known, refusal); a.taken != nil {
			a.pre.version = "" // that made a new one
			if a.res, err = a.send(ctx); apierrors.IsInvalid(err) {
				err = refusal
			}
		}
	}
	return a.conclude(ctx, err)
}

// conclude does what an answer makes necessary: an object with an immutable field is made anew where that is asked for, and what was set with kubectl is taken over.
func (a *attempt) conclude(ctx context.Context, err error) error {
	if fields := immutable(err); len(fields) > 0 {
		return a.recreate(ctx, err, fields)
	}
	if err != nil || a.absorbed || a.mode.merge || !setByHand(a.res.managed, a.u, a.of.note.render.ignored[a.id]) {
		return err
	}
	a.absorbed = true
	if a.taken, err = a.of.absorb(ctx, a.u, a.res.uid, a.of.note.render.ignored[a.id]); err != nil || a.taken == nil {
		return err
	}
	a.pre = precondition{uid: string(a.res.uid)}
	a.res, err = a.send(ctx)
	if apierrors.IsInvalid(err) {
		return fmt.Errorf("what was set with kubectl cannot be removed (annotate it with %s%s: %s to leave it): %w", prefixes[0], markSSA, ssaMerge, err)
	}
	return err
}

// worthAgain is transient, and where the object's CRD or namespace is part of the target also the answers of a server that has not digested those yet.
func (a *attempt) worthAgain(err error) bool {
	r := a.of
	var dying *dyingError
	if transient(err) || errors.As(err, &dying) {
		return true
	}
	if len(r.tasks.Graph().Dependencies(a.id)) == 0 {
		return false
	}
	if meta.IsNoMatchError(err) {
		r.clients.Mapper.Reset()
		return true
	}
	return apierrors.IsNotFound(err)
}

// claim looks at the object in the cluster, and says what is to be demanded of it. Where it wants to be left alone, the result says so.
func (a *attempt) claim(ctx context.Context) (ours bool, err error) {
	m, err := a.of.engine.metadata(ctx, a.id)
	if apierrors.IsNotFound(err) {
		a.pre = precondition{create: true}
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look who owns it: %w", err)
	}
	next, ours, err := a.of.claimOf(a.id, m)
	live := a.mode.and(modeOf(m))
	why := live.once
	if err == nil && live.skip != "" {
		why = live.skip
	}
	if why != "" {
		a.res = result{skipped: why}
		if ours {
			a.res.uid, a.res.owned = m.UID, ownedHash(m.ManagedFields, a.u, a.of.note.render.ignored[a.id])
		}
		return ours, nil
	}
	if err != nil {
		return false, err
	}
	a.pre, a.mode = next, live
	return ours, nil
}

// claim finds out whether an object that exists although it should not, or is another one than we knew, may become ours, and what to demand of it then. It
// also says whether the object bears our marks already.
func (r *run) claim(ctx context.Context, id object.ObjMetadata) (next precondition, ours bool, err error) {
	m, err := r.engine.metadata(ctx, id)
	if apierrors.IsNotFound(err) {
		return precondition{create: true}, false, nil
	}
	if err != nil {
		return precondition{}, false, fmt.Errorf("look who owns it: %w", err)
	}
	return r.claimOf(id, m)
}

func (r *run) claimOf(id object.ObjMetadata, m *metav1.PartialObjectMetadata) (next precondition, ours bool, err error) {
	live := &unstructured.Unstructured{Object: map[string]any{}}
	live.SetAnnotations(m.Annotations)
	live.SetLabels(m.Labels)
	_, err = inventory.CanApply(r.info, live, inventory.PolicyAdoptIfNoInventory)
	if err != nil && !r.engine.store.dropped(live.GetAnnotations()[inventory.OwningInventoryKey], r.info.cluster, id) {
		return precondition{}, false, &foreignError{owner(live)}
	}
	return precondition{uid: string(m.UID)}, inventory.IDMatch(r.info, live) == inventory.Match, nil
}

// send applies the object once.
func (a *attempt) send(ctx context.Context) (result, error) {
	body, pre, err := a.of.body(ctx, a.u, a.pre)
	if err != nil {
		return result{}, err
	}
	res, err := a.of.send(ctx, a.wave, body, pre, a.mode.merge)
	res.owned = ownedHash(res.managed, a.u, a.of.note.render.ignored[a.id])
	return res, err
}

// body is what is sent of an object: all of it where it is created; of one that exists, the fields that are left to others as they are.
func (r *run) body(ctx context.Context, u *unstructured.Unstructured, pre precondition) (*unstructured.Unstructured, precondition, error) {
	id := object.UnstructuredToObjMetadata(u)
	ignored := r.note.render.ignored[id]
	if pre.create || len(ignored) == 0 {
		return u, pre, nil
	}
	gvk := u.GroupVersionKind()
	mapping, err := r.clients.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, pre, err
	}
	live, err := r.clients.Dynamic.Resource(mapping.Resource).Namespace(u.GetNamespace()).Get(ctx, u.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return u, pre, nil // the server will say that the precondition does not hold
	}
	if err != nil {
		return nil, pre, fmt.Errorf("read the fields that are left to others: %w", err)
	}
	body, err := leaveToOthers(u, live, ignored)
	if err != nil {
		return nil, pre, err
	}
	stamp(body, r.info, r.target.Name.LabelValue())
	pre.version = cmp.Or(pre.version, live.GetResourceVersion()) // a known one says which marks were seen
	return body, pre, nil
}
