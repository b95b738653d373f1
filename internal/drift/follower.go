package drift

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/towline/towline/internal/deploy"
)

const (
	// firstPause and mostPause bound the pauses after a watch that could not be begun.
	firstPause = time.Second
	mostPause  = time.Minute
	// longestGap is how long a watch may be away, in one pause, before nobody relies on it any more.
	longestGap = 15 * time.Second
	// firstDenied and mostDenied bound the pauses after a denial, each twice the one before: an API server that has just started may deny for a moment what it allows. Until it is
	// allowed, drift is found by the targets' full checks.
	firstDenied = 10 * time.Second
	mostDenied  = 10 * time.Minute
)

// follower watches one kind in one cluster: everywhere, or where that is denied in the namespaces where targets have objects of it.
type follower struct {
	watcher    *Watcher
	key        key
	namespaces []string
	stop       context.CancelFunc
	// confined: it may not be watched everywhere.
	confined atomic.Bool
	said     sync.Map // the namespaces where it was said that watching is denied
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	for pause := firstDenied; ctx.Err() == nil; pause = min(2*pause, mostDenied) {
		err := f.follow(ctx, "")
		if ctx.Err() != nil {
			return
		}
		f.confined.Store(true)
		bounded, stop := context.WithTimeout(ctx, pause)
		if slices.Contains(f.namespaces, "") {
			f.deny("", err)
		} else {
			f.followEach(bounded)
		}
		<-bounded.Done()
		stop()
		f.confined.Store(false)
	}
}

// followEach follows the kind in each namespace by itself.
func (f *follower) followEach(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, ns := range f.namespaces {
		running.Go(func() {
			if err := f.follow(ctx, ns); ctx.Err() == nil {
				f.deny(ns, err)
			}
		})
	}
}

// deny says once that objects may not be watched.
func (f *follower) deny(namespace string, err error) {
	if _, again := f.said.LoadOrStore(namespace, true); again {
		return
	}
	f.watcher.log.Warn("objects of a kind may not be watched (needs list and watch on it): what others change of them is found at the targets' interval",
		zap.String("kind", f.key.kind.String()), zap.Error(err))
}

// follow watches in one namespace, or with an empty name in all, until ctx ends or that is denied. Watches are resumed where they ended; what cannot be reached now is tried again.
func (f *follower) follow(ctx context.Context, namespace string) error {
	defer f.watcher.isLive(f.key, false)
	begun := func() { f.watcher.isLive(f.key, namespace == "") }
	known := &known{begun: begun, sees: func(label string, s Sight) { f.watcher.see(f.key.clients, label, s) }, kind: f.key.kind, objects: map[object]state{}}
	var reflector *cache.Reflector
	pause := firstPause
	for {
		began := time.Now()
		var err error
		if reflector == nil {
			reflector, err = f.reflector(namespace, known)
		}
		if err == nil {
			err = reflector.ListAndWatchWithContext(ctx)
		}
		if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			return err
		}
		if err == nil || time.Since(began) > mostPause {
			pause = firstPause
		}
		f.watcher.log.Debug("a watch ended", zap.String("kind", f.key.kind.String()), zap.String("namespace", namespace), zap.Error(err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		if pause > longestGap {
			f.watcher.isLive(f.key, false) // until it is listed again: too much may have happened meanwhile
			reflector = nil
		}
		pause = min(2*pause, mostPause)
	}
}

// reflector finds the resource of the kind and makes what lists and watches it.
func (f *follower) reflector(namespace string, known *known) (*cache.Reflector, error) {
	mapping, err := f.key.clients.Mapper.RESTMapping(f.key.kind)
	if meta.IsNoMatchError(err) {
		f.key.clients.Mapper.Reset() // its CRD may have come since
	}
	if err != nil {
		return nil, err
	}
	client := f.key.clients.Metadata.Resource(mapping.Resource).Namespace(namespace)
	ours := func(o metav1.ListOptions) metav1.ListOptions {
		o.LabelSelector = deploy.LabelTarget
		return o
	}
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return client.List(ctx, ours(o))
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, ours(o))
		},
	}, f.key.clients.Metadata)
	return cache.NewReflectorWithOptions(lw, &metav1.PartialObjectMetadata{}, known, cache.ReflectorOptions{Name: "drift", TypeDescription: f.key.kind.String()}), nil
}
