package helm

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
)

// verdict is what one look at an object says. It is either ready, failed for good, or in between; detail says in a few words what is missing or why.
type verdict struct {
	ready  bool
	failed bool
	detail string
}

var isReady = verdict{ready: true}

func unready(format string, v ...any) verdict { return verdict{detail: fmt.Sprintf(format, v...)} }

func failedFor(format string, v ...any) verdict {
	return verdict{failed: true, detail: fmt.Sprintf(format, v...)}
}

// readiness holds an object against Helm's rules for its kind (helm install --wait). They are decided from the object alone, so that one watch shows everything; where Helm counts
// the pods of a workload, the workload's own status does. Kinds without a rule are ready as soon as they exist. Beyond Helm, what cannot get ready any more is said at once.
func readiness(u *unstructured.Unstructured, jobs bool) verdict {
	gk := u.GroupVersionKind().GroupKind()
	switch gk.String() {
	case "Deployment.apps":
		return judged(u, deploymentReadiness)
	case "StatefulSet.apps":
		return judged(u, statefulSetReadiness)
	case "DaemonSet.apps":
		return judged(u, daemonSetReadiness)
	case "ReplicaSet.apps":
		return judged(u, func(rs *appsv1.ReplicaSet) verdict {
			return counted(rs.Generation, rs.Status.ObservedGeneration, rs.Spec.Replicas, rs.Status.ReadyReplicas)
		})
	case "ReplicationController":
		return judged(u, func(rc *corev1.ReplicationController) verdict {
			return counted(rc.Generation, rc.Status.ObservedGeneration, rc.Spec.Replicas, rc.Status.ReadyReplicas)
		})
	case "Pod":
		return judged(u, podReadiness)
	case "Service":
		return judged(u, serviceReadiness)
	case "PersistentVolumeClaim":
		return judged(u, func(c *corev1.PersistentVolumeClaim) verdict {
			if c.Status.Phase != corev1.ClaimBound {
				return unready("the claim is %s", orUnknown(string(c.Status.Phase)))
			}
			return isReady
		})
	case "CustomResourceDefinition.apiextensions.k8s.io":
		return judged(u, crdReadiness)
	case "Job.batch":
		if jobs {
			return judged(u, jobCompletion)
		}
	}
	return isReady
}

// beingDeleted is said of what has a deletionTimestamp.
const beingDeleted = "it is being deleted"

// helmKnows reports whether readiness, not kstatus, is to say when objects of a kind are ready: all that are built into Kubernetes and need no more than to exist, or have a rule there.
func helmKnows(gk schema.GroupKind) bool {
	return scheme.Scheme.IsGroupRegistered(gk.Group) || gk.Group == apiextensionsv1.GroupName
}

// judged reads an object as its type. What is on its way out is not ready, whatever its status says.
func judged[T any](u *unstructured.Unstructured, rule func(*T) verdict) verdict {
	if u.GetDeletionTimestamp() != nil {
		return unready(beingDeleted)
	}
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, typed); err != nil {
		return failedFor("the server sent something that is no %s", u.GetKind())
	}
	return rule(typed)
}

const unobserved = "its controller has not seen the change yet"

// deploymentReadiness wants as many pods of the new template ready as Helm does: all but maxUnavailable. The status does not count them apart, so pods of older templates are
// taken off the ready ones: they go as the new ones come.
func deploymentReadiness(d *appsv1.Deployment) verdict {
	if d.Spec.Paused {
		return isReady
	}
	if d.Status.ObservedGeneration < d.Generation {
		return unready(unobserved)
	}
	want := valueOr(d.Spec.Replicas, 1)
	want -= maxUnavailable(d, want)
	updated := max(0, d.Status.ReadyReplicas-max(0, d.Status.Replicas-d.Status.UpdatedReplicas))
	if updated >= want {
		return isReady
	}
	detail := fmt.Sprintf("%d of %d pods are ready", updated, want)
	for _, c := range d.Status.Conditions {
		switch {
		case c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded":
			return failedFor("%s, and there was no progress for %d seconds (progressDeadlineSeconds)", detail, valueOr(d.Spec.ProgressDeadlineSeconds, 600))
		case c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue:
			detail += ", pods cannot be created: " + c.Reason
		}
	}
	return unready("%s", detail)
}

// maxUnavailable is how many pods may be missing during a rolling update, rounded as the Deployment controller does. Where it and maxSurge are both 0, it counts as 1.
func maxUnavailable(d *appsv1.Deployment, replicas int32) int32 {
	if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || d.Spec.Strategy.RollingUpdate == nil || replicas == 0 {
		return 0
	}
	share := func(v *intstr.IntOrString, up bool) int {
		n, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(v, intstr.FromInt32(0)), int(replicas), up)
		if err != nil {
			return 0 // the server validates it
		}
		return n
	}
	n := share(d.Spec.Strategy.RollingUpdate.MaxUnavailable, false)
	if n == 0 && share(d.Spec.Strategy.RollingUpdate.MaxSurge, true) == 0 {
		n = 1
	}
	return min(int32(n), replicas) //nolint:gosec // a share of an int32
}

