// Package notify tells people what changed: it turns states into events, once per change, and sends them to sinks and to Kubernetes, without ever holding up who reports a state.
package notify

import (
	"context"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/kubernetes"

	"github.com/towline/towline/internal/deploy"
)

// controller is the name that events bear as the component that reports them.
const controller = "towline"

// drainTime is how long events that are still queued may take to be sent when the agent ends: an orderly end must not wait for a receiver that is down.
const drainTime = 3 * time.Second

// Options of a Notifier.
type Options struct {
	// Namespace of the config: events about the agent itself are in it, and those about entries whose own namespace does not exist.
	Namespace string
	// Instance says which agent or cluster speaks; every event bears it.
	Instance string
	// Kubernetes is where Events are written. Nil: nowhere.
	Kubernetes kubernetes.Interface
	// Secret reads a Secret. Nil: none can be read.
	Secret func(ctx context.Context, namespace, name string) (map[string][]byte, error)
	// Transport for generic and generic-hmac. Nil: one with timeouts and the environment's proxy.
	Transport http.RoundTripper
	Log       *zap.Logger
}

// Notifier watches states go by. Its methods, but for Run, never block, do no I/O and may be called from any goroutine.
type Notifier struct {
	options Options
	idle    func()        // closes what connections are kept open
	changed chan struct{} // capacity 1: outlets is not what it was

	// mu guards everything below. It is held for map accesses, comparing and matching only.
	mu      sync.Mutex
	sources map[deploy.Name]sourceMemory
	targets map[deploy.Name]targetMemory
	config  string // what was wrong with the config when that was told last; empty: nothing
	// outlets by the sink's namespace/name; Kubernetes is apart.
	outlets map[string]*outlet
	cluster *outlet // nil without Kubernetes
}

// New makes a notifier without sinks. Nothing is sent before Run.
func New(o Options) *Notifier {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	idle := func() {}
	if o.Transport == nil {
		own := newTransport()
		o.Transport, idle = own, own.CloseIdleConnections
	}
	n := &Notifier{
		options: o,
		idle:    idle,
		changed: make(chan struct{}, 1),
		sources: map[deploy.Name]sourceMemory{},
		targets: map[deploy.Name]targetMemory{},
		outlets: map[string]*outlet{},
	}
	if o.Kubernetes != nil {
		n.cluster = newOutlet(newRecorder(o), clusterPatience, 0, o.Log.Named("events"))
	}
	return n
}

// Set makes these the sinks. One whose entry is the same keeps its queue; one whose entry changed takes over what the old one had not sent, as far as it is for it.
func (n *Notifier) Set(sinks []deploy.Sink) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.outlets
	n.outlets = make(map[string]*outlet, len(sinks))
	for _, s := range sinks {
		name := s.Namespace + "/" + s.Name
		before := old[name]
		if before != nil && before.hash == s.Hash {
			n.outlets[name] = before
			continue
		}
		log := n.options.Log.With(zap.String("sink", name))
		filter, err := NewFilter(s)
		if err != nil {
			log.Error("pattern of a sink ignored", zap.Error(err))
		}
		o := newOutlet(newSender(s, n.options), sinkPatience, quietTime, log)
		o.hash, o.filter = s.Hash, filter
		if before != nil {
			before.handOver(o)
		}
		n.outlets[name] = o
	}
	for name, o := range old {
		if n.outlets[name] != o {
			o.retire()
		}
	}
	signal(n.changed)
}

// clusterName is under what Dropped counts the Events of Kubernetes. No sink has it: their names have a namespace.
const clusterName = "kubernetes-events"

// Dropped is how many events each sink has lost since the start, by namespace/name: its queue was full, or its receiver did not take them in time. Those for
// Kubernetes are under "kubernetes-events".
func (n *Notifier) Dropped() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[string]int, len(n.outlets)+1)
	for name, o := range n.outlets {
		out[name] = o.lost()
	}
	if n.cluster != nil {
		out[clusterName] = n.cluster.lost()
	}
	return out
}

// Run sends until the context ends, then for at most a few seconds what is still queued; what is reported after that is not sent. It may be run once. A message to a
// shoutrrr service cannot be called off: one that is under way then outlives Run, by no more than BoundServices allows.
func (n *Notifier) Run(ctx context.Context) error {
	defer n.idle()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var running sync.WaitGroup
	started := map[*outlet]bool{}
	for ctx.Err() == nil {
		n.start(work, ctx.Done(), started, &running)
		select {
		case <-ctx.Done():
		case <-n.changed:
		}
	}
	n.start(work, ctx.Done(), started, &running) // what came with the last Set
	timer := time.AfterFunc(drainTime, stop)
	defer timer.Stop()
	running.Wait()
	return nil
}

// start starts the outlets that are new. Those that are retired end by themselves.
func (n *Notifier) start(ctx context.Context, closing <-chan struct{}, started map[*outlet]bool, running *sync.WaitGroup) {
	n.mu.Lock()
	defer n.mu.Unlock()
	current := map[*outlet]bool{}
	for _, o := range n.outlets {
		current[o] = true
	}
	if n.cluster != nil {
		current[n.cluster] = true
	}
	for o := range started {
		if !current[o] {
			delete(started, o)
		}
	}
	for o := range current {
		if !started[o] {
			started[o] = true
			running.Go(func() { o.run(ctx, closing) })
		}
	}
}

// send queues events everywhere. Call with mu held, so that all outlets see them in the order in which they happened.
func (n *Notifier) send(events ...deploy.Event) {
	for _, e := range events {
		if e.At.IsZero() {
			e.At = time.Now()
		}
		e.Message = presentable(e.Message)
		for _, o := range n.outlets {
			o.put(e)
		}
		if n.cluster != nil {
			n.cluster.put(e)
		}
	}
}

// signal leaves a token in a channel of capacity 1.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is there already
	}
}
