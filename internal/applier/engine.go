// Package applier makes a cluster hold exactly the manifests of a target: it plans, applies, waits for health, prunes and deletes, through the parts of cli-utils.
package applier

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

// defaultWorkers is how many requests the engine has under way at once, over all targets. One API server core answers about that many applies in parallel.
const defaultWorkers = 16

// Builder renders the objects of a target from the folder of its artifact. build.Builder is one.
type Builder interface {
	Build(ctx context.Context, t deploy.Target, dir string) ([]*unstructured.Unstructured, error)
}

// Clusters finds the clients of the cluster that a target is for, as the account that it names. kube.Pool is one.
type Clusters interface {
	For(ctx context.Context, t deploy.Target) (*kube.Clients, error)
}

// Options of an Engine. Clients, Builder and Namespace are required.
type Options struct {
	// Clients of the agent itself, for what it remembers, and for the targets where there are no Clusters.
	Clients *kube.Clients
	// Clusters that targets are for. Default: all of them are for that of Clients.
	Clusters Clusters
	Builder  Builder
	// Namespace of the agent: where the inventories are.
	Namespace string
	Log       *zap.Logger
	// Workers is how many objects are applied or deleted at once, over all targets. Default: 16.
	Workers int
}

// Engine applies manifests. It implements reconcile.Engine for Kustomizations. One target has one operation at a time; different targets are independent.
type Engine struct {
	own      *kube.Clients // of the agent itself
	clusters Clusters
	build    Builder
	store    *store
	log      *zap.Logger
	// slots holds one token per request that may be under way.
	slots chan struct{}

	// mu guards settled, refusals, rules, flights and grips.
	mu sync.Mutex
	// settled remembers the digest and spec that a target was brought to: it is not even rendered again until one of them changes.
	settled map[deploy.Name]string
	// refusals are the targets whose last attempt ended with nothing but a blocked prune.
	refusals map[deploy.Name]*refusal
	// rules are the compiled healthCheckExprs of the targets that have some.
	rules map[deploy.Name]*healthRules
	// flights are the attempts that are between their plan and their inventory.
	flights map[deploy.Name]*flight
	// grips are what the targets' last plans knew of what they hold.
	grips map[deploy.Name]grip
}

// New makes an engine; it makes no request.
func New(o Options) *Engine {
	if o.Workers <= 0 {
		o.Workers = defaultWorkers
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return (&Engine{
		own:      o.Clients,
		clusters: o.Clusters,
		build:    o.Builder,
		store:    newStore(o.Clients.Kubernetes.CoreV1().ConfigMaps(o.Namespace), o.Namespace),
		log:      o.Log.Named("applier"),
		slots:    make(chan struct{}, o.Workers),
	}).blank()
}

// blank gives an engine an empty memory.
func (e *Engine) blank() *Engine {
	e.settled, e.refusals, e.rules = map[deploy.Name]string{}, map[deploy.Name]*refusal{}, map[deploy.Name]*healthRules{}
	e.flights, e.grips = map[deploy.Name]*flight{}, map[deploy.Name]grip{}
	return e
}

func (e *Engine) info(t deploy.Target) info {
	i := infoOf(e.store.namespace, t.Name)
	i.cluster = t.Cluster()
	return i
}

// site is the engine in the cluster of one target, as the account that the target names.
type site struct {
	*Engine
	clients *kube.Clients
}

func (e *Engine) site(ctx context.Context, t deploy.Target) (*site, error) {
	if e.clusters == nil {
		return &site{e, e.own}, nil
	}
	c, err := e.clusters.For(ctx, t)
	if err != nil {
		return nil, err
	}
	return &site{e, c}, nil
}

func (e *Engine) isSettled(w deploy.Work) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.settled[w.Target.Name] == settledKey(w)
}

func (e *Engine) setSettled(w deploy.Work, yes bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.settled, w.Target.Name)
	if yes {
		e.settled[w.Target.Name] = settledKey(w)
	}
}

func settledKey(w deploy.Work) string { return w.Revision.Digest + " " + w.Target.Hash }

// acquire takes a slot, or returns the context's error.
func (e *Engine) acquire(ctx context.Context) error {
	select {
	case e.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Engine) release() { <-e.slots }

// pause is sleep for a holder of a slot, which others may use meanwhile.
func (e *Engine) pause(ctx context.Context, d time.Duration) error {
	e.release()
	err := sleep(ctx, d)
	e.slots <- struct{}{} // also after the context's end: the holder will give one back
	return err
}

// each calls f for the numbers below n, as many at once as there are slots, and returns when all have returned. It starts none after the context's end; those
// are told so by the error.
func (e *Engine) each(ctx context.Context, n int, f func(int)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range n {
		if err := e.acquire(ctx); err != nil {
			return err
		}
		wg.Go(func() {
			defer e.release()
			f(i)
		})
	}
	return ctx.Err()
}

// detached is a context for the last writes of a cancelled operation: what was done is recorded, so that nobody does it again.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	const most = 5 * time.Second
	return context.WithTimeout(context.WithoutCancel(ctx), most)
}
