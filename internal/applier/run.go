package applier

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/cli-utils/pkg/apis/actuation"
	"sigs.k8s.io/cli-utils/pkg/apply/cache"
	"sigs.k8s.io/cli-utils/pkg/apply/event"
	"sigs.k8s.io/cli-utils/pkg/apply/filter"
	applyinfo "sigs.k8s.io/cli-utils/pkg/apply/info"
	"sigs.k8s.io/cli-utils/pkg/apply/prune"
	"sigs.k8s.io/cli-utils/pkg/apply/solver"
	"sigs.k8s.io/cli-utils/pkg/apply/task"
	"sigs.k8s.io/cli-utils/pkg/apply/taskrunner"
	"sigs.k8s.io/cli-utils/pkg/common"
	"sigs.k8s.io/cli-utils/pkg/inventory"
	"sigs.k8s.io/cli-utils/pkg/object"
	"sigs.k8s.io/cli-utils/pkg/object/dependson"
	"sigs.k8s.io/cli-utils/pkg/object/mutation"
	"sigs.k8s.io/cli-utils/pkg/object/validation"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

// defaultTimeout bounds the waits of a target that has none.
const defaultTimeout = 5 * time.Minute

// result is what became of one object in this operation.
type result struct {
	// err is why it is not as wanted. sent says that a request left for the server, whatever came back.
	err  error
	sent bool
	// applied, with what the server answered.
	applied bool
	// skipped says why the object is left alone; recreated, that it was deleted and made anew.
	skipped    string
	recreated  bool
	uid        types.UID
	version    string // see entry
	generation int64
	owned      string
	// managed is who owns which fields, as the server answered; nil when the object is done.
	managed []metav1.ManagedFieldsEntry
	health  health
	// gone: it may leave the inventory.
	gone bool
	// reclaimed: it bore our marks before the inventory knew of it.
	reclaimed bool
}

// run is one operation on one target. Its fields belong to the goroutine of do; workers return values.
type run struct {
	engine   *site
	note     *note
	info     info
	target   deploy.Target
	progress deploy.Progress
	deadline time.Time // of waits
	destroy  bool      // the target itself goes away

	clients *kube.Clients // end with the operation's context
	answers *answers
	base    string // path of the server's address
	tasks   *taskrunner.TaskContext
	results map[object.ObjMetadata]result
	// unhealthy says of objects that were waited for in vain why.
	unhealthy map[object.ObjMetadata]string
	// recalled are further objects with our marks, found when the inventory had been lost.
	recalled []object.ObjMetadata
	// applyEnded is set by the first beforePrune, mayPrune by it when nothing had failed until then.
	applyEnded, mayPrune bool
	rules                *healthRules
	// awaited: the wait for health at the end of the apply has begun.
	awaited bool
}

func (e *site) newRun(ctx context.Context, n *note, progress deploy.Progress) (*run, error) {
	if progress == nil {
		progress = func(deploy.Phase, string) {}
	}
	timeout := n.work.Target.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	r := &run{
		engine: e, note: n, info: n.info, target: n.work.Target, progress: progress, deadline: time.Now().Add(timeout),
		answers: &answers{refused: map[string]error{}}, results: map[object.ObjMetadata]result{}, unhealthy: map[object.ObjMetadata]string{},
	}
	var err error
	if r.rules, err = e.rulesOf(n.work.Target); err != nil {
		return nil, err
	}
	if r.clients, err = e.clients.Bound(ctx, r.answers.wrap); err != nil {
		return nil, err
	}
	if host, err := url.Parse(e.clients.Config.Host); err == nil {
		r.base = host.Path
	}
	// Nobody reads the events of the whole: each object's own are read where it is worked on.
	r.tasks = taskrunner.NewTaskContext(make(chan event.Event), cache.NewResourceCacheMap())
	return r, nil
}

