package applier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/apis/actuation"
	"sigs.k8s.io/cli-utils/pkg/apply/event"
	"sigs.k8s.io/cli-utils/pkg/apply/filter"
	"sigs.k8s.io/cli-utils/pkg/apply/task"
	"sigs.k8s.io/cli-utils/pkg/apply/taskrunner"
	"sigs.k8s.io/cli-utils/pkg/inventory"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

// errNotAttempted stands at what was left when the context ended.
var errNotAttempted = errors.New("not attempted")

// tiers are the coarse order inside a wave: what workloads read, then workloads, then what could block every later request.
const tiers = 3

func tierOf(u *unstructured.Unstructured) int {
	switch u.GetKind() {
	case "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicaSet", "Pod":
		return 1
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "APIService":
		return 2
	}
	return 0
}

// applyWave sends the changed objects of a wave, a tier at a time and in it as many at once as there are slots. The others count as applied and healthy, so that
// what depends on them is not held up.
func (r *run) applyWave(ctx context.Context, wave *task.ApplyTask) error {
	var todo [tiers][]*unstructured.Unstructured
	for _, u := range wave.Objects {
		id := object.UnstructuredToObjMetadata(u)
		if _, changed := r.note.apply[id]; changed {
			todo[tierOf(u)] = append(todo[tierOf(u)], u)
			continue
		}
		r.tasks.InventoryManager().SetObjectStatus(actuation.ObjectStatus{
			ObjectReference: inventory.ObjectReferenceFromObjMetadata(id), Strategy: actuation.ActuationStrategyApply,
			Actuation: actuation.ActuationSucceeded, Reconcile: actuation.ReconcileSucceeded,
		})
	}
	for _, us := range todo {
		if len(us) == 0 {
			continue
		}
		r.progress(deploy.PhaseApplying, fmt.Sprintf("applying %d objects", len(us)))
		results := make([]result, len(us))
		err := r.engine.each(ctx, len(us), func(i int) { results[i] = r.applyObject(ctx, wave, us[i]) })
		for i, u := range us {
			if results[i].err == nil && !results[i].applied { // the context ended before its turn
				results[i].err = errNotAttempted
			}
			r.merge(object.UnstructuredToObjMetadata(u), results[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// merge takes a worker's result into the run's state; cli-utils' manager has no lock.
func (r *run) merge(id object.ObjMetadata, res result) {
	r.results[id] = res
	m := r.tasks.InventoryManager()
	switch {
	case res.applied:
		m.AddSuccessfulApply(id, res.uid, res.generation)
	case res.sent:
		m.AddFailedApply(id)
	default:
		m.AddSkippedApply(id)
	}
}

// precondition makes an apply fail instead of taking over an object that is not known to be ours.
type precondition struct {
	// create: the object must not exist. A resourceVersion that no object has says so: an apply that creates ignores it, one that finds an object is a conflict.
	create bool
	// uid that the object must have.
	uid string
}

// noVersion is a resourceVersion that no object has: etcd's revision 1 is before its first write.
const noVersion = "1"

func (p precondition) on(u *unstructured.Unstructured) *unstructured.Unstructured {
	if !p.create && p.uid == "" {
		return u
	}
	body := &unstructured.Unstructured{Object: maps.Clone(u.Object)}
	metadata, _ := body.Object["metadata"].(map[string]any)
	metadata = maps.Clone(metadata)
	if p.create {
		metadata["resourceVersion"] = noVersion
	} else {
		metadata["uid"] = p.uid
	}
	body.Object["metadata"] = metadata
	return body
}

// violated reports whether an apply was refused because the precondition does not hold. An existing object of another uid is answered as an invalid change of
// its uid, a missing one and one that should not exist as a conflict.
func (p precondition) violated(err error) bool {
	if apierrors.IsConflict(err) {
		return p.create || p.uid != ""
	}
	return p.uid != "" && apierrors.IsInvalid(err) && apierrors.HasStatusCause(err, metav1.CauseTypeFieldValueInvalid) && strings.Contains(err.Error(), "metadata.uid")
}

// applyObject applies one object, again where the obstacle may pass within seconds.
func (r *run) applyObject(ctx context.Context, wave *task.ApplyTask, u *unstructured.Unstructured) result {
	id := object.UnstructuredToObjMetadata(u)
	uid := string(r.note.apply[id].uid)
	pre := precondition{create: uid == "", uid: uid}
	var res result
	tries, reclaimed := 0, false
	var taken *takeover
	looked := false // for entries to take over: once
	err := retryPausing(ctx, r.engine.pause, func(err error) bool { return r.worthAgain(id, err) }, func() error {
		var err error
		tries++
		if res, err = r.send(wave, u, pre); pre.violated(err) {
			var ours bool
			if pre, ours, err = r.claim(ctx, id); err != nil {
				return err
			}
			reclaimed = reclaimed || ours && tries == 1 // later it may be what a try of this run made
			res, err = r.send(wave, u, pre)
		}
		if refusal := err; !looked && uid != "" && pre.uid == uid && apierrors.IsInvalid(refusal) {
			looked = true
			if taken = r.takeOver(ctx, u, uid, refusal); taken != nil {
				if res, err = r.send(wave, u, pre); apierrors.IsInvalid(err) {
					err = refusal
				}
			}
		}
		return err
	})
	if err != nil && taken != nil {
		r.giveBack(ctx, taken)
	}
	res.reclaimed = reclaimed && r.note.strangers[id]
	if err != nil {
		res.err = explain(objectID(id), err)
	} else {
		crashpoint.At("applier.object-applied")
	}
	return res
}

// worthAgain is transient, and where the object's CRD or namespace is part of the target also the answers of a server that has not digested those yet.
func (r *run) worthAgain(id object.ObjMetadata, err error) bool {
	var dying *dyingError
	if transient(err) || errors.As(err, &dying) {
		return true
	}
	if len(r.tasks.Graph().Dependencies(id)) == 0 {
		return false
	}
	if meta.IsNoMatchError(err) {
		r.clients.Mapper.Reset()
		return true
	}
	return apierrors.IsNotFound(err)
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
	live := &unstructured.Unstructured{Object: map[string]any{}}
	live.SetAnnotations(m.Annotations)
	live.SetLabels(m.Labels)
	_, err = inventory.CanApply(r.info, live, inventory.PolicyAdoptIfNoInventory)
	if err != nil && !r.engine.store.dropped(live.GetAnnotations()[inventory.OwningInventoryKey], r.info.cluster, id) {
		return precondition{}, false, &foreignError{owner(live)}
	}
	return precondition{uid: string(m.UID)}, inventory.IDMatch(r.info, live) == inventory.Match, nil
}

// foreignError is an object that another inventory owns.
type foreignError struct{ owner string }

func (f *foreignError) Error() string {
	return "it belongs to " + f.owner + "; remove it from there first, or rename it here"
}

// send lets one of cli-utils' apply tasks apply the object, alone.
func (r *run) send(wave *task.ApplyTask, u *unstructured.Unstructured, pre precondition) (result, error) {
	gvk := u.GroupVersionKind()
	mapping, err := r.clients.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return result{sent: true}, err
	}
	path := pathOf(r.base, mapping, u.GetNamespace(), u.GetName())
	single := *wave
	single.Objects = object.UnstructuredSet{pre.on(u)}
	events := make(chan event.Event, 4) // a task of one object sends one
	alone := taskrunner.NewTaskContext(events, r.tasks.ResourceCache())
	single.Start(alone)
	<-alone.TaskChannel()
	close(events)
	for ev := range events {
		if ev.Type != event.ApplyType {
			continue
		}
		switch a := ev.ApplyEvent; a.Status {
		case event.ApplySuccessful:
			if a.Resource.GetDeletionTimestamp() != nil {
				return result{sent: true}, &dyingError{holders(a.Resource)}
			}
			return applied(a.Resource), nil
		case event.ApplySkipped:
			return result{}, &skippedError{a.Error}
		case event.ApplyFailed:
			if err := r.answers.take(path); err != nil {
				return result{sent: true}, err
			}
			return result{sent: true}, &lostError{a.Error}
		}
	}
	return result{sent: true}, &lostError{errors.New("the apply ended without a result")}
}

// dyingError is an object that was applied while it is being deleted: all of it will go.
type dyingError struct{ holders []string }

func (d *dyingError) Error() string {
	text := "it is being deleted by somebody and will be created again when it is gone"
	if len(d.holders) > 0 {
		text += "; it waits for " + strings.Join(d.holders, ", ")
	}
	return text
}

func applied(u *unstructured.Unstructured) result {
	return result{
		sent: true, applied: true, uid: u.GetUID(), generation: u.GetGeneration(),
		owned:  kube.OwnedHash(u.GetManagedFields(), deploy.FieldManager, metav1.ManagedFieldsOperationApply),
		health: healthOf(u),
	}
}

// skippedError is an object that was held back because of another one.
type skippedError struct{ err error }

func (s *skippedError) Unwrap() error { return s.err }
func (s *skippedError) Error() string {
	var dependency *filter.DependencyPreventedActuationError
	if errors.As(s.err, &dependency) {
		return fmt.Sprintf("held back: %s, which it depends on, is not ready", objectID(dependency.Relation))
	}
	return "held back: " + s.err.Error()
}

// settle is cli-utils' wait after a wave, for those objects only that another one depends on: a CRD has to be established, a namespace there.
func (r *run) settle(ctx context.Context, t *taskrunner.WaitTask) error {
	if t.Condition == taskrunner.AllNotFound {
		return r.awaitGone(ctx, t.Ids)
	}
	var needed []object.ObjMetadata
	crds := false
	for _, id := range t.Ids {
		if r.results[id].applied && len(r.tasks.Graph().Dependents(id)) > 0 {
			needed = append(needed, id)
			crds = crds || id.GroupKind.Kind == "CustomResourceDefinition"
		}
	}
	err := r.awaitHealth(ctx, needed)
	if crds {
		r.clients.Mapper.Reset()
	}
	return err
}

// awaitHealth waits until the objects are current, and notes those that are not.
func (r *run) awaitHealth(ctx context.Context, ids []object.ObjMetadata) error {
	pending := map[object.ObjMetadata]sighting{}
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
			engine: r.engine, target: r.target.Name, pending: pending, met: current, failFast: r.target.Kustomization.Wait,
			say: func(text string) { r.progress(deploy.PhaseWaiting, text) },
		}
		failed = w.run(bounded)
	}
	m := r.tasks.InventoryManager()
	var err error
	for _, id := range ids {
		s, waitsStill := pending[id]
		switch {
		case !waitsStill:
			err = errors.Join(err, m.SetSuccessfulReconcile(id))
		case failed[id] != "":
			r.unhealthy[id] = failed[id]
			err = errors.Join(err, m.SetFailedReconcile(id))
		default:
			r.unhealthy[id] = "not ready: " + s.String()
			err = errors.Join(err, m.SetTimeoutReconcile(id))
		}
	}
	return errors.Join(err, canceled(ctx))
}

// canceled is the context's error unless its deadline passed: a wait that took too long is a matter of health.
func canceled(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return nil
}
