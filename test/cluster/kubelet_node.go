package main

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

const (
	// maxNodes keeps a typing error from filling the cluster.
	maxNodes = 100
	// leaseSeconds and leaseRenewal are those of a real kubelet.
	leaseSeconds = 40
	leaseRenewal = 10 * time.Second
)

// capacity is that of every node: enough that only a test which asks for it runs out.
var capacity = corev1.ResourceList{
	corev1.ResourceCPU:              resource.MustParse("64"),
	corev1.ResourceMemory:           resource.MustParse("512Gi"),
	corev1.ResourceEphemeralStorage: resource.MustParse("4Ti"),
	corev1.ResourcePods:             resource.MustParse("10000"),
}

func nodeName(index int) string { return fmt.Sprintf("node-%d", index+1) }

// registerNodes creates the nodes and their leases.
func (k *kubelet) registerNodes(ctx context.Context) error {
	for _, name := range k.nodes {
		node, err := k.client.CoreV1().Nodes().Create(ctx, newNode(name, time.Now()), metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("register %s: %w", name, err)
		}
		lease := &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{
				Name: name,
				OwnerReferences: []metav1.OwnerReference{
					{APIVersion: "v1", Kind: "Node", Name: name, UID: node.UID},
				},
			},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity:       new(name),
				LeaseDurationSeconds: new(int32(leaseSeconds)),
				RenewTime:            new(metav1.NowMicro()),
			},
		}
		_, err = k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, lease, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create the lease of %s: %w", name, err)
		}
	}
	return nil
}

// renewLeases says until ctx ends that the nodes are alive. A request that fails is repeated with the next round: the controllers have patience for
// many of them (nodeGracePeriod).
func (k *kubelet) renewLeases(ctx context.Context) error {
	ticker := time.NewTicker(leaseRenewal)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for _, name := range k.nodes {
			if err := k.renewLease(ctx, name); err != nil && ctx.Err() == nil {
				klog.ErrorS(err, "Could not renew a lease", "node", name)
			}
		}
	}
}

func (k *kubelet) renewLease(ctx context.Context, node string) error {
	leases := k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	lease, err := leases.Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	lease.Spec.RenewTime = new(metav1.NowMicro())
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}

func newNode(name string, now time.Time) *corev1.Node {
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason string) corev1.NodeCondition {
		at := metav1.NewTime(now)
		return corev1.NodeCondition{Type: kind, Status: status, Reason: reason, LastHeartbeatTime: at, LastTransitionTime: at}
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				corev1.LabelHostname:   name,
				corev1.LabelArchStable: "amd64",
				corev1.LabelOSStable:   "linux",
			},
		},
		Status: corev1.NodeStatus{
			Capacity:    capacity,
			Allocatable: capacity,
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: hostIP},
				{Type: corev1.NodeHostName, Address: name},
			},
			NodeInfo: corev1.NodeSystemInfo{
				Architecture: "amd64", OperatingSystem: "linux", KubeletVersion: kubernetesVersion(), ContainerRuntimeVersion: "simulated://1",
			},
			Conditions: []corev1.NodeCondition{
				condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady"),
				condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory"),
				condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure"),
				condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID"),
			},
		},
	}
}
