package applier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/apis/actuation"
	"sigs.k8s.io/cli-utils/pkg/apply/filter"
	"sigs.k8s.io/cli-utils/pkg/apply/task"
	"sigs.k8s.io/cli-utils/pkg/apply/taskrunner"
	"sigs.k8s.io/cli-utils/pkg/inventory"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
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
		r.countAsDone(id)
	}
	var late []*attempt
	for _, us := range todo {
		if len(us) == 0 {
			continue
		}
		r.progress(deploy.PhaseApplying, fmt.Sprintf("applying %d objects", len(us)))
		attempts := make([]*attempt, len(us))
		for i, u := range us {
			attempts[i] = r.newAttempt(wave, u)
		}
		err := r.engine.each(ctx, len(us), func(i int) { attempts[i].run(ctx) })
		for _, a := range attempts {
			if err == nil && a.late {
				late = append(late, a)
				continue
			}
			r.settleAttempt(a)
		}
		if err != nil {
			return err
		}
	}
	return r.applyLate(ctx, late)
}

// applyLate goes on with the objects whose webhooks nobody answers, after all others of the wave: what answers may be among those.
func (r *run) applyLate(ctx context.Context, late []*attempt) error {
	if len(late) == 0 {
		return nil
	}
	r.progress(deploy.PhaseApplying, fmt.Sprintf("waiting for the webhooks of %d objects", len(late)))
	until := time.Now().Add(min(webhookMost, time.Until(r.deadline)/2))
	err := r.engine.each(ctx, len(late), func(i int) { late[i].persist(ctx, until) })
	for _, a := range late {
		r.settleAttempt(a)
	}
	return err
}

func (r *run) settleAttempt(a *attempt) {
	if a.res.err == nil && !a.res.applied && a.res.skipped == "" { // the context ended before its turn
		a.res.err = errNotAttempted
	}
	r.merge(a.id, a.res)
}

// countAsDone lets what depends on an object go on though nothing was sent of it.
func (r *run) countAsDone(id object.ObjMetadata) {
	r.tasks.InventoryManager().SetObjectStatus(actuation.ObjectStatus{
		ObjectReference: inventory.ObjectReferenceFromObjMetadata(id), Strategy: actuation.ActuationStrategyApply,
		Actuation: actuation.ActuationSucceeded, Reconcile: actuation.ReconcileSucceeded,
	})
}

// merge takes a worker's result into the run's state; cli-utils' manager has no lock.
func (r *run) merge(id object.ObjMetadata, res result) {
	r.results[id] = res
	m := r.tasks.InventoryManager()
	switch {
	case res.skipped != "":
		r.countAsDone(id)
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
	// version that it must have, where what is sent was made of it.
	version string
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
		if p.version != "" {
			metadata["resourceVersion"] = p.version
		}
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

// foreignError is an object that another inventory owns.
type foreignError struct{ owner string }

func (f *foreignError) Error() string {
	return "it belongs to " + f.owner + "; remove it from there first, or rename it here"
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
	err := r.awaitHealth(ctx, needed, nil)
	if crds {
		r.clients.Mapper.Reset()
	}
	return err
}

// canceled is the context's error unless its deadline passed: a wait that took too long is a matter of health.
func canceled(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return nil
}