// queue asks cli-utils' solver for the tasks in order, and notes which objects it found fault with.
func (r *run) queue(c client) []taskrunner.Task {
	collector := &validation.Collector{}
	var doomed object.UnstructuredSet
	for id := range r.note.render.invalid {
		collector.InvalidIds = append(collector.InvalidIds, id)
	}
	for _, v := range r.note.drop {
		if v.live != nil && v.fate == fateDelete {
			doomed = append(doomed, v.live)
		}
	}
	namespaces := sets.NewString()
	for _, u := range r.note.render.objects {
		if ns := u.GetNamespace(); ns != "" {
			namespaces.Insert(ns)
		}
	}
	b := &solver.TaskQueueBuilder{
		Pruner:        &prune.Pruner{InvClient: c, Client: r.clients.Dynamic, Mapper: r.clients.Mapper},
		DynamicClient: r.clients.Dynamic,
		Mapper:        r.clients.Mapper,
		InvClient:     c,
		InfoHelper:    applyinfo.NewHelper(r.clients.Mapper, r.clients.RESTClientFor),
		Collector:     collector,
		ApplyFilters:  []filter.ValidationFilter{filter.DependencyFilter{TaskContext: r.tasks, ActuationStrategy: actuation.ActuationStrategyApply}},
		PruneFilters: []filter.ValidationFilter{
			filter.PreventRemoveFilter{},
			filter.InventoryPolicyPruneFilter{Inv: r.info, InvPolicy: inventory.PolicyAdoptIfNoInventory},
			filter.LocalNamespacesFilter{LocalNamespaces: namespaces},
			filter.DependencyFilter{TaskContext: r.tasks, ActuationStrategy: actuation.ActuationStrategyDelete},
		},
	}
	q := b.WithApplyObjects(r.relevant(doomed)).WithPruneObjects(doomed).WithInventory(r.info).Build(r.tasks, solver.Options{
		ServerSideOptions:      common.ServerSideOptions{ServerSideApply: true, ForceConflicts: true, FieldManager: deploy.FieldManager},
		ReconcileTimeout:       defaultTimeout, // ours are used instead; 0 would mean for ever
		PruneTimeout:           defaultTimeout,
		Prune:                  true,
		Destroy:                r.destroy,
		PrunePropagationPolicy: metav1.DeletePropagationBackground,
		InventoryPolicy:        inventory.PolicyAdoptIfNoInventory,
	})
	for id, err := range r.note.render.invalid {
		r.results[id] = result{err: err}
	}
	for _, err := range collector.Errors {
		var v *validation.Error
		if errors.As(err, &v) {
			for _, id := range v.Identifiers() {
				r.results[id] = result{err: discreet(r.note.render.byID[id], v.Unwrap())}
			}
		}
	}
	for _, id := range collector.InvalidIds {
		r.tasks.AddInvalidObject(id)
	}
	var tasks []taskrunner.Task
	for in := q.ToChannel(); len(in) > 0; {
		tasks = append(tasks, <-in)
	}
	webhooksLast(tasks, r.tasks.Graph())
	return tasks
}

// relevant leaves out what is unchanged and nobody can depend on: the graph costs time with the square of its objects. Without annotations that make
// dependencies, only namespaces and CRDs have dependants.
func (r *run) relevant(doomed object.UnstructuredSet) object.UnstructuredSet {
	all := r.note.render.objects
	for _, u := range slices.Concat(all, doomed) {
		if dependson.HasAnnotation(u) || mutation.HasAnnotation(u) {
			return all
		}
	}
	var out object.UnstructuredSet
	for _, u := range all {
		if _, changed := r.note.apply[object.UnstructuredToObjMetadata(u)]; changed || object.IsKindNamespace(u) || object.IsCRD(u) {
			out = append(out, u)
		}
	}
	return out
}

// do works the tasks off one after the other. What cli-utils would do one object at a time, or wait for without need, is done our way; their
// order and their inventory stay cli-utils'. The error is what ended the run early: the context, or an inventory that could not be written. What befell objects is in results.
func (r *run) do(ctx context.Context) error {
	var stopped error
	if r.destroy { // cli-utils' queue for it does not begin with the inventory
		stopped = r.begin(ctx)
	}
	for _, t := range r.queue(client{run: r, ctx: ctx}) {
		switch t := t.(type) {
		case *task.InvAddTask:
			stopped = r.start(t)
		case *task.ApplyTask:
			if stopped == nil {
				stopped = r.applyWave(ctx, t)
			}
		case *taskrunner.WaitTask:
			if stopped == nil {
				stopped = r.settle(ctx, t)
			}
		case *task.PruneTask:
			if stopped == nil {
				stopped = r.beforePrune(ctx)
			}
			if stopped == nil && r.mayPrune {
				stopped = r.pruneWave(ctx, t)
			}
		case *task.DeleteOrUpdateInvTask:
			if stopped == nil {
				stopped = r.beforePrune(ctx)
			}
			if stopped == nil && r.mayPrune {
				stopped = r.letGo(ctx)
			}
			if stopped == nil {
				stopped = r.recall(ctx)
			}
			crashpoint.At("applier.before-record")
			if err := r.start(t); stopped == nil {
				stopped = err
			}
		}
	}
	return stopped
}

// start runs one of cli-utils' own tasks to its end.
func (r *run) start(t taskrunner.Task) error {
	t.Start(r.tasks)
	return (<-r.tasks.TaskChannel()).Err
}

// failed is nil as long as everything that was tried went well.
func (r *run) failed() error {
	for id, res := range r.results {
		if res.err != nil {
			return fmt.Errorf("%s: %w", objectID(id), res.err)
		}
	}
	for id, why := range r.unhealthy {
		return fmt.Errorf("%s: %s", objectID(id), why)
	}
	return nil
}
