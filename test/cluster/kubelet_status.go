package main

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// crashRestarts is the restart count of Pods that crash: above the default backoffLimit of a Job (6), so that it gives up.
	crashRestarts = 10
	// hostIP is the address of every node. Nothing listens there.
	hostIP = "10.250.0.1"
)

// podStatus returns the status that the Pod should have now, and after how long to ask again; 0 means when the Pod changes.
func podStatus(pod *corev1.Pod, started, now time.Time) (corev1.PodStatus, time.Duration) {
	f, err := parseFaults(pod.Annotations)
	if err != nil {
		return statusFor(pod, creating, err.Error(), started, now), 0
	}
	c, again := decide(pod.Spec.RestartPolicy, f, now.Sub(started))
	return statusFor(pod, c, "", started, now), again
}

// statusFor writes a condition as the status of a Pod. The message, if there is one, says why containers are not created. Times that are already in the
// Pod's status stay as long as what they tell about stays.
func statusFor(pod *corev1.Pod, c condition, message string, started, now time.Time) corev1.PodStatus {
	status := *pod.Status.DeepCopy()
	status.ObservedGeneration = pod.Generation
	status.HostIP, status.HostIPs = hostIP, []corev1.HostIP{{IP: hostIP}}
	if status.StartTime == nil {
		status.StartTime = new(metav1.NewTime(started))
	}
	if status.PodIP == "" && c != creating && c != pullFailing {
		status.PodIP = podIP(pod)
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	}
	status.Phase = phases[c]
	status.ContainerStatuses = nil
	for _, container := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, containerStatus(pod, container, c, message, now))
	}
	status.InitContainerStatuses = nil
	for _, container := range pod.Spec.InitContainers {
		status.InitContainerStatuses = append(status.InitContainerStatuses, initContainerStatus(pod, container, c, message, now))
	}
	setPodConditions(pod, &status, c, now)
	return status
}

var phases = map[condition]corev1.PodPhase{
	creating:    corev1.PodPending,
	pullFailing: corev1.PodPending,
	unready:     corev1.PodRunning,
	ready:       corev1.PodRunning,
	crashing:    corev1.PodRunning,
	succeeded:   corev1.PodSucceeded,
	failed:      corev1.PodFailed,
}

func containerStatus(pod *corev1.Pod, container corev1.Container, c condition, message string, now time.Time) corev1.ContainerStatus {
	status := corev1.ContainerStatus{
		Name:    container.Name,
		Image:   container.Image,
		Ready:   c == ready,
		Started: new(c == ready || c == unready),
	}
	if c != creating && c != pullFailing {
		status.ImageID = container.Image
		status.ContainerID = "simulated://" + string(pod.UID) + "/" + container.Name
	}
	previous := previousState(pod, container.Name)
	switch c {
	case creating:
		status.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: message}
		if message != "" {
			status.State.Waiting.Reason = "InvalidAnnotation"
		}
	case pullFailing:
		status.State.Waiting = &corev1.ContainerStateWaiting{
			Reason: "ImagePullBackOff", Message: "Back-off pulling image " + `"` + container.Image + `"`,
		}
	case crashing:
		status.RestartCount = crashRestarts
		status.State.Waiting = &corev1.ContainerStateWaiting{
			Reason: "CrashLoopBackOff", Message: "back-off 5m0s restarting failed container=" + container.Name,
		}
		status.LastTerminationState.Terminated = exitState(previous.LastTerminationState, 1, now)
	case succeeded:
		status.State.Terminated = exitState(previous.State, 0, now)
	case failed:
		status.State.Terminated = exitState(previous.State, 1, now)
	case ready, unready:
		status.State.Running = runningState(previous.State, now)
	}
	return status
}