func statefulSetReadiness(s *appsv1.StatefulSet) verdict {
	if s.Status.ObservedGeneration < s.Generation {
		return unready(unobserved)
	}
	if s.Spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return isReady // its pods change when somebody deletes them
	}
	want, partition := valueOr(s.Spec.Replicas, 1), int32(0)
	if r := s.Spec.UpdateStrategy.RollingUpdate; r != nil {
		partition = valueOr(r.Partition, 0)
	}
	switch {
	case s.Status.UpdatedReplicas < want-partition:
		return unready("%d of %d pods are updated", s.Status.UpdatedReplicas, want-partition)
	case s.Status.ReadyReplicas != want:
		return unready("%d of %d pods are ready", s.Status.ReadyReplicas, want)
	case partition == 0 && s.Status.CurrentRevision != s.Status.UpdateRevision:
		return unready("its update is not complete")
	}
	return isReady
}

func daemonSetReadiness(d *appsv1.DaemonSet) verdict {
	if d.Status.ObservedGeneration < d.Generation {
		return unready(unobserved)
	}
	if d.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		return isReady
	}
	desired := d.Status.DesiredNumberScheduled
	if d.Status.UpdatedNumberScheduled != desired {
		return unready("%d of %d pods are updated", d.Status.UpdatedNumberScheduled, desired)
	}
	missing := 1
	if r := d.Spec.UpdateStrategy.RollingUpdate; r != nil && r.MaxUnavailable != nil {
		n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxUnavailable, int(desired), true)
		if err == nil {
			missing = n
		}
	}
	if want := int(desired) - missing; int(d.Status.NumberReady) < want {
		return unready("%d of %d pods are ready", d.Status.NumberReady, want)
	}
	return isReady
}

func counted(generation, observed int64, replicas *int32, ready int32) verdict {
	if observed < generation {
		return unready(unobserved)
	}
	if want := valueOr(replicas, 1); ready < want {
		return unready("%d of %d pods are ready", ready, want)
	}
	return isReady
}

func podReadiness(p *corev1.Pod) verdict {
	switch p.Status.Phase {
	case corev1.PodSucceeded:
		return isReady
	case corev1.PodFailed:
		return failedFor("the pod failed%s", parenthesis(p.Status.Reason))
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return isReady
		}
	}
	return unready("%s", podTrouble(p))
}

// podTrouble says in a few words why a pod is not ready.
func podTrouble(p *corev1.Pod) string {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range list {
			if w := c.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" {
				return fmt.Sprintf("container %s is waiting: %s", c.Name, w.Reason)
			}
			if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
				return fmt.Sprintf("container %s ended with exit code %d", c.Name, t.ExitCode)
			}
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "the pod is not scheduled" + parenthesis(c.Message)
		}
	}
	return "the pod is " + orUnknown(string(p.Status.Phase)) + " and not ready"
}

func serviceReadiness(s *corev1.Service) verdict {
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		return isReady
	case s.Spec.ClusterIP == "":
		return unready("it has no cluster address")
	case s.Spec.Type == corev1.ServiceTypeLoadBalancer && len(s.Spec.ExternalIPs) == 0 && len(s.Status.LoadBalancer.Ingress) == 0:
		return unready("its load balancer has no address")
	}
	return isReady
}

// crdReadiness is Helm's: names that are taken do not keep the rest of a release waiting.
func crdReadiness(c *apiextensionsv1.CustomResourceDefinition) verdict {
	for _, cond := range c.Status.Conditions {
		if cond.Type == apiextensionsv1.Established && cond.Status == apiextensionsv1.ConditionTrue ||
			cond.Type == apiextensionsv1.NamesAccepted && cond.Status == apiextensionsv1.ConditionFalse {
			return isReady
		}
	}
	return unready("it is not established")
}

func jobCompletion(j *batchv1.Job) verdict {
	for _, c := range j.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == batchv1.JobComplete:
			return isReady
		case c.Type == batchv1.JobFailed:
			return failedFor("the job failed%s", parenthesis(c.Reason))
		}
	}
	return unready("the job is not complete")
}

// completion is the rule for hooks: Jobs have to complete and Pods to succeed, the rest only to exist.
func completion(u *unstructured.Unstructured) verdict {
	switch u.GroupVersionKind().GroupKind().String() {
	case "Job.batch":
		return judged(u, jobCompletion)
	case "Pod":
		return judged(u, func(p *corev1.Pod) verdict {
			switch p.Status.Phase {
			case corev1.PodSucceeded:
				return isReady
			case corev1.PodFailed:
				if p.Status.Reason != "" {
					return failedFor("the pod failed: %s", p.Status.Reason)
				}
				return failedFor("the pod failed: %s", podTrouble(p))
			}
			return unready("%s", podTrouble(p))
		})
	}
	return isReady
}

// selectorOf is which pods a workload has; nil for what has none.
func selectorOf(u *unstructured.Unstructured) *metav1.LabelSelector {
	m, found, err := unstructured.NestedMap(u.Object, "spec", "selector")
	if !found || err != nil {
		return nil
	}
	s := &metav1.LabelSelector{}
	switch u.GroupVersionKind().GroupKind().String() {
	case "Deployment.apps", "StatefulSet.apps", "DaemonSet.apps", "ReplicaSet.apps", "Job.batch":
		if runtime.DefaultUnstructuredConverter.FromUnstructured(m, s) == nil {
			return s
		}
	}
	return nil
}

// podSelector is selectorOf as a query. Not of what has none: as text, the selector of nothing is that of everything.
func podSelector(u *unstructured.Unstructured) (string, bool) {
	s := selectorOf(u)
	if s == nil {
		return "", false
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil || selector.Empty() {
		return "", false
	}
	return selector.String(), true
}

func valueOr(p *int32, otherwise int32) int32 {
	if p == nil {
		return otherwise
	}
	return *p
}

func orUnknown(s string) string {
	if s == "" {
		return "in an unknown state"
	}
	return s
}

func parenthesis(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}
