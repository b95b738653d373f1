package applier_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

const podSpec = `{terminationGracePeriodSeconds: 0, containers: [{name: a, image: "example.org/a:1"}]}`

const jobSpec = `{restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{name: a, image: "example.org/a:1"}]}`

// TestImmutableKinds changes an immutable field of the kinds of Kubernetes that have one: without force the error says which and what to do, with force the object is made anew.
func TestImmutableKinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := 0
	for _, c := range []struct {
		// what is the manifest below metadata, with a V where the two values stand.
		kind, what, before, after string
		field                     string
		cluster                   bool
	}{
		{"v1 ConfigMap", "immutable: true\ndata: {a: V}", "one", "two", "data", false},
		{"v1 Secret", "immutable: true\nstringData: {a: V}", "one", "two", "data", false},
		{"v1 Secret", "type: V", "Opaque", "example.org/other", "type", false},
		{"v1 ResourceQuota", "spec: {hard: {pods: 1}, scopes: [V]}", "BestEffort", "NotBestEffort", "spec.scopes", false},
		{"v1 Pod", "spec: " + strings.Replace(podSpec, "name: a", "name: V", 1), "a", "b", "spec", false},
		{"apps/v1 Deployment", "spec: {replicas: 0, selector: {matchLabels: {app: V}}, template: {metadata: {labels: {app: V}}, spec: " + podSpec + "}}", "a", "b", "spec.selector", false},
		{"apps/v1 DaemonSet", "spec: {selector: {matchLabels: {app: V}}, template: {metadata: {labels: {app: V}}, spec: " + podSpec + "}}", "a", "b", "spec.selector", false},
		{"apps/v1 ReplicaSet", "spec: {replicas: 0, selector: {matchLabels: {app: V}}, template: {metadata: {labels: {app: V}}, spec: " + podSpec + "}}", "a", "b", "spec.selector", false},
		{
			"apps/v1 StatefulSet", "spec: {replicas: 0, serviceName: V, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: " + podSpec + "}}",
			"a", "b", "spec.serviceName", false,
		},
		{
			"apps/v1 StatefulSet", "spec: {replicas: 0, serviceName: a, podManagementPolicy: V, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: " + podSpec + "}}",
			"Parallel", "OrderedReady", "spec.podManagementPolicy", false,
		},
		{"batch/v1 Job", "spec: {template: {spec: " + strings.Replace(jobSpec, "name: a", "name: V", 1) + "}}", "a", "b", "spec.template", false},
		{"rbac.authorization.k8s.io/v1 RoleBinding", "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: V}", "view", "edit", "roleRef", false},
		{"rbac.authorization.k8s.io/v1 ClusterRoleBinding", "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: V}", "view", "edit", "roleRef", true},
		{"storage.k8s.io/v1 StorageClass", "provisioner: example.org/V", "a", "b", "provisioner", true},
		{"storage.k8s.io/v1 StorageClass", "provisioner: example.org/a\nparameters: {a: V}", "one", "two", "parameters", true},
		{"storage.k8s.io/v1 StorageClass", "provisioner: example.org/a\nreclaimPolicy: V", "Delete", "Retain", "reclaimPolicy", true},
		{"storage.k8s.io/v1 StorageClass", "provisioner: example.org/a\nvolumeBindingMode: V", "Immediate", "WaitForFirstConsumer", "volumeBindingMode", true},
		{"storage.k8s.io/v1 CSIDriver", "spec: {attachRequired: V}", "true", "false", "spec.attachedRequired", true},
		{"scheduling.k8s.io/v1 PriorityClass", "value: V", "10", "20", "value", true},
		{"scheduling.k8s.io/v1 PriorityClass", "value: 10\npreemptionPolicy: V", "Never", "PreemptLowerPriority", "preemptionPolicy", true},
		{"networking.k8s.io/v1 IngressClass", "spec: {controller: example.org/V}", "a", "b", "spec.controller", true},
		{"node.k8s.io/v1 RuntimeClass", "handler: V", "a", "b", "handler", true},
		{"discovery.k8s.io/v1 EndpointSlice", "addressType: V\nendpoints: []", "IPv4", "IPv6", "addressType", false},
		{"apps/v1 ControllerRevision", "revision: 1\ndata: {a: V}", "one", "two", "data", false},
	} {
		n++
		w.step(t, c.kind+" "+c.field, func(t *testing.T) {
			version, kind, _ := strings.Cut(c.kind, " ")
			name := fmt.Sprintf("fixed%d-%s", n, w.ns)
			text := func(value, force string) string {
				meta := fmt.Sprintf("{name: %s, namespace: %s, annotations: {%s}}", name, w.ns, force)
				if c.cluster {
					meta = fmt.Sprintf("{name: %s, annotations: {%s}}", name, force)
				}
				return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: %s\n%s\n---\n", version, kind, meta, strings.ReplaceAll(c.what, "V", value)) + w.configMap("anchor", "1")
			}
			uid := func() types.UID {
				t.Helper()
				gv := must(schema.ParseGroupVersion(version))(t)
				mapping := must(w.kube.Mapper.RESTMapping(gv.WithKind(kind).GroupKind(), gv.Version))(t)
				namespace := w.ns
				if c.cluster {
					namespace = ""
				}
				live := must(w.kube.Dynamic.Resource(mapping.Resource).Namespace(namespace).Get(t.Context(), name, metav1.GetOptions{}))(t)
				wantEqual(t, "whose it is", live.GetLabels()[deploy.LabelTarget], w.target.Name.LabelValue())
				return live.GetUID()
			}
			w.text = text(c.before, "")
			w.converge(false)
			first := uid()
			w.text = text(c.after, "")
			_, err := w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonApplyFailed, true, c.field+" cannot be changed; annotate the object with towline.dev/force: enabled")
			wantEqual(t, "the object without being asked", uid(), first)
			w.text = text(c.after, "towline.dev/force: enabled")
			w.converge(false)
			wantEqual(t, "made anew", uid() != first, true)
			wantEqual(t, "changes of a full run", w.converge(true), []string(nil))
			w.text = w.configMap("anchor", "1")
			w.converge(false)
		})
	}
}
