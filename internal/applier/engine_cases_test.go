package applier_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

func crd(group, kind string) string {
	plural := strings.ToLower(kind) + "s"
	return fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]s.%[2]s, annotations: {towline.dev/prune: enabled}}
spec:
  group: %[2]s
  scope: Namespaced
  names: {kind: %[3]s, plural: %[1]s}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
`, plural, group, kind)
}

func TestCustomResources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.ns + ".example.org"
	custom := fmt.Sprintf("apiVersion: %s/v1\nkind: Thing\nmetadata: {name: one, namespace: %s}\nspec: {size: 1}\n---\n", group, w.ns)
	gvr := schema.GroupVersionResource{Group: group, Version: "v1", Resource: "things"}

	w.step(t, "a CRD and its object come up in one run, whatever their order", func(t *testing.T) {
		w.text = custom + crd(group, "Thing")
		w.converge(false)
		u := must(w.kube.Dynamic.Resource(gvr).Namespace(w.ns).Get(t.Context(), "one", metav1.GetOptions{}))(t)
		wantEqual(t, "label", u.GetLabels()[deploy.LabelTarget], "kustomization.apps.web")
	})
	w.step(t, "both go in one run, the object first", func(t *testing.T) {
		w.text = w.configMap("a", "1")
		got := writes(w.counted(func() { w.converge(false) }))
		thing, def := -1, -1
		for i, r := range got {
			if r == "DELETE /apis/"+group+"/v1/namespaces/"+w.ns+"/things/one" {
				thing = i
			}
			if strings.HasPrefix(r, "DELETE /apis/apiextensions.k8s.io/") {
				def = i
			}
		}
		if thing < 0 || def < thing {
			t.Fatalf("want the object deleted before its CRD: %v", got)
		}
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
	})
	w.step(t, "an object of an unknown kind fails alone", func(t *testing.T) {
		w.text = w.configMap("a", "2") + strings.ReplaceAll(custom, "Thing", "Nothing")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, true, "Nothing."+group, "unknown resource type")
		wantEqual(t, "the other object", w.value("a"), "2")
	})
}

func TestOneBadObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1") + w.configMap("old", "1")
	w.converge(false)
	w.text = w.configMap("a", "2") + w.configMap("bad", "1") + w.configMap("c", "1")
	w.text = strings.Replace(w.text, `{v: "1"}`, `{"not a key": "1"}`, 1) // bad's
	changes, err := w.run(t.Context(), false)

	w.step(t, "is named and the run is degraded", func(t *testing.T) {
		wantFailure(t, err, deploy.ReasonApplyFailed, true, "1 of 3 objects", "/bad:", "not a key")
	})
	w.step(t, "does not hold up the others", func(t *testing.T) {
		wantEqual(t, "values", w.value("a")+w.value("c"), "21")
	})
	w.step(t, "puts pruning off", func(t *testing.T) {
		wantEqual(t, "old", w.value("old"), "1")
		wantEqual(t, "change", changes[len(changes)-1], "prune ConfigMap/NS/old: put off until everything is applied and healthy")
	})
	w.step(t, "heals alone when it is corrected", func(t *testing.T) {
		w.text = w.configMap("a", "2") + w.configMap("bad", "1") + w.configMap("c", "1")
		wantEqual(t, "changes", w.converge(false), []string{"apply ConfigMap/NS/bad", "prune ConfigMap/NS/old"})
	})
}

func TestEmptyArtifact(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1") + w.configMap("b", "1")
	w.converge(false)
	w.text = ""
	w.step(t, "prunes nothing and says so", func(t *testing.T) {
		got := w.counted(func() {
			_, err := w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonPruneBlocked, true, "2 of 2 objects in the inventory would be deleted, because the artifact renders no objects", "allowMassPrune: "+w.work(false).Revision.Digest)
		})
		wantEqual(t, "requests", got, []string(nil))
		wantEqual(t, "value", w.value("a"), "1")
	})
	w.step(t, "prunes everything when its digest is named", func(t *testing.T) {
		spec := *w.target.Kustomization
		spec.AllowMassPrune = w.work(false).Revision.Digest
		w.target.Kustomization = &spec
		wantEqual(t, "changes", w.converge(false), []string{"prune ConfigMap/NS/a", "prune ConfigMap/NS/b"})
		wantEqual(t, "values", w.value("a")+w.value("b"), "")
		wantEqual(t, "inventory", w.inventory(), "")
	})
}

func TestKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := fmt.Sprintf("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: %s}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n---\n", w.ns)
	disabled := strings.Replace(w.configMap("mine", "1"), "name: mine,", "name: mine, annotations: {kustomize.toolkit.fluxcd.io/prune: disabled},", 1)
	base := w.configMap("a", "1")
	w.text = base + claim + disabled
	w.converge(false)
	claims := w.kube.Kubernetes.CoreV1().PersistentVolumeClaims(w.ns)

	w.step(t, "a claim stays and is remembered; an object that forbids it stays and is let go", func(t *testing.T) {
		w.text = base
		changes := w.converge(false)
		wantEqual(t, "changes", changes, []string{
			"keep ConfigMap/NS/mine: its kustomize.toolkit.fluxcd.io/prune is disabled",
			"keep PersistentVolumeClaim/NS/data: data may be lost; annotate the PersistentVolumeClaim with towline.dev/prune=enabled to let it go",
		})
		must(claims.Get(t.Context(), "data", metav1.GetOptions{}))(t)
		cm := must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Get(t.Context(), "mine", metav1.GetOptions{}))(t)
		wantEqual(t, "our marks", cm.Labels[deploy.LabelTarget]+cm.Annotations["config.k8s.io/owning-inventory"], "")
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 2)
	})
	w.step(t, "it is no news any more", func(t *testing.T) {
		w.restart()
		wantEqual(t, "changes", w.converge(false), []string(nil))
		wantEqual(t, "changes", w.converge(true), []string(nil))
	})
	w.step(t, "the annotation lets it go at the next full run", func(t *testing.T) {
		must(claims.Patch(t.Context(), "data", types.MergePatchType, []byte(`{"metadata":{"annotations":{"towline.dev/prune":"enabled"}}}`), metav1.PatchOptions{}))(t)
		wantEqual(t, "changes", w.converge(true), []string{"prune PersistentVolumeClaim/NS/data"})
	})
	w.step(t, "without prune, what is dropped leaves the inventory and stays", func(t *testing.T) {
		spec := *w.target.Kustomization
		spec.Prune = false
		w.target.Kustomization, w.target.Hash = &spec, "spec-2"
		w.text = w.configMap("b", "1")
		wantEqual(t, "changes", w.converge(false), []string{"create ConfigMap/NS/b", "keep ConfigMap/NS/a: prune is off"})
		wantEqual(t, "value", w.value("a"), "1")
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
	})
}

func TestOwnership(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1")
	w.converge(false)
	other := w.target
	other.Name.Name = "other"
	w.target = other

	w.step(t, "another target's object is refused by name, at every try", func(t *testing.T) {
		w.text = w.configMap("a", "2") + w.configMap("b", "2")
		for range 2 {
			_, err := w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonApplyFailed, true, "/a: it belongs to kustomization/apps/web (inventory")
		}
		wantEqual(t, "values", w.value("a")+w.value("b"), "12")
	})
	w.step(t, "and not deleted with the target that was refused", func(t *testing.T) {
		if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "values", w.value("a")+w.value("b"), "1")
	})
	cms := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	replace := func(t *testing.T, name, annotations string) {
		t.Helper()
		client := w.kube.Dynamic.Resource(cms).Namespace(w.ns)
		if err := client.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		us := must(parse(strings.Replace(w.configMap(name, "theirs"), "name: "+name+",", "name: "+name+", annotations: {"+annotations+"},", 1)))(t)
		must(client.Create(t.Context(), us[0], metav1.CreateOptions{}))(t)
	}
	w.step(t, "what somebody made anew is taken back, also where nobody looked", func(t *testing.T) {
		w.text = w.configMap("one", "1") + w.configMap("two", "1")
		w.converge(false)
		replace(t, "one", "")
		w.text = w.configMap("one", "2") + w.configMap("two", "1")
		w.converge(false)
		wantEqual(t, "value", w.value("one"), "2")
		replace(t, "one", "")
		wantEqual(t, "changes", w.converge(true), []string{"apply ConfigMap/NS/one"})
		wantEqual(t, "value", w.value("one"), "2")
	})
	w.step(t, "unless it is another inventory's now", func(t *testing.T) {
		replace(t, "two", "config.k8s.io/owning-inventory: stranger")
		w.text = w.configMap("one", "2") + w.configMap("two", "2")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, true, `/two: it belongs to inventory "stranger"`)
		wantEqual(t, "value", w.value("two"), "theirs")
	})
	w.step(t, "an object that nobody manages is adopted", func(t *testing.T) {
		us := must(parse(w.configMap("free", "1")))(t)
		must(w.kube.Dynamic.Resource(cms).Namespace(w.ns).Create(t.Context(), us[0], metav1.CreateOptions{FieldManager: "kubectl-client-side-apply"}))(t)
		w.text = w.configMap("free", "2")
		w.converge(false)
		wantEqual(t, "value", w.value("free"), "2")
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	role := func(name string) string {
		return fmt.Sprintf("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: %q, namespace: %s}\nrules: []\n---\n", name, w.ns)
	}
	w.text = w.configMap("a", "1") + role("system:a_b") + role("a:b__c") + role("with space") + role(strings.Repeat("long-", 50))
	w.converge(false)
	w.restart()
	wantEqual(t, "changes after a restart", w.converge(false), []string(nil))
	w.text = w.configMap("a", "1")
	w.converge(false)
	roles := must(w.kube.Kubernetes.RbacV1().Roles(w.ns).List(t.Context(), metav1.ListOptions{}))(t)
	wantEqual(t, "roles left", len(roles.Items), 0)
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	name := w.ns + "-own"
	w.text = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: inside, namespace: %s}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n", name, name, w.ns)
	t.Cleanup(func() {
		ctx := context.Background()
		_ = w.kube.Kubernetes.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
		_ = w.kube.Kubernetes.CoreV1().ConfigMaps("default").Delete(ctx, w.ns, metav1.DeleteOptions{})
	})
	w.step(t, "come before what is in them; objects without one go to default", func(t *testing.T) {
		w.converge(false)
		must(w.kube.Kubernetes.CoreV1().ConfigMaps(name).Get(t.Context(), "inside", metav1.GetOptions{}))(t)
		must(w.kube.Kubernetes.CoreV1().ConfigMaps("default").Get(t.Context(), w.ns, metav1.GetOptions{}))(t)
	})
	w.step(t, "stay when the target is deleted, and are not ours any more", func(t *testing.T) {
		if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
			t.Fatal(err)
		}
		ns := must(w.kube.Kubernetes.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}))(t)
		wantEqual(t, "label", ns.Labels[deploy.LabelTarget], "")
		_, err := w.kube.Kubernetes.CoreV1().ConfigMaps(name).Get(t.Context(), "inside", metav1.GetOptions{})
		wantEqual(t, "inside is gone", apierrors.IsNotFound(err), true)
		wantEqual(t, "inventory", w.inventory(), "")
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := *w.target.Kustomization
	spec.Wait = true
	w.target.Kustomization = &spec
	const never = `"kubelet.towline.dev/never-ready": "true"`

	w.step(t, "a waiting target is done when its Deployment is available", func(t *testing.T) {
		w.text = w.deployment("web", "")
		w.converge(false)
		d := must(w.kube.Kubernetes.AppsV1().Deployments(w.ns).Get(t.Context(), "web", metav1.GetOptions{}))(t)
		wantEqual(t, "available", d.Status.AvailableReplicas, int32(1))
	})
	w.step(t, "what never becomes ready fails by name, keeps what it replaces, and is not forgotten", func(t *testing.T) {
		w.target.Timeout = 3 * time.Second
		w.text = w.deployment("new", never)
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "Deployment.apps/"+w.ns+"/new: not ready: ")
		must(w.kube.Kubernetes.AppsV1().Deployments(w.ns).Get(t.Context(), "web", metav1.GetOptions{}))(t)
		_, err = w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonHealthCheckFailed, false)
	})
	w.step(t, "a deadline of the caller is a matter of health too", func(t *testing.T) {
		w.target.Timeout = time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := w.run(ctx, false)
		wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/new: not ready: ")
	})
	w.step(t, "news cancels the wait at once", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		work := w.work(false)
		p := must(w.engine.Plan(ctx, work))(t)
		var canceled time.Time
		_, err := w.engine.Apply(ctx, work, p, func(ph deploy.Phase, text string) {
			if ph == deploy.PhaseWaiting && canceled.IsZero() {
				wantEqual(t, "text names the object", strings.HasPrefix(text, "waiting for Deployment.apps/"+w.ns+"/new"), true)
				canceled = time.Now()
				cancel()
			}
		})
		wantFailure(t, err, deploy.ReasonCanceled, false)
		wantEqual(t, "is context.Canceled", errors.Is(err, context.Canceled), true)
		if took := time.Since(canceled); took > time.Second {
			t.Fatalf("took %s", took)
		}
	})
	job := func(name, podAnnotations string) string {
		return fmt.Sprintf(`apiVersion: batch/v1
