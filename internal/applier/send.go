package applier

import (
	"context"
	"encoding/json"
	"errors"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/apply/event"
	"sigs.k8s.io/cli-utils/pkg/apply/task"
	"sigs.k8s.io/cli-utils/pkg/apply/taskrunner"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// send lets one of cli-utils' apply tasks apply an object, alone. One that wants to be merged is sent without it: kubectl's way of applying, which the task calls, takes over
// what was applied with kubectl before.
func (r *run) send(ctx context.Context, wave *task.ApplyTask, u *unstructured.Unstructured, pre precondition, merge bool) (result, error) {
	gvk := u.GroupVersionKind()
	mapping, err := r.clients.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return result{sent: true}, err
	}
	if merge {
		return r.sendMerged(ctx, wave, mapping, u, pre)
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
			return r.applied(a.Resource)
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

func (r *run) sendMerged(ctx context.Context, wave *task.ApplyTask, mapping *meta.RESTMapping, u *unstructured.Unstructured, pre precondition) (result, error) {
	for _, f := range wave.Filters {
		if err := f.Filter(u); err != nil {
			return result{}, &skippedError{err}
		}
	}
	body, err := json.Marshal(pre.on(u))
	if err != nil {
		return result{}, err
	}
	out, err := r.clients.Dynamic.Resource(mapping.Resource).Namespace(u.GetNamespace()).
		Patch(ctx, u.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: deploy.FieldManager, Force: new(true)})
	if err != nil {
		return result{sent: true}, err
	}
	return r.applied(out)
}

// applied is the result of an apply that the server accepted.
func (r *run) applied(u *unstructured.Unstructured) (result, error) {
	if u.GetDeletionTimestamp() != nil {
		return result{sent: true}, &dyingError{holders(u)}
	}
	return result{
		sent: true, applied: true, uid: u.GetUID(), version: stillVersion(u), generation: u.GetGeneration(), managed: u.GetManagedFields(), health: r.rules.of(u),
	}, nil
}

// stillVersion is the version of an object that controllers are not likely to write to; empty for others. Most that have a status are about to get another. One with marks
// is looked at before every apply, since the artifact may not have them.
func stillVersion(u *unstructured.Unstructured) string {
	if modeOf(u) != (mode{}) {
		return ""
	}
	if _, written := u.Object["status"]; written && u.GroupVersionKind().GroupKind() != (schema.GroupKind{Kind: "Service"}) {
		return ""
	}
	return u.GetResourceVersion()
}

// turned says of a planned change that it became another one.
func (r *run) turned(c *deploy.Change) {
	res, ok := r.results[object.ObjMetadata{GroupKind: schema.GroupKind{Group: c.Object.Group, Kind: c.Object.Kind}, Namespace: c.Object.Namespace, Name: c.Object.Name}]
	switch {
	case ok && res.skipped != "":
		c.Action, c.Reason = deploy.ActionSkip, res.skipped
	case ok && res.recreated:
		c.Action = deploy.ActionRecreate
	}
}
