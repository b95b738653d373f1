package main

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// syncPod does to one Pod what the kubelet of its node would do.
func (k *kubelet) syncPod(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	pod, err := k.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		k.starts.forget(key)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !slices.Contains(k.nodes, pod.Spec.NodeName) {
		return 0, nil // not scheduled yet
	}
	if pod.DeletionTimestamp != nil {
		return 0, k.endPod(ctx, pod)
	}
	if terminal(pod) {
		return 0, nil
	}
	now := time.Now()
	started := k.starts.of(pod, now)
	status, again := podStatus(pod, started, now)
	return again, k.updatePodStatus(ctx, pod, status)
}

// endPod removes a terminating Pod at once, whatever grace it was given: its containers are not there and need no time to end. When finalizers
// hold it, its phase becomes final first, because the Job controller removes its finalizer only from Pods that are done.
func (k *kubelet) endPod(ctx context.Context, pod *corev1.Pod) error {
	if len(pod.Finalizers) > 0 && !terminal(pod) {
		now := time.Now()
		return k.updatePodStatus(ctx, pod, statusFor(pod, failed, "", k.starts.of(pod, now), now))
	}
	if pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0 {
		return nil // only finalizers keep it
	}
	return k.deletePod(ctx, pod)
}

func (k *kubelet) deletePod(ctx context.Context, pod *corev1.Pod) error {
	err := k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)),
		Preconditions:      metav1.NewUIDPreconditions(string(pod.UID)),
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or replaced by another Pod of the same name, whose own events follow
	}
	return err
}

// updatePodStatus writes the status when it differs. The status subresource ignores metadata, so the stripped managedFields do no harm.
func (k *kubelet) updatePodStatus(ctx context.Context, pod *corev1.Pod, status corev1.PodStatus) error {
	if equality.Semantic.DeepEqual(pod.Status, status) {
		return nil
	}
	changed := pod.DeepCopy()
	changed.Status = status
	_, err := k.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return err
}

// syncNamespace removes the Pods and claims of a namespace that is being deleted. The namespace controller looks for the first time after 5 s, and again
// only many seconds later when it then finds Pods with grace or anything with a finalizer: with these gone, a namespace takes 5 s instead of 20.
func (k *kubelet) syncNamespace(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	namespace, err := k.namespaces.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || namespace.DeletionTimestamp == nil {
		return 0, err
	}
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
	if err := k.client.CoreV1().Pods(key.Name).DeleteCollection(ctx, now, metav1.ListOptions{}); err != nil {
		return 0, err
	}
	return 0, k.client.CoreV1().PersistentVolumeClaims(key.Name).DeleteCollection(ctx, now, metav1.ListOptions{})
}

func terminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
