package helm

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestReadiness(t *testing.T) {
	const (
		deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, "
		set        = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 2}, "
		daemon     = "{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 2}, "
		rolling    = "strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}"
	)
	for _, tc := range []struct {
		name, object string
		want         verdict
	}{
		{"a kind without a rule is ready", "{apiVersion: v1, kind: ConfigMap}", isReady},
		{"a custom kind of the same name is not taken for the built-in one", "{apiVersion: example.org/v1, kind: Deployment}", isReady},
		{"a deployment that its controller has not seen", deployment + "status: {observedGeneration: 1, readyReplicas: 1, replicas: 1, updatedReplicas: 1}}", unready(unobserved)},
		{"a deployment with all pods", deployment + "spec: {replicas: 2}, status: {observedGeneration: 2, replicas: 2, updatedReplicas: 2, readyReplicas: 2}}", isReady},
		{"a deployment whose ready pods are those of the old template", deployment + "spec: {replicas: 1, " + rolling + "}, status: {observedGeneration: 2, replicas: 2, updatedReplicas: 1, readyReplicas: 1}}", unready("0 of 1 pods are ready")},
		{"a deployment that may lack a quarter of its pods", deployment + "spec: {replicas: 4, " + rolling + "}, status: {observedGeneration: 2, replicas: 4, updatedReplicas: 4, readyReplicas: 3}}", isReady},
		{"a deployment that lacks more", deployment + "spec: {replicas: 4, " + rolling + "}, status: {observedGeneration: 2, replicas: 4, updatedReplicas: 4, readyReplicas: 2}}", unready("2 of 3 pods are ready")},
		{"a deployment of no pods", deployment + "spec: {replicas: 0, " + rolling + "}, status: {observedGeneration: 2}}", isReady},
		{"a paused deployment", deployment + "spec: {paused: true}}", isReady},
		{"a deployment that recreates lacks none", deployment + "spec: {replicas: 4, strategy: {type: Recreate}}, status: {observedGeneration: 2, replicas: 4, updatedReplicas: 4, readyReplicas: 3}}", unready("3 of 4 pods are ready")},
		{"a deployment without surge and absence lacks one", deployment + "spec: {replicas: 2, strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}}, status: {observedGeneration: 2, replicas: 2, updatedReplicas: 2, readyReplicas: 1}}", isReady},
		{
			"a deployment without progress has failed", deployment + "spec: {progressDeadlineSeconds: 9}, status: {observedGeneration: 2, conditions: [{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded}]}}",
			failedFor("0 of 1 pods are ready, and there was no progress for 9 seconds (progressDeadlineSeconds)"),
		},
		{
			"the lack of progress of an older generation says nothing", deployment + "status: {observedGeneration: 1, conditions: [{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded}]}}",
			unready(unobserved),
		},
		{
			"a deployment that may create no pods says why", deployment + "status: {observedGeneration: 2, conditions: [{type: ReplicaFailure, status: 'True', reason: FailedCreate}]}}",
			unready("0 of 1 pods are ready, pods cannot be created: FailedCreate"),
		},
		{"what is being deleted is not ready", "{apiVersion: apps/v1, kind: Deployment, metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {paused: true}}", unready("it is being deleted")},
		{"a set with old pods", set + "spec: {replicas: 3, updateStrategy: {type: RollingUpdate}}, status: {observedGeneration: 2, readyReplicas: 3, updatedReplicas: 1}}", unready("1 of 3 pods are updated")},
		{"a set with a partition", set + "spec: {replicas: 3, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 2}}}, status: {observedGeneration: 2, readyReplicas: 3, updatedReplicas: 1, currentRevision: a, updateRevision: b}}", isReady},
		{"a set between revisions", set + "spec: {replicas: 1, updateStrategy: {type: RollingUpdate}}, status: {observedGeneration: 2, readyReplicas: 1, updatedReplicas: 1, currentRevision: a, updateRevision: b}}", unready("its update is not complete")},
		{"a set that is updated by hand", set + "spec: {replicas: 3, updateStrategy: {type: OnDelete}}, status: {observedGeneration: 2}}", isReady},
		{"a daemon set may lack one", daemon + "spec: {updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1}}}, status: {observedGeneration: 2, desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberReady: 2}}", isReady},
		{"a daemon set lacks two", daemon + "spec: {updateStrategy: {type: RollingUpdate}}, status: {observedGeneration: 2, desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberReady: 1}}", unready("1 of 2 pods are ready")},
		{"a replica set counts its ready pods", "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {generation: 1}, spec: {replicas: 2}, status: {observedGeneration: 1, readyReplicas: 1}}", unready("1 of 2 pods are ready")},
		{"a replication controller counts them too", "{apiVersion: v1, kind: ReplicationController, status: {readyReplicas: 1}}", isReady},
		{"a pod that pulls its image", "{apiVersion: v1, kind: Pod, status: {phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: ErrImagePull, message: secret}}}]}}", unready("container a is waiting: ErrImagePull")},
		{"a pod without a node", "{apiVersion: v1, kind: Pod, status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', message: no node}]}}", unready("the pod is not scheduled: no node")},
		{"a pod that is ready", "{apiVersion: v1, kind: Pod, status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}}", isReady},
		{"a pod that is done", "{apiVersion: v1, kind: Pod, status: {phase: Succeeded}}", isReady},
		{"a pod that failed", "{apiVersion: v1, kind: Pod, status: {phase: Failed, reason: Evicted}}", failedFor("the pod failed: Evicted")},
		{"a service without an address", "{apiVersion: v1, kind: Service, spec: {type: ClusterIP}}", unready("it has no cluster address")},
		{"a headless service", "{apiVersion: v1, kind: Service, spec: {type: ClusterIP, clusterIP: None}}", isReady},
		{"a load balancer without an address", "{apiVersion: v1, kind: Service, spec: {type: LoadBalancer, clusterIP: 10.0.0.1}}", unready("its load balancer has no address")},
		{"a load balancer with one", "{apiVersion: v1, kind: Service, spec: {type: LoadBalancer, clusterIP: 10.0.0.1}, status: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}}", isReady},
		{"a service elsewhere", "{apiVersion: v1, kind: Service, spec: {type: ExternalName}}", isReady},
		{"a claim that is not bound", "{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Pending}}", unready("the claim is Pending")},
		{"a claim that is bound", "{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Bound}}", isReady},
		{"a CRD that is new", "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition}", unready("it is not established")},
		{"a CRD whose names are taken does not keep the rest", "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, status: {conditions: [{type: NamesAccepted, status: 'False'}]}}", isReady},
		{"a running job", "{apiVersion: batch/v1, kind: Job, status: {active: 1}}", unready("the job is not complete")},
		{"a job that failed", "{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Failed, status: 'True', reason: DeadlineExceeded}]}}", failedFor("the job failed: DeadlineExceeded")},
		{"a job that is complete", "{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Complete, status: 'True'}]}}", isReady},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := readiness(object(t, tc.object), true)
			if d := cmp.Diff(tc.want, got, cmp.AllowUnexported(verdict{})); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	t.Run("jobs count only where they are asked for", func(t *testing.T) {
		wantEqual(t, "verdict", readiness(object(t, "{apiVersion: batch/v1, kind: Job}"), false), isReady)
	})
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return u
}
