package main

import (
	"context"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

const (
	// loopWorkers is how many objects of a kind are worked on at once: requests to the loopback wait little.
	loopWorkers = 4
	// retryFirst and retryLast bound the pause before an object is tried again; a conflict is gone with the next event.
	retryFirst, retryLast = 5 * time.Millisecond, 2 * time.Second
)

// syncFunc brings one object to where it should be. It returns when to look again, 0 for not before the object changes.
type syncFunc func(ctx context.Context, key types.NamespacedName) (time.Duration, error)

// loop calls a syncFunc for every object that changed, never twice at once for the same one.
type loop struct {
	name  string
	sync  syncFunc
	queue workqueue.TypedRateLimitingInterface[types.NamespacedName]
}

func newLoop(name string, sync syncFunc) *loop {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](retryFirst, retryLast)
	return &loop{name: name, sync: sync, queue: workqueue.NewTypedRateLimitingQueue(limiter)}
}

// handler puts what a watch reports into the queue.
func (l *loop) handler() cache.ResourceEventHandler {
	add := func(object any) {
		name, err := cache.DeletionHandlingObjectToName(object)
		if err != nil {
			klog.ErrorS(err, "Watch reported something without a name", "kind", l.name)
			return
		}
		l.queue.Add(types.NamespacedName{Namespace: name.Namespace, Name: name.Name})
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, object any) { add(object) }, DeleteFunc: add}
}

// run works until ctx ends.
func (l *loop) run(ctx context.Context) {
	var workers sync.WaitGroup
	for range loopWorkers {
		workers.Go(func() {
			for l.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	l.queue.ShutDown()
	workers.Wait()
}

func (l *loop) next(ctx context.Context) bool {
	key, shutdown := l.queue.Get()
	if shutdown {
		return false
	}
	defer l.queue.Done(key)
	again, err := l.sync(ctx, key)
	switch {
	case ctx.Err() != nil:
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		l.queue.AddRateLimited(key) // the cache is behind
	case err != nil:
		klog.ErrorS(err, "Could not act", "kind", l.name, "object", key)
		l.queue.AddRateLimited(key)
	default:
		l.queue.Forget(key)
		if again > 0 {
			l.queue.AddAfter(key, again)
		}
	}
	return true
}
