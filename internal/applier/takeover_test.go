package applier_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

// service is one port with a name; fields beside it are raw.
func (w *world) service(ports string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: %s}\nspec: {selector: {app: x}, ports: [%s]}\n---\n", w.ns, ports)
}

// managers are who owns something of an object, each once, sorted.
func managers(m metav1.Object) []string {
	var out []string
	for _, e := range m.GetManagedFields() {
		out = append(out, e.Manager)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// patches are the requests that are one.
func patches(requests []string) []string {
	return slices.DeleteFunc(slices.Clone(requests), func(r string) bool { return !strings.HasPrefix(r, "PATCH ") })
}

func TestEditedListKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	services := w.kube.Kubernetes.CoreV1().Services(w.ns)
	edit := func(t *testing.T, kind types.PatchType, patch string) {
		t.Helper()
		must(services.Patch(t.Context(), "s", kind, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"}))(t)
	}
	ports := func(t *testing.T) string {
		t.Helper()
		var out []string
		for _, p := range must(services.Get(t.Context(), "s", metav1.GetOptions{}))(t).Spec.Ports {
			out = append(out, fmt.Sprintf("%s %d/%s", p.Name, p.Port, p.Protocol))
		}
		return strings.Join(out, ", ")
	}
	path := "PATCH /api/v1/namespaces/" + w.ns + "/services/s"
	repaired := func(t *testing.T) {
		t.Helper()
		got := patches(w.counted(func() { wantEqual(t, "changes", w.converge(true), []string{"apply Service/NS/s"}) }))
		wantEqual(t, "refused, taken over, applied", got, []string{path, path, path})
		wantEqual(t, "ports", ports(t), "a 80/TCP")
		wantEqual(t, "managers", managers(must(services.Get(t.Context(), "s", metav1.GetOptions{}))(t)), []string{deploy.FieldManager})
		got = writes(w.counted(func() { wantEqual(t, "changes", w.converge(true), []string(nil)) }))
		wantEqual(t, "writes afterwards", got, []string(nil))
	}
	w.text = w.service("{name: a, port: 80}")
	w.converge(false)

	w.step(t, "a Service whose port was edited is repaired, and quiet afterwards", func(t *testing.T) {
		edit(t, types.JSONPatchType, `[{"op":"replace","path":"/spec/ports/0/port","value":81}]`)
		repaired(t)
	})
	w.step(t, "also after an edit of the protocol, which the manifest leaves to the server", func(t *testing.T) {
		edit(t, types.JSONPatchType, `[{"op":"replace","path":"/spec/ports/0/protocol","value":"UDP"}]`)
		repaired(t)
	})
	w.step(t, "a foreign port that is in nobody's way stays, whatever else is repaired", func(t *testing.T) {
		add := `{"spec":{"ports":[{"name":"b","port":90}],"selector":{"app":"y"}}}`
		must(services.Patch(t.Context(), "s", types.StrategicMergePatchType, []byte(add), metav1.PatchOptions{FieldManager: "operator"}))(t)
		got := patches(w.counted(func() { w.converge(true) }))
		wantEqual(t, "applied", got, []string{path})
		wantEqual(t, "ports", ports(t), "b 90/TCP, a 80/TCP")
	})
	w.step(t, "a manifest that stays invalid without the foreign entries is refused with the server's words, and they are given back", func(t *testing.T) {
		w.text = w.service("{name: a, port: 80}, {name: C_C, port: 70}")
		before := must(services.Get(t.Context(), "s", metav1.GetOptions{}))(t)
		var changes []string
		got := patches(w.counted(func() {
			var err error
			changes, err = w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonApplyFailed, false, `spec.ports[2].name: Invalid value: "C_C"`)
		}))
		wantEqual(t, "changes", len(changes), 1)
		wantEqual(t, "refused, taken over, refused, given back", got, []string{path, path, path, path})
		after := must(services.Get(t.Context(), "s", metav1.GetOptions{}))(t)
		wantEqual(t, "owned fields", after.ManagedFields, before.ManagedFields)
		wantEqual(t, "ports", ports(t), "b 90/TCP, a 80/TCP")
	})
	w.step(t, "what is invalid elsewhere touches no list", func(t *testing.T) {
		w.text = strings.Replace(w.service("{name: a, port: 80}"), "spec: {", "spec: {type: Nonsense, ", 1)
		got := patches(w.counted(func() {
			_, err := w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonApplyFailed, false, `spec.type: Unsupported value: "Nonsense"`)
		}))
		wantEqual(t, "refused", got, []string{path})
	})
}

func TestEditedListKeysOfStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	services := w.kube.Kubernetes.CoreV1().Services(w.ns)
	path := "PATCH /api/v1/namespaces/" + w.ns + "/services/s"
	w.step(t, "an object that is new reports its own refusal and nothing is taken over", func(t *testing.T) {
		w.text = w.service("{name: a, port: 80}, {name: a, port: 81}")
		got := patches(w.counted(func() {
			_, err := w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonApplyFailed, false, "spec.ports[1].name: Duplicate value")
		}))
		wantEqual(t, "refused", got, []string{path})
		_, err := services.Get(t.Context(), "s", metav1.GetOptions{})
		wantEqual(t, "gone", apierrors.IsNotFound(err), true)
	})
	w.step(t, "nor from an object that is somebody else's work and not in the inventory", func(t *testing.T) {
		theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "a", Port: 81}}}}
		made := must(services.Create(t.Context(), theirs, metav1.CreateOptions{FieldManager: "kubectl-create"}))(t)
		w.restart()
		w.text = w.service("{name: a, port: 80}")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, "Duplicate value")
		now := must(services.Get(t.Context(), "s", metav1.GetOptions{}))(t)
		wantEqual(t, "owned fields", now.ManagedFields, made.ManagedFields)
	})
}

