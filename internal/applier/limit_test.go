package applier_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towline/towline/internal/deploy"
)

// spec changes the target's spec as an edited config does.
func (w *world) spec(edit func(*deploy.KustomizationSpec)) {
	s := *w.target.Kustomization
	edit(&s)
	w.target.Kustomization, w.target.Hash = &s, w.target.Hash+"+"
}

// some is that many ConfigMaps.
func (w *world) some(prefix string, n int, value string) string {
	text := ""
	for i := range n {
		text += w.configMap(fmt.Sprintf("%s%d", prefix, i), value)
	}
	return text
}

// count is how many ConfigMaps bear the target's label.
func (w *world) count() int {
	w.t.Helper()
	opts := metav1.ListOptions{LabelSelector: deploy.LabelTarget + "=" + w.target.Name.LabelValue()}
	return len(must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).List(w.t.Context(), opts))(w.t).Items)
}

func (w *world) edit(name, metadata string) {
	w.t.Helper()
	must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Patch(w.t.Context(), name, types.MergePatchType, []byte(`{"metadata":`+metadata+`}`), metav1.PatchOptions{}))(w.t)
}

func TestPruneLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.some("old", 10, "1")
	w.converge(false)
	w.text = w.some("old", 4, "2") + w.some("new", 9, "1") // drops six of ten

	w.step(t, "half of a target of ten goes at most: the rest is applied, nothing is pruned or forgotten", func(t *testing.T) {
		changes, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneBlocked, true, "6 of 10 objects", "more than pruneLimit 50%", "allowMassPrune: "+w.work(false).Revision.Digest)
		wantEqual(t, "values", w.value("old3")+w.value("old4")+w.value("new8"), "211")
		wantEqual(t, "last change", changes[len(changes)-1], "prune ConfigMap/NS/old9: not pruned: more would go than pruneLimit allows")
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 19)
	})
	w.step(t, "the next attempt says the same and asks nothing of the server", func(t *testing.T) {
		got := w.counted(func() {
			changes, err := w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonPruneBlocked, true, "6 of 10 objects")
			wantEqual(t, "changes", len(changes), 6)
		})
		wantEqual(t, "requests", got, []string(nil))
	})
	w.step(t, "what the blocked attempt applied does not water the share down, also after a restart and in a full check; nothing is written", func(t *testing.T) {
		w.restart()
		for _, full := range []bool{false, true} {
			got := w.counted(func() {
				_, err := w.run(t.Context(), full)
				wantFailure(t, err, deploy.ReasonPruneBlocked, true, "6 of 10 objects")
			})
			wantEqual(t, "writes", len(writes(got)), 0)
		}
		wantEqual(t, "objects", w.count(), 19)
	})
	w.step(t, "its objects say that their prune is blocked, and a diff that they wait for somebody's word", func(t *testing.T) {
		blocked := map[string]int{}
		for _, l := range must(w.engine.Objects(t.Context(), w.target))(t) {
			blocked[l.PruneBlocked]++
		}
		wantEqual(t, "objects", blocked, map[string]int{"": 13, deploy.BlockedByLimit: 6})
		differences := must(w.engine.Diff(t.Context(), w.work(true)))(t)
		for _, d := range differences {
			if d.Action != deploy.ActionKeep || !d.Blocked || !strings.Contains(d.Reason, "allowMassPrune") {
				t.Errorf("%s %s: %s", d.Action, d.Object, d.Reason)
			}
		}
		wantEqual(t, "differences", len(differences), 6)
	})
	w.step(t, "an artifact that drops less prunes", func(t *testing.T) {
		w.text = w.some("old", 8, "2") + w.some("new", 9, "1")
		w.converge(false)
		wantEqual(t, "objects", w.count(), 17)
		for _, l := range must(w.engine.Objects(t.Context(), w.target))(t) {
			wantEqual(t, l.Object.Name+" blocked", l.PruneBlocked, "")
		}
	})
	w.step(t, "the wrong digest is no override, the right one is", func(t *testing.T) {
		w.text = w.configMap("old0", "2")
		w.spec(func(s *deploy.KustomizationSpec) { s.AllowMassPrune = "sha256:" + strings.Repeat("0", 64) })
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneBlocked, true, "16 of 17 objects")
		w.spec(func(s *deploy.KustomizationSpec) { s.AllowMassPrune = w.work(false).Revision.Digest })
		w.converge(false)
		wantEqual(t, "objects", w.count(), 1)
	})
	w.step(t, "small targets have no limit unless they name one; a count is a limit too", func(t *testing.T) {
		w.text = w.some("s", 9, "1")
		w.converge(false)
		w.text = w.some("s", 3, "1")
		w.spec(func(s *deploy.KustomizationSpec) { s.PruneLimit = new(intstr.FromInt32(5)) })
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneBlocked, true, "6 of 9 objects", "more than pruneLimit 5:")
		w.spec(func(s *deploy.KustomizationSpec) { s.PruneLimit = nil })
		w.converge(false)
		wantEqual(t, "objects", w.count(), 3)
	})
}

// TestPruneLimitPassesOn moves most of a target to another one, which is no loss.
func TestPruneLimitPassesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.some("c", 12, "1")
	w.converge(false)
	first, second := w.target, w.target
	second.Name.Name = "second"
	w.text, w.target = w.configMap("c0", "1"), first
	_, err := w.run(t.Context(), false)
	wantFailure(t, err, deploy.ReasonPruneBlocked, true, "11 of 12")
	w.text, w.target = strings.Replace(w.some("c", 12, "1"), w.configMap("c0", "1"), "", 1), second
	_, err = w.run(t.Context(), false)
	wantFailure(t, err, deploy.ReasonApplyFailed, false, "it belongs to")
	w.text, w.target = w.configMap("c0", "1"), first
	w.converge(false)
	wantEqual(t, "objects of the first", w.count(), 1)
	w.target = second
	wantEqual(t, "objects of the second", w.count(), 11)
}

