package inputs

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
)

var resources = map[string]schema.GroupVersionResource{
	kindConfigMap: corev1.SchemeGroupVersion.WithResource("configmaps"),
	kindSecret:    corev1.SchemeGroupVersion.WithResource("secrets"),
}

// followObject watches an object until ctx ends. Where that is denied it is tried again, at first soon and then now and then.
func (w *Watcher) followObject(ctx context.Context, r ref) {
	o := &object{watcher: w, ref: r, named: time.Now()}
	pause := w.pause
	for ctx.Err() == nil {
		began := time.Now()
		o.watch(ctx)
		if time.Since(began) > longestPause { // what denies it now is another matter than before
			pause = w.pause
			o.allowed()
		}
		timer := time.NewTimer(pause)
		pause = min(2*pause, longestPause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// object is one that is watched.
type object struct {
	watcher *Watcher
	ref     ref
	named   time.Time // since when it is to be watched

	mu sync.Mutex // guards what follows
	// known says that the object was looked at once; version is what it had then, empty where it was not there.
	known   bool
	version string
	// denied: so it was since it last could be watched for long.
	denied bool
}

// watch returns when ctx ends, or when the watch is denied.
func (o *object) watch(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	named := func(l *metav1.ListOptions) {
		l.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, o.ref.name).String()
	}
	informer := metadatainformer.NewFilteredMetadataInformer(o.watcher.client, resources[o.ref.kind], o.ref.namespace, 0, cache.Indexers{}, named).Informer()
	// Errors of both are those of a started informer.
	_ = informer.SetTransform(slim)
	_ = informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			o.deny(err)
			stop()
		}
	})
	handle, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(v any) { o.see(versionOf(v)) },
		UpdateFunc: func(_, v any) { o.see(versionOf(v)) },
		DeleteFunc: func(any) { o.see("") },
	})
	if err != nil {
		return // the informer has been stopped, which only stop does
	}
	var running sync.WaitGroup
	running.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), handle.HasSynced) && len(informer.GetStore().ListKeys()) == 0 {
			o.see("") // nothing there yet: what comes is news
		}
	})
	informer.RunWithContext(ctx)
	running.Wait()
}

// see takes in what version the object has now. The first look is what later ones are compared with; one that comes late is news itself, since nobody saw what was before.
func (o *object) see(version string) {
	o.mu.Lock()
	news := o.known && o.version != version || !o.known && (o.denied || time.Since(o.named) > prompt)
	o.known, o.version = true, version
	o.mu.Unlock()
	if news {
		o.watcher.note(o.ref)
	}
}

// allowed lets the next denial be said again.
func (o *object) allowed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.denied = false
}

// deny says once that the object may not be watched.
func (o *object) deny(err error) {
	o.mu.Lock()
	again := o.denied
	o.denied = true
	o.mu.Unlock()
	if !again {
		o.watcher.log.Warn("an input of targets may not be watched (needs list and watch on it): its changes are found at the targets' interval",
			zap.Stringer("input", o.ref), zap.Error(err))
	}
}

// slim keeps of an object only what is looked at.
func slim(v any) (any, error) {
	m, err := meta.Accessor(v)
	if err != nil {
		return v, nil //nolint:nilerr // a tombstone
	}
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: m.GetNamespace(), Name: m.GetName(), ResourceVersion: m.GetResourceVersion()}}, nil
}

func versionOf(v any) string {
	m, err := meta.Accessor(v)
	if err != nil {
		return ""
	}
	return m.GetResourceVersion()
}
