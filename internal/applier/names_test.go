package applier_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestLongNames has names of the greatest length that their kinds take, and those that only RBAC takes, from creation over recreation to the prune.
func TestLongNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long, label := strings.Repeat("long-name.", 26)[:252]+"x", strings.Repeat("s", 63)
	rbac := []string{"system:a_b", "a:b__c", "With Space", strings.Repeat("R", 240) + "_:"}
	text := func(value string) string {
		const force = "annotations: {towline.dev/force: enabled}"
		out := w.configMap("anchor", "1")
		out += fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s, %s}\nimmutable: true\ndata: {v: %q}\n---\n", long, w.ns, force, value)
		out += fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s, %s}\nspec: {clusterIP: None, selector: {app: a%s}, ports: [{port: 80}]}\n---\n", label, w.ns, force, value)
		for _, name := range rbac {
			out += fmt.Sprintf("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: %q, namespace: %s}\nrules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n---\n", name, w.ns)
			out += fmt.Sprintf("apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: %q, namespace: %s, %s}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r%s}\n---\n", name, w.ns, force, value)
		}
		return out
	}
	w.text = text("1")
	w.converge(false)
	wantEqual(t, "changes", w.converge(true), []string(nil))
	w.restart()
	wantEqual(t, "changes after a restart", w.converge(true), []string(nil))
	w.text = text("2")
	recreated := 0
	for _, c := range w.converge(false) {
		if strings.HasPrefix(c, "recreate ") {
			recreated++
		}
	}
	wantEqual(t, "objects made anew", recreated, 1+len(rbac))
	wantEqual(t, "value", w.value(long), "2")
	wantEqual(t, "changes", w.converge(true), []string(nil))
	w.text = w.configMap("anchor", "1")
	w.target.Kustomization.AllowMassPrune = w.work(false).Revision.Digest
	w.restart()
	w.converge(false)
	wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
	roles := must(w.kube.Kubernetes.RbacV1().Roles(w.ns).List(t.Context(), metav1.ListOptions{}))(t)
	bindings := must(w.kube.Kubernetes.RbacV1().RoleBindings(w.ns).List(t.Context(), metav1.ListOptions{}))(t)
	services := must(w.kube.Kubernetes.CoreV1().Services(w.ns).List(t.Context(), metav1.ListOptions{}))(t)
	wantEqual(t, "left", len(roles.Items)+len(bindings.Items)+len(services.Items), 0)
}