kind: Job
metadata: {name: %s, namespace: %s}
spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {%s}}
    spec: {restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{name: c, image: example.org/x:1}]}
---
`, name, w.ns, podAnnotations)
	}
	w.step(t, "a failed Job ends the wait before the timeout", func(t *testing.T) {
		w.text = w.deployment("new", never) + job("migrate", `"kubelet.towline.dev/fail": "true"`)
		start := time.Now()
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "Job.batch/"+w.ns+"/migrate: ")
		if took := time.Since(start); took > 40*time.Second {
			t.Fatalf("took %s of a minute", took)
		}
	})
	w.step(t, "prunes what was replaced when the new is healthy and its Job is done", func(t *testing.T) {
		w.text = w.deployment("new", "") + job("done", "")
		w.converge(false)
		j := must(w.kube.Kubernetes.BatchV1().Jobs(w.ns).Get(t.Context(), "done", metav1.GetOptions{}))(t)
		wantEqual(t, "succeeded", j.Status.Succeeded, int32(1))
		_, err := w.kube.Kubernetes.AppsV1().Deployments(w.ns).Get(t.Context(), "web", metav1.GetOptions{})
		wantEqual(t, "web is gone", apierrors.IsNotFound(err), true)
	})
}

func TestDependsOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target.Timeout = 2 * time.Second
	after := strings.Replace(w.configMap("after", "1"), "name: after,", fmt.Sprintf("name: after, annotations: {config.kubernetes.io/depends-on: apps/namespaces/%s/Deployment/web},", w.ns), 1)
	w.text = after + w.configMap("free", "1") + w.deployment("web", `"kubelet.towline.dev/never-ready": "true"`)
	_, err := w.run(t.Context(), false)
	w.step(t, "an object is held back while what it depends on is not ready", func(t *testing.T) {
		wantFailure(t, err, deploy.ReasonApplyFailed, true, "/after: held back: Deployment.apps/", "/web: not ready: ")
		wantEqual(t, "values", w.value("after")+w.value("free"), "1")
	})
	w.step(t, "and follows when it is", func(t *testing.T) {
		w.target.Timeout = 30 * time.Second
		w.text = strings.Replace(w.text, `"kubelet.towline.dev/never-ready": "true"`, "", 1)
		w.converge(false)
		wantEqual(t, "value", w.value("after"), "1")
	})
}

func TestTransientErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1")
	failures := 2
	w.interfere(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == http.MethodPatch && failures > 0 {
			failures--
			return respond(r, http.StatusInternalServerError, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","code":500,
				"message":"Internal error occurred: failed calling webhook \"x\": no endpoints available for service \"x\""}`), nil
		}
		return next.RoundTrip(r)
	})
	w.converge(false)
	wantEqual(t, "value", w.value("a"), "1")
}