func TestMarksThatHoldPruning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	marks := map[string]string{
		"a": `{"annotations":{"towline.dev/prune":"disabled"}}`, "b": `{"annotations":{"kustomize.toolkit.fluxcd.io/prune":"disabled"}}`,
		"c": `{"labels":{"towline.dev/prune":"disabled"}}`, "d": `{"labels":{"kustomize.toolkit.fluxcd.io/prune":"Disabled"}}`,
		"e": `{"annotations":{"client.lifecycle.config.k8s.io/deletion":"detach"}}`, "f": `{"annotations":{"cli-utils.sigs.k8s.io/on-remove":"keep"}}`,
	}
	paused := map[string]string{
		"g": `{"annotations":{"towline.dev/reconcile":"disabled"}}`, "h": `{"annotations":{"kustomize.toolkit.fluxcd.io/reconcile":"disabled"}}`,
		"i": `{"labels":{"towline.dev/reconcile":"disabled"}}`, "j": `{"labels":{"kustomize.toolkit.fluxcd.io/reconcile":"disabled"}}`,
	}
	rest := w.configMap("rest", "1")
	w.text = rest
	for _, set := range []map[string]string{marks, paused} {
		for name := range set {
			w.text += w.configMap(name, "1")
		}
	}
	w.converge(false)
	for _, set := range []map[string]string{marks, paused} {
		for name, mark := range set {
			w.edit(name, mark)
		}
	}
	label := func(name string) string {
		return must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Get(w.t.Context(), name, metav1.GetOptions{}))(w.t).Labels[deploy.LabelTarget]
	}
	w.text = rest
	changes := w.converge(false)
	wantEqual(t, "changes", len(changes), len(marks)+len(paused))
	for _, c := range changes {
		if !strings.HasPrefix(c, "keep ") {
			t.Fatal(c)
		}
	}
	w.step(t, "prune: disabled lets go, in every way to write it", func(t *testing.T) {
		for name, mark := range marks {
			wantEqual(t, mark, w.value(name)+label(name), "1")
		}
	})
	w.step(t, "reconcile: disabled keeps while the target stays, untouched and remembered", func(t *testing.T) {
		for name, mark := range paused {
			wantEqual(t, mark, w.value(name)+label(name), "1"+w.target.Name.LabelValue())
		}
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1+len(paused))
	})
	w.step(t, "and lets go when the target leaves", func(t *testing.T) {
		w.spec(func(s *deploy.KustomizationSpec) { s.DeletionPolicy = deploy.DeletionDelete })
		if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
			t.Fatal(err)
		}
		for name, mark := range paused {
			wantEqual(t, mark, w.value(name)+label(name), "1")
		}
		wantEqual(t, "rest and inventory", w.value("rest")+w.inventory(), "")
	})
}

func TestForbiddenPrune(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	create := func(text string) *unstructured.Unstructured {
		us := must(parse(text))(t)
		return us[0]
	}
	policy := create(fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: ["v1"], operations: ["DELETE"], resources: ["configmaps"]}]
  validations: [{expression: "!oldObject.metadata.name.startsWith('guarded')", message: "guarded by policy"}]
`, w.ns))
	binding := create(fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec: {policyName: %[1]s, validationActions: [Deny], matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}}}
`, w.ns))
	gvr := policy.GroupVersionKind().GroupVersion().WithResource
	policies, bindings := w.kube.Dynamic.Resource(gvr("validatingadmissionpolicies")), w.kube.Dynamic.Resource(gvr("validatingadmissionpolicybindings"))
	must(policies.Create(t.Context(), policy, metav1.CreateOptions{}))(t)
	must(bindings.Create(t.Context(), binding, metav1.CreateOptions{}))(t)
	t.Cleanup(func() {
		_ = policies.Delete(context.Background(), w.ns, metav1.DeleteOptions{})
		_ = bindings.Delete(context.Background(), w.ns, metav1.DeleteOptions{})
	})
	w.text = w.configMap("a", "1") + w.configMap("guarded", "1") + w.configMap("free", "1")
	w.converge(false)
	testAwait(t, func() error { // admission learns of a policy a moment later
		err := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Delete(t.Context(), "guarded", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil {
			return fmt.Errorf("the policy is not in force yet")
		}
		return nil
	})
	w.step(t, "a deletion that is refused is shown with the reason, stays in the inventory, and holds nothing else up", func(t *testing.T) {
		w.text = w.configMap("a", "2")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneFailed, true, "prune 1 of 2 objects failed", "/guarded: ", "guarded by policy")
		wantEqual(t, "values", w.value("a")+w.value("guarded")+w.value("free"), "21")
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 2)
	})
	w.step(t, "the next apply goes through nevertheless", func(t *testing.T) {
		w.restart()
		w.text = w.configMap("a", "3")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneFailed, true, "guarded by policy")
		wantEqual(t, "a", w.value("a"), "3")
	})
	w.step(t, "and it is pruned as soon as it may", func(t *testing.T) {
		if err := bindings.Delete(t.Context(), w.ns, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		testAwait(t, func() error {
			_, err := w.run(t.Context(), false)
			return err
		})
		wantEqual(t, "guarded", w.value("guarded"), "")
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
	})
}