func TestListEntriesOfOtherAppliers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	deployments := w.kube.Kubernetes.AppsV1().Deployments(w.ns)
	w.text = w.deployment("d", "")
	w.converge(false)
	sidecar := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"template":{"spec":{"containers":[{"name":"sidecar","image":"example.org/s:1"}]}}}}`
	must(deployments.Patch(t.Context(), "d", types.ApplyPatchType, []byte(sidecar), metav1.PatchOptions{FieldManager: "mesh"}))(t)
	containers := func(t *testing.T) string {
		t.Helper()
		var out []string
		for _, c := range must(deployments.Get(t.Context(), "d", metav1.GetOptions{}))(t).Spec.Template.Spec.Containers {
			out = append(out, c.Name)
		}
		return strings.Join(out, " ")
	}
	w.step(t, "stay when the server refuses ours", func(t *testing.T) {
		w.text = strings.Replace(w.deployment("d", ""), "name: c,", "name: c, imagePullPolicy: Nonsense,", 1)
		got := patches(w.counted(func() {
			_, err := w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonApplyFailed, false, "imagePullPolicy: Unsupported value")
		}))
		wantEqual(t, "refused", got, []string{"PATCH /apis/apps/v1/namespaces/" + w.ns + "/deployments/d"})
		wantEqual(t, "containers", containers(t), "c sidecar")
	})
	w.step(t, "stay beside an updater's that goes", func(t *testing.T) {
		w.text = strings.Replace(w.deployment("d", ""), "name: c,", "name: c, ports: [{name: p, containerPort: 80}],", 1)
		w.converge(false)
		edit := `[{"op":"replace","path":"/spec/template/spec/containers/0/ports/0/containerPort","value":81}]`
		must(deployments.Patch(t.Context(), "d", types.JSONPatchType, []byte(edit), metav1.PatchOptions{FieldManager: "kubectl-edit"}))(t)
		w.converge(true)
		d := must(deployments.Get(t.Context(), "d", metav1.GetOptions{}))(t)
		wantEqual(t, "ports", d.Spec.Template.Spec.Containers[0].Ports, []corev1.ContainerPort{{Name: "p", ContainerPort: 80, Protocol: "TCP"}})
		wantEqual(t, "containers", containers(t), "c sidecar")
		wantEqual(t, "mesh owns its own", slices.Contains(managers(d), "mesh"), true)
		wantEqual(t, "changes", w.converge(true), []string(nil))
	})
}