func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1") + fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: %s}\nstringData: {password: 31337}\n", w.ns)
	changes, err := w.run(t.Context(), false)
	wantFailure(t, err, deploy.ReasonApplyFailed, true, "Secret/"+w.ns+"/s: the API server refused it")
	if all := err.Error() + strings.Join(changes, ""); strings.Contains(all, "31337") {
		t.Fatalf("the value of a secret is in: %s", all)
	}
}

func TestWatchSurvives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := *w.target.Kustomization
	spec.Wait = true
	w.target.Kustomization = &spec
	watches := 0
	w.interfere(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.URL.Query().Get("watch") != "true" {
			return next.RoundTrip(r)
		}
		w.mu.Lock()
		watches++
		n := watches
		w.mu.Unlock()
		switch n {
		case 1:
			return nil, errors.New("connection refused")
		case 2:
			return respond(r, http.StatusGone, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old resource version"}`), nil
		case 3:
			return respond(r, http.StatusOK, `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old resource version"}}`), nil
		case 4:
			return respond(r, http.StatusOK, ""), nil
		}
		return next.RoundTrip(r)
	})
	w.text = w.deployment("web", `"kubelet.towline.dev/ready-after": 3s`)
	w.converge(false)
	w.mu.Lock()
	defer w.mu.Unlock()
	if watches < 5 {
		t.Fatalf("%d watches: the test did not interrupt any", watches)
	}
}

func TestManyInOneWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := *w.target.Kustomization
	spec.Wait = true
	w.target.Kustomization = &spec
	for i := range 12 {
		w.text += w.deployment(fmt.Sprintf("web%d", i), "")
	}
	got := w.counted(func() { w.converge(false) })
	watches := 0
	for _, r := range got {
		if r == "GET /apis/apps/v1/namespaces/"+w.ns+"/deployments" {
			watches++
		}
	}
	wantEqual(t, "one list and one watch for all", watches, 2)
}

func TestLostInventory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.text = w.configMap("a", "1") + w.configMap("b", "1")
	w.converge(false)
	cms := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns)
	if err := cms.Delete(t.Context(), "towline-inventory.kustomization.apps.web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.text = w.configMap("a", "1")
	w.step(t, "is rebuilt from the marks on the objects", func(t *testing.T) {
		w.converge(false)
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 2)
	})
	w.step(t, "so that what was dropped meanwhile is pruned by the next run", func(t *testing.T) {
		wantEqual(t, "changes", w.converge(false), []string{"prune ConfigMap/NS/b"})
		wantEqual(t, "b", w.value("b"), "")
	})
}
