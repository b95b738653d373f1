package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// kubelet plays everything below the API of a cluster: the nodes with their kubelets, the volume provisioner and the load balancer. It reacts to
// watches; nothing is polled.
type kubelet struct {
	client   kubernetes.Interface
	nodes    []string
	informer informers.SharedInformerFactory
	loops    []*loop

	pods       corelisters.PodLister
	services   corelisters.ServiceLister
	claims     corelisters.PersistentVolumeClaimLister
	volumes    corelisters.PersistentVolumeLister
	namespaces corelisters.NamespaceLister
	classes    storagelisters.StorageClassLister

	starts starts
}

// newKubelet prepares a kubelet for that many nodes. Its own log and the one of the client library go to log.
func newKubelet(config *rest.Config, nodeCount int, log io.Writer) (*kubelet, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	klog.LogToStderr(false)
	klog.SetOutput(log)

	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(dropManagedFields))
	core := factory.Core().V1()
	k := &kubelet{
		client:     client,
		informer:   factory,
		pods:       core.Pods().Lister(),
		services:   core.Services().Lister(),
		claims:     core.PersistentVolumeClaims().Lister(),
		volumes:    core.PersistentVolumes().Lister(),
		namespaces: core.Namespaces().Lister(),
		classes:    factory.Storage().V1().StorageClasses().Lister(),
	}
	for i := range nodeCount {
		k.nodes = append(k.nodes, nodeName(i))
	}
	for _, watched := range []struct {
		name     string
		informer cache.SharedIndexInformer
		sync     syncFunc
	}{
		{"pod", core.Pods().Informer(), k.syncPod},
		{"service", core.Services().Informer(), k.syncService},
		{"claim", core.PersistentVolumeClaims().Informer(), k.syncClaim},
		{"volume", core.PersistentVolumes().Informer(), k.syncVolume},
		{"namespace", core.Namespaces().Informer(), k.syncNamespace},
	} {
		l := newLoop(watched.name, watched.sync)
		if _, err := watched.informer.AddEventHandler(l.handler()); err != nil {
			return nil, fmt.Errorf("watch every %s: %w", watched.name, err)
		}
		k.loops = append(k.loops, l)
	}
	return k, nil
}

// run blocks until ctx ends and then returns nil, or until the kubelet can't do its work. It leaves no goroutine behind.
func (k *kubelet) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	defer k.informer.Shutdown()
	defer cancel() // the informers end with the context; Shutdown waits for them

	k.informer.Start(ctx.Done())
	for _, l := range k.loops {
		running.Go(func() { l.run(ctx) })
	}
	if err := k.createStorageClass(ctx); err != nil {
		return endOfContext(ctx, err)
	}
	if err := k.registerNodes(ctx); err != nil {
		return endOfContext(ctx, err)
	}
	return endOfContext(ctx, k.renewLeases(ctx))
}

// endOfContext makes an error that only says that the context has ended into none.
func endOfContext(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// dropManagedFields keeps out of memory what the kubelet never reads. It must not be used on objects that are then sent with Update.
func dropManagedFields(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}

// starts remembers when each Pod was first seen on its node. The API keeps that time in whole seconds, too coarse for ready-after and run-for.
type starts struct {
	mu    sync.Mutex // guards times
	times map[types.NamespacedName]start
}

// start is the moment at which the Pod with this UID was first seen: a StatefulSet gives the same name again and again.
type start struct {
	pod types.UID
	at  time.Time
}

// of returns the start of the Pod, which is now when it was never asked for before.
func (s *starts) of(pod *corev1.Pod, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.times == nil {
		s.times = map[types.NamespacedName]start{}
	}
	key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	if s.times[key].pod != pod.UID {
		s.times[key] = start{pod: pod.UID, at: now}
	}
	return s.times[key].at
}

// forget drops the Pod of this name.
func (s *starts) forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.times, key)
}