// initContainerStatus is that of a container which has done its work, or of a sidecar (restartPolicy Always), which runs beside the others.
func initContainerStatus(pod *corev1.Pod, container corev1.Container, c condition, message string, now time.Time) corev1.ContainerStatus {
	sidecar := container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways
	running := c == ready || c == unready || c == crashing
	switch {
	case sidecar && running:
		return containerStatus(pod, container, ready, "", now)
	case sidecar && (c == failed || c == succeeded), running, c == failed:
		status := containerStatus(pod, container, succeeded, "", now)
		status.Ready = true
		return status
	default:
		return containerStatus(pod, container, c, message, now)
	}
}

func previousState(pod *corev1.Pod, container string) corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for _, status := range list {
			if status.Name == container {
				return status
			}
		}
	}
	return corev1.ContainerStatus{}
}

func runningState(previous corev1.ContainerState, now time.Time) *corev1.ContainerStateRunning {
	if previous.Running != nil {
		return previous.Running
	}
	return &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now)}
}

func exitState(previous corev1.ContainerState, code int32, now time.Time) *corev1.ContainerStateTerminated {
	if previous.Terminated != nil && previous.Terminated.ExitCode == code {
		return previous.Terminated
	}
	state := &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Completed", StartedAt: metav1.NewTime(now), FinishedAt: metav1.NewTime(now)}
	if code != 0 {
		state.Reason = "Error"
	}
	if previous.Running != nil {
		state.StartedAt = previous.Running.StartedAt
	}
	return state
}

// setPodConditions sets the conditions that a kubelet owns and leaves the others.
func setPodConditions(pod *corev1.Pod, status *corev1.PodStatus, c condition, now time.Time) {
	created := c != creating && c != pullFailing
	containersReady := c == ready
	reason := "ContainersNotReady"
	if c == succeeded {
		reason = "PodCompleted"
	}
	podReady, readyReason := containersReady, reason
	if containersReady && !gatesOpen(pod) {
		podReady, readyReason = false, "ReadinessGatesNotReady"
	}
	for _, wanted := range []struct {
		kind   corev1.PodConditionType
		on     bool
		reason string
	}{
		{corev1.PodReadyToStartContainers, c != succeeded && c != failed, ""},
		{corev1.PodInitialized, created || len(pod.Spec.InitContainers) == 0, reason},
		{corev1.ContainersReady, containersReady, reason},
		{corev1.PodReady, podReady, readyReason},
	} {
		setCondition(status, wanted.kind, wanted.on, wanted.reason, pod.Generation, now)
	}
}

func setCondition(status *corev1.PodStatus, kind corev1.PodConditionType, on bool, reason string, generation int64, now time.Time) {
	wanted := corev1.PodCondition{
		Type: kind, Status: corev1.ConditionTrue, ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
	}
	if !on {
		wanted.Status, wanted.Reason = corev1.ConditionFalse, reason
	}
	for i, present := range status.Conditions {
		if present.Type != kind {
			continue
		}
		if present.Status == wanted.Status {
			wanted.LastTransitionTime = present.LastTransitionTime
		}
		status.Conditions[i] = wanted
		return
	}
	status.Conditions = append(status.Conditions, wanted)
}

// gatesOpen says whether everything else that the Pod asks for before it counts as ready has been set to true by others.
func gatesOpen(pod *corev1.Pod) bool {
	open := map[corev1.PodConditionType]bool{}
	for _, c := range pod.Status.Conditions {
		open[c.Type] = c.Status == corev1.ConditionTrue
	}
	for _, gate := range pod.Spec.ReadinessGates {
		if !open[gate.ConditionType] {
			return false
		}
	}
	return true
}

// podIP derives an address in 10.244.0.0/16 from the Pod's UID. Nothing is reachable there, so two Pods may well have the same one.
func podIP(pod *corev1.Pod) string {
	if pod.Spec.HostNetwork {
		return hostIP
	}
	hash := fnv.New32a()
	hash.Write([]byte(pod.UID))
	address := [4]byte{10, 244}
	binary.BigEndian.PutUint16(address[2:], uint16(hash.Sum32()))
	return netip.AddrFrom4(address).String()
}
