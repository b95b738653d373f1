package main

import (
	"context"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// syncService gives a LoadBalancer an address, and takes it away when the Service becomes another type.
func (k *kubelet) syncService(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	service, err := k.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	wanted := loadBalancerStatus(service)
	if service.DeletionTimestamp != nil || equality.Semantic.DeepEqual(service.Status.LoadBalancer, wanted) {
		return 0, nil
	}
	changed := service.DeepCopy()
	changed.Status.LoadBalancer = wanted
	_, err = k.client.CoreV1().Services(service.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return 0, err
}

// loadBalancerStatus derives the address from the ClusterIP, so that it is unique and stays. 198.18.0.0/15 is for benchmarks (RFC 2544): nothing is
// reachable there. A Service of a loadBalancerClass is left to whoever implements that class.
func loadBalancerStatus(service *corev1.Service) corev1.LoadBalancerStatus {
	if service.Spec.LoadBalancerClass != nil {
		return service.Status.LoadBalancer
	}
	address, err := netip.ParseAddr(service.Spec.ClusterIP)
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer || err != nil || !address.Is4() {
		return corev1.LoadBalancerStatus{}
	}
	octets := address.As4()
	external := netip.AddrFrom4([4]byte{198, 18, octets[2], octets[3]}).String()
	return corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: external, IPMode: new(corev1.LoadBalancerIPModeVIP)}}}
}
