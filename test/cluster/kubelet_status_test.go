package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// birth is when the Pods of these tests start.
var birth = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newPod(adapt ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "0a1b", Generation: 3},
		Spec: corev1.PodSpec{
			NodeName:      "node-1",
			RestartPolicy: corev1.RestartPolicyAlways,
			Containers:    []corev1.Container{{Name: "web", Image: "nginx"}},
		},
		Status: corev1.PodStatus{
			Phase:      corev1.PodPending,
			Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}},
		},
	}
	for _, a := range adapt {
		a(pod)
	}
	return pod
}

func annotated(name, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { metav1.SetMetaDataAnnotation(&pod.ObjectMeta, annotationPrefix+name, value) }
}

// summary is what kstatus, the workload controllers and kubectl read of a status.
type summary struct {
	Phase          corev1.PodPhase
	Ready          corev1.ConditionStatus
	Waiting        string
	Running        bool
	Exit           int32
	ContainerReady bool
}

func summarize(t *testing.T, status corev1.PodStatus) summary {
	t.Helper()
	s := summary{Phase: status.Phase, Exit: -1}
	for _, c := range status.Conditions {
		if c.Type == corev1.PodReady {
			s.Ready = c.Status
		}
	}
	if len(status.ContainerStatuses) != 1 {
		t.Fatalf("%d container statuses", len(status.ContainerStatuses))
	}
	container := status.ContainerStatuses[0]
	s.ContainerReady = container.Ready
	s.Running = container.State.Running != nil
	if container.State.Waiting != nil {
		s.Waiting = container.State.Waiting.Reason
	}
	if container.State.Terminated != nil {
		s.Exit = container.State.Terminated.ExitCode
	}
	return s
}

func TestPodStatus(t *testing.T) {
	once := func(pod *corev1.Pod) { pod.Spec.RestartPolicy = corev1.RestartPolicyNever }
	const pending, running = corev1.PodPending, corev1.PodRunning
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want summary
	}{
		"running and ready":    {newPod(), summary{Phase: running, Ready: "True", Running: true, Exit: -1, ContainerReady: true}},
		"never ready":          {newPod(annotated("never-ready", "")), summary{Phase: running, Ready: "False", Running: true, Exit: -1}},
		"pending":              {newPod(annotated("pending", "")), summary{Phase: pending, Ready: "False", Waiting: "ContainerCreating", Exit: -1}},
		"image pull error":     {newPod(annotated("image-pull-error", "")), summary{Phase: pending, Ready: "False", Waiting: "ImagePullBackOff", Exit: -1}},
		"crash loop":           {newPod(annotated("crash-loop", "")), summary{Phase: running, Ready: "False", Waiting: "CrashLoopBackOff", Exit: -1}},
		"succeeded":            {newPod(once), summary{Phase: corev1.PodSucceeded, Ready: "False", Exit: 0}},
		"failed":               {newPod(once, annotated("fail", "")), summary{Phase: corev1.PodFailed, Ready: "False", Exit: 1}},
		"a typing error shows": {newPod(annotated("crashloop", "")), summary{Phase: pending, Ready: "False", Waiting: "InvalidAnnotation", Exit: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			status, _ := podStatus(c.pod, birth, birth)
			if diff := cmp.Diff(c.want, summarize(t, status)); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if status.ObservedGeneration != c.pod.Generation {
				t.Errorf("observedGeneration = %d, want %d", status.ObservedGeneration, c.pod.Generation)
			}
		})
		t.Run(name+" settles: a later look changes nothing", func(t *testing.T) {
			first, _ := podStatus(c.pod, birth, birth)
			again := c.pod.DeepCopy()
			again.Status = first
			second, _ := podStatus(again, birth, birth.Add(time.Hour))
			if diff := cmp.Diff(first, second); diff != "" {
				t.Errorf("status (-first +second):\n%s", diff)
			}
		})
	}

	t.Run("keeps what the scheduler wrote", func(t *testing.T) {
		status, _ := podStatus(newPod(), birth, birth)
		want := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}
		if diff := cmp.Diff(want, status.Conditions[0]); diff != "" {
			t.Errorf("condition (-want +got):\n%s", diff)
		}
	})
	t.Run("waits for readiness gates, then is ready", func(t *testing.T) {
		pod := newPod(func(pod *corev1.Pod) {
			pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/traffic"}}
		})
		before, _ := podStatus(pod, birth, birth)
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: "example.com/traffic", Status: corev1.ConditionTrue})
		after, _ := podStatus(pod, birth, birth)
		got := []summary{summarize(t, before), summarize(t, after)}
		if got[0].Ready != "False" || !got[0].ContainerReady || got[1].Ready != "True" {
			t.Errorf("before and after: %+v", got)
		}
	})
	t.Run("init containers are done and sidecars run while the Pod runs", func(t *testing.T) {
		pod := newPod(func(pod *corev1.Pod) {
			pod.Spec.InitContainers = []corev1.Container{
				{Name: "migrate"},
				{Name: "proxy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)},
			}
		})
		status, _ := podStatus(pod, birth, birth)
		migrate, proxy := status.InitContainerStatuses[0].State, status.InitContainerStatuses[1].State
		if migrate.Terminated == nil || migrate.Terminated.ExitCode != 0 || proxy.Running == nil {
			t.Errorf("migrate: %+v, proxy: %+v", migrate, proxy)
		}
	})
	t.Run("the time of readiness is when it came", func(t *testing.T) {
		pod := newPod(annotated("ready-after", "3s"))
		pod.Status, _ = podStatus(pod, birth, birth)
		status, _ := podStatus(pod, birth, birth.Add(3*time.Second))
		for _, c := range status.Conditions {
			want := birth
			if c.Type == corev1.PodReady || c.Type == corev1.ContainersReady {
				want = birth.Add(3 * time.Second)
			}
			if c.Type != corev1.PodScheduled && !c.LastTransitionTime.Time.Equal(want) {
				t.Errorf("%s since %s, want %s", c.Type, c.LastTransitionTime, want)
			}
		}
	})
}

func TestLoadBalancerStatus(t *testing.T) {
	for name, c := range map[string]struct {
		spec corev1.ServiceSpec
		want string
	}{
		"a load balancer gets an address": {corev1.ServiceSpec{Type: "LoadBalancer", ClusterIP: "10.96.7.8"}, "198.18.7.8"},
		"a ClusterIP gets none":           {corev1.ServiceSpec{Type: "ClusterIP", ClusterIP: "10.96.7.8"}, ""},
		"one without ClusterIP gets none": {corev1.ServiceSpec{Type: "LoadBalancer", ClusterIP: "None"}, ""},
		"another class is left alone":     {corev1.ServiceSpec{Type: "LoadBalancer", ClusterIP: "10.96.7.8", LoadBalancerClass: new("x/y")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			for _, ingress := range loadBalancerStatus(&corev1.Service{Spec: c.spec}).Ingress {
				got += ingress.IP
			}
			if got != c.want {
				t.Errorf("address = %q, want %q", got, c.want)
			}
		})
	}
}
