package applier

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// A watch that ended is begun again after rewatchFirst, twice as long each time up to rewatchMost; an API server that restarts is back within seconds.
const (
	rewatchFirst = 50 * time.Millisecond
	rewatchMost  = 2 * time.Second
)

// sighting is what a watch says of one object; a status of NotFound has no uid.
type sighting struct {
	id  object.ObjMetadata
	uid types.UID
	health
}

// waiting is one wait for several objects.
type waiting struct {
	engine *site
	target deploy.Name
	// pending has the objects still waited for and how they were seen last.
	pending map[object.ObjMetadata]sighting
	// foreign are those of pending that are not the target's: they have no label of ours, and may come into being yet.
	foreign map[object.ObjMetadata]bool
	rules   *healthRules
	// met decides over a sighting: done, or failed for good with a reason.
	met func(sighting) (done bool, failed string)
	// failFast ends the wait at the first object that failed for good.
	failFast bool
	say      func(string)
}

// run watches until every object is done or failed, or the context ends. What is left in pending was not done; failed says which of it will never be.
func (w *waiting) run(ctx context.Context) (failed map[object.ObjMetadata]string) {
	failed = map[object.ObjMetadata]string{}
	sightings := make(chan sighting)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for g, ids := range w.groups() {
		wg.Go(func() { w.follow(ctx, g, ids, sightings) })
	}
	open := len(w.pending)
	w.tell(failed)
	for open > 0 {
		select {
		case <-ctx.Done():
			return failed
		case s := <-sightings:
			if _, still := w.pending[s.id]; !still || failed[s.id] != "" {
				continue
			}
			w.pending[s.id] = s
			done, reason := w.met(s)
			switch {
			case done:
				delete(w.pending, s.id)
				open--
			case reason != "":
				failed[s.id] = reason
				open--
				if w.failFast {
					return failed
				}
			}
			w.tell(failed)
		}
	}
	return failed
}

// watched is what one watch is for: a kind in a namespace, or one foreign object of it.
type watched struct {
	kindNamespace
	foreign string // name
}

func (w *waiting) groups() map[watched][]object.ObjMetadata {
	groups := map[watched][]object.ObjMetadata{}
	for id := range w.pending {
		g := watched{kindNamespace: kindNamespace{id.GroupKind, id.Namespace}}
		if w.foreign[id] {
			g.foreign = id.Name
		}
		groups[g] = append(groups[g], id)
	}
	return groups
}

// tell says what is waited for: the first object by name, and how many others.
func (w *waiting) tell(failed map[object.ObjMetadata]string) {
	var ids []object.ObjMetadata
	for id := range w.pending {
		if failed[id] == "" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return
	}
	slices.SortFunc(ids, compareIDs)
	text := fmt.Sprintf("waiting for %s", objectID(ids[0]))
	if s := w.pending[ids[0]]; s.message != "" {
		text += ": " + s.message
	}
	if len(ids) > 1 {
		text += fmt.Sprintf(" and %d more", len(ids)-1)
	}
	w.say(text)
}

// follow lists and watches the objects of one kind and namespace until the context ends, beginning again whenever the watch does: expired, too old, or cut off by
// a restart of the server.
func (w *waiting) follow(ctx context.Context, g watched, ids []object.ObjMetadata, out chan<- sighting) {
	opts := metav1.ListOptions{LabelSelector: deploy.LabelTarget + "=" + w.target.LabelValue()}
	if len(ids) == 1 {
		opts = metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, ids[0].Name).String()}
	}
	pause := rewatchFirst
	for ctx.Err() == nil {
		lived, err := w.watchOnce(ctx, g, ids, opts, out)
		for _, id := range ids {
			switch {
			case meta.IsNoMatchError(err): // the kind itself is gone
				send(ctx, out, kindless(id))
			case err != nil && !lived:
				send(ctx, out, unread(id, err))
			}
		}
		if lived {
			pause = rewatchFirst
		}
		if sleep(ctx, pause) != nil {
			return
		}
		pause = min(pause*2, rewatchMost)
	}
}

// watchOnce reports whether a watch was open, and why it is not any more.
func (w *waiting) watchOnce(ctx context.Context, g watched, ids []object.ObjMetadata, opts metav1.ListOptions, out chan<- sighting) (bool, error) {
	mapping, err := w.engine.mapping(w.rules, g.GroupKind)
	if err != nil {
		return false, err
	}
	client := w.engine.clients.Dynamic.Resource(mapping.Resource).Namespace(g.namespace)
	list, err := client.List(ctx, opts)
	if err != nil {
		return false, err
	}
	missing := map[object.ObjMetadata]bool{}
	for _, id := range ids {
		missing[id] = true
	}
	for i := range list.Items {
		s := w.rules.sight(&list.Items[i])
		delete(missing, s.id)
		send(ctx, out, s)
	}
	for id := range missing {
		send(ctx, out, absent(id))
	}
	opts.ResourceVersion = list.GetResourceVersion()
	opts.AllowWatchBookmarks = true
	watching, err := client.Watch(ctx, opts)
	if err != nil {
		return false, err
	}
	defer watching.Stop()
	for ev := range watching.ResultChan() {
		switch u, isObject := ev.Object.(*unstructured.Unstructured); {
		case ev.Type == watch.Error:
			return true, apierrors.FromObject(ev.Object)
		case !isObject || ev.Type == watch.Bookmark:
		case ev.Type == watch.Deleted:
			send(ctx, out, absent(object.UnstructuredToObjMetadata(u)))
		default:
			send(ctx, out, w.rules.sight(u))
		}
	}
	return true, nil
}

func (h *healthRules) sight(u *unstructured.Unstructured) sighting {
	return sighting{id: object.UnstructuredToObjMetadata(u), uid: u.GetUID(), health: h.of(u)}
}

func send(ctx context.Context, out chan<- sighting, s sighting) {
	select {
	case out <- s:
	case <-ctx.Done():
	}
}

// current is the condition of a wait for the health of our own objects.
func current(s sighting) (bool, string) {
	switch s.status {
	case status.CurrentStatus:
		return true, ""
	case status.FailedStatus:
		return false, s.String()
	case status.NotFoundStatus:
		return false, "it was deleted by somebody else"
	case status.TerminatingStatus:
		return false, "it is being deleted by somebody else"
	}
	return false, ""
}

// appears is the condition of a wait for the health of somebody else's object: one that is not there may come, or come again.
func appears(s sighting) (bool, string) {
	if s.status == status.NotFoundStatus || s.status == status.TerminatingStatus {
		return false, ""
	}
	return current(s)
}
