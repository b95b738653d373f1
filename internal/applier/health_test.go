package applier_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

const (
	neverReady = `{"spec":{"template":{"metadata":{"annotations":{"kubelet.towline.dev/never-ready":"true"}}}}}`
	readyAgain = `{"spec":{"template":{"metadata":{"annotations":{"kubelet.towline.dev/never-ready":null}}}}}`
)

// patchDeployment edits a Deployment as a user would, in fields that are not the target's, and waits until its controller has seen it.
func (w *world) patchDeployment(name, patch string) {
	w.t.Helper()
	deployments := w.kube.Kubernetes.AppsV1().Deployments(w.ns)
	d := must(deployments.Patch(w.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "somebody"}))(w.t)
	testAwait(w.t.(*testing.T), func() error {
		now, err := deployments.Get(w.t.Context(), name, metav1.GetOptions{})
		if err == nil && now.Status.ObservedGeneration < d.Generation {
			err = fmt.Errorf("observed generation %d of %d", now.Status.ObservedGeneration, d.Generation)
		}
		return err
	})
}

func TestFullCheckLooksAtHealth(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 9} { // read one by one, and by a list
		t.Run(fmt.Sprintf("%d of a kind", n), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.spec(func(s *deploy.KustomizationSpec) { s.Wait = true })
			for i := range n {
				w.text += w.deployment(fmt.Sprintf("web%d", i), `"ours": "1"`)
			}
			w.converge(false)
			wantEqual(t, "changes", w.converge(true), []string(nil))
			w.patchDeployment("web0", neverReady)
			w.target.Timeout = 2 * time.Second

			w.step(t, "what turned unhealthy fails the check by name; nothing is sent for it", func(t *testing.T) {
				got := w.counted(func() {
					changes, err := w.run(t.Context(), true)
					wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, fmt.Sprintf("health check of 1 of %d objects", n), "/web0: not ready: ")
					if len(changes) != 1 || !strings.HasPrefix(changes[0], "wait Deployment.apps/NS/web0: not ready: ") {
						t.Fatalf("changes: %q", changes)
					}
				})
				for _, r := range writes(got) {
					if strings.Contains(r, "/deployments") {
						t.Fatal(r)
					}
				}
			})
			w.step(t, "nobody believes after a restart that it is healthy", func(t *testing.T) {
				w.restart()
				_, err := w.run(t.Context(), false)
				wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/web0: not ready: ")
			})
			w.step(t, "a wait for it alone is in the phase Waiting, and news ends it at once", func(t *testing.T) {
				w.target.Timeout = time.Minute
				work := w.work(true)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				p := must(w.engine.Plan(ctx, work))(t)
				var canceled time.Time
				_, err := w.engine.Apply(ctx, work, p, func(ph deploy.Phase, _ string) {
					if ph == deploy.PhaseWaiting && canceled.IsZero() {
						canceled = time.Now()
						cancel()
					}
				})
				wantFailure(t, err, deploy.ReasonCanceled, false)
				if took := time.Since(canceled); took > 2*time.Second {
					t.Fatalf("took %s", took)
				}
			})
			w.step(t, "and it is Ready again when the object is", func(t *testing.T) {
				w.patchDeployment("web0", readyAgain)
				w.target.Timeout = 30 * time.Second
				w.converge(false)
				wantEqual(t, "changes", w.converge(true), []string(nil))
			})
		})
	}
}

func TestHealthChecks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.spec(func(s *deploy.KustomizationSpec) {
		s.HealthChecks = []deploy.HealthCheck{{APIVersion: "apps/v1", Kind: "Deployment", Namespace: w.ns, Name: "theirs"}}
	})
	w.text = w.configMap("a", "1") + w.configMap("old", "1")
	w.target.Timeout = 2 * time.Second
	deployments := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

	w.step(t, "an object that does not exist fails them by name, and they are judged again though nothing is to be applied", func(t *testing.T) {
		for range 2 {
			changes, err := w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "health check of 1 of 3 objects", "/theirs: not ready: it does not exist")
			wantEqual(t, "last change", changes[len(changes)-1], "wait Deployment.apps/NS/theirs: not ready: it does not exist")
		}
		w.restart()
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "it does not exist")
	})
	w.step(t, "nothing is pruned before it is healthy", func(t *testing.T) {
		w.text = w.configMap("a", "2")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "it does not exist")
		wantEqual(t, "values", w.value("a")+w.value("old"), "21")
	})
	w.step(t, "one that comes up meanwhile, made by somebody else, satisfies them", func(t *testing.T) {
		w.target.Timeout = 30 * time.Second
		late := time.AfterFunc(500*time.Millisecond, func() {
			us, err := parse(w.deployment("theirs", ""))
			if err == nil {
				_, err = w.kube.Dynamic.Resource(deployments).Namespace(w.ns).Create(context.Background(), us[0], metav1.CreateOptions{})
			}
			if err != nil {
				t.Error(err)
			}
		})
		defer late.Stop()
		w.converge(false)
		wantEqual(t, "old", w.value("old"), "")
		wantEqual(t, "an unchanged target asks nothing", w.counted(func() { w.converge(false) }), []string(nil))
	})
	w.step(t, "a full check sees when it turns unhealthy", func(t *testing.T) {
		w.patchDeployment("theirs", neverReady)
		w.target.Timeout = 2 * time.Second
		changes, err := w.run(t.Context(), true)
		wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/theirs: not ready: ")
		wantEqual(t, "changes", len(changes), 1)
	})
}

// TestNewArtifactWithSickObject changes one object of a target while another one, unchanged, is unhealthy.
func TestNewArtifactWithSickObject(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("known to the agent: %v", known), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.spec(func(s *deploy.KustomizationSpec) { s.Wait = true })
			web := w.deployment("web", "")
			w.text = w.configMap("a", "1") + w.configMap("old", "1") + web
			w.converge(false)
			w.patchDeployment("web", neverReady)
			w.target.Timeout = 2 * time.Second
			if known {
				_, err := w.run(t.Context(), true)
				wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/web: not ready: ")
			}
			w.text = w.configMap("a", "2") + web
			w.step(t, "it is not Ready, and nothing is pruned", func(t *testing.T) {
				for range 2 {
					_, err := w.run(t.Context(), false)
					wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "health check of 1 of 2 objects", "/web: not ready: ")
					wantEqual(t, "values", w.value("a")+w.value("old"), "21")
				}
			})
			w.step(t, "the next attempt finds the inventory as it is, and changes nothing in the cluster", func(t *testing.T) {
				version := func() string {
					return must(w.kube.Kubernetes.AppsV1().Deployments(w.ns).Get(t.Context(), "web", metav1.GetOptions{}))(t).ResourceVersion
				}
				before := version()
				got := w.counted(func() {
					_, err := w.run(t.Context(), false)
					wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/web: not ready: ")
				})
				for _, r := range writes(got) {
					if strings.Contains(r, "towline-inventory.") {
						t.Fatal(r)
					}
				}
				wantEqual(t, "version", version(), before)
			})
			w.step(t, "and it is when the object is", func(t *testing.T) {
				w.patchDeployment("web", readyAgain)
				w.target.Timeout = 30 * time.Second
				w.converge(false)
				wantEqual(t, "old", w.value("old"), "")
			})
		})
	}
}

func TestHealthChecksOfAnUnknownKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.ns + ".example.org"
	w.spec(func(s *deploy.KustomizationSpec) {
		s.HealthChecks = []deploy.HealthCheck{{APIVersion: group + "/v1", Kind: "Thing", Namespace: w.ns, Name: "one"}}
	})
	w.text = w.configMap("a", "1")
	w.target.Timeout = 2 * time.Second
	for _, full := range []bool{false, true} {
		_, err := w.run(t.Context(), full)
		wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/one: not ready: the cluster has no kind Thing."+group)
	}
	// It comes with the kind, by another target, while it is waited for.
	w.target.Timeout = 30 * time.Second
	other := newWorld(t)
	late := time.AfterFunc(300*time.Millisecond, func() {
		other.text = crd(group, "Thing") + fmt.Sprintf("apiVersion: %s/v1\nkind: Thing\nmetadata: {name: one, namespace: %s}\n---\n", group, w.ns)
		if _, err := other.run(context.Background(), false); err != nil {
			t.Error(err)
		}
	})
	defer late.Stop()
	w.converge(false)
}

// TestHealthCheckExprs has a custom kind whose health kstatus would not see.
func TestHealthCheckExprs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.ns + ".example.org"
	gvr := schema.GroupVersionResource{Group: group, Version: "v1", Resource: "things"}
	thing := fmt.Sprintf("apiVersion: %s/v1\nkind: Thing\nmetadata: {name: one, namespace: %s}\nspec: {size: 1}\n---\n", group, w.ns)
	w.spec(func(s *deploy.KustomizationSpec) {
		s.Wait = true
		s.HealthCheckExprs = []deploy.HealthCheckExpr{{
			APIVersion: group + "/v1", Kind: "Thing",
			Failed:  "status.conditions.exists(c, c.type == 'Broken' && c.status == 'True')",
			Current: "status.conditions.exists(c, c.type == 'Done' && c.status == 'True')",
		}}
	})
	things := w.kube.Dynamic.Resource(gvr).Namespace(w.ns)
	status := func(condition string) {
		patch := fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":"True"}]}}`, condition)
		if _, err := things.Patch(context.Background(), "one", types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "controller"}); err != nil {
			t.Error(err)
		}
	}
	w.text = crd(group, "Thing")
	w.converge(false)
	w.text += thing
	w.target.Timeout = 2 * time.Second

	w.step(t, "an object without status never passes, though kstatus would take it for current", func(t *testing.T) {
		for range 2 {
			_, err := w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/one: not ready: it has no status yet")
		}
	})
	w.step(t, "a condition that the rule does not name is not enough", func(t *testing.T) {
		status("Ready")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/one: not ready: ")
	})
	w.step(t, "a failing rule fails fast", func(t *testing.T) {
		w.target.Timeout = time.Minute
		late := time.AfterFunc(300*time.Millisecond, func() { status("Broken") })
		defer late.Stop()
		start := time.Now()
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/one: it failed, by its healthCheckExprs")
		if took := time.Since(start); took > 20*time.Second {
			t.Fatalf("took %s of a minute", took)
		}
	})
	w.step(t, "and the condition of the rule passes, while it is waited for", func(t *testing.T) {
		status("Ready")
		late := time.AfterFunc(300*time.Millisecond, func() { status("Done") })
		defer late.Stop()
		w.converge(false)
	})
	w.step(t, "a full check judges by the rule too", func(t *testing.T) {
		wantEqual(t, "changes", w.converge(true), []string(nil))
		status("Broken")
		_, err := w.run(t.Context(), true)
		wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/one: it failed, by its healthCheckExprs")
	})
	w.step(t, "a rule for a version that is not served judges nothing, and says so", func(t *testing.T) {
		w.spec(func(s *deploy.KustomizationSpec) {
			s.HealthCheckExprs = []deploy.HealthCheckExpr{{APIVersion: group + "/v2", Kind: "Thing", Current: "true"}}
		})
		w.target.Timeout = 2 * time.Second
		for _, full := range []bool{true, false} {
			_, err := w.run(t.Context(), full)
			wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/one: not ready: ", "its healthCheckExprs are for version v2, which the cluster does not serve")
		}
	})
	w.step(t, "an expression that does not compile is named", func(t *testing.T) {
		w.spec(func(s *deploy.KustomizationSpec) {
			s.HealthCheckExprs = []deploy.HealthCheckExpr{{APIVersion: group + "/v1", Kind: "Thing", Current: "status.("}}
		})
		_, err := w.run(t.Context(), true)
		wantFailure(t, err, deploy.ReasonPlanFailed, false, "Thing."+group, "current")
	})
}

// TestDeletedWhileWaitedFor has an object deleted by somebody in the middle of the wait.
func TestDeletedWhileWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.spec(func(s *deploy.KustomizationSpec) { s.Wait = true })
	w.text = w.deployment("web", `"kubelet.towline.dev/never-ready": "true"`)
	w.target.Timeout = time.Minute
	work := w.work(false)
	p := must(w.engine.Plan(t.Context(), work))(t)
	start, deleted := time.Now(), false
	_, err := w.engine.Apply(t.Context(), work, p, func(ph deploy.Phase, _ string) {
		if ph == deploy.PhaseWaiting && !deleted {
			deleted = true
			if err := w.kube.Kubernetes.AppsV1().Deployments(w.ns).Delete(context.Background(), "web", metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
	wantFailure(t, err, deploy.ReasonHealthCheckFailed, false, "/web: it was deleted by somebody else")
	if took := time.Since(start); took > 20*time.Second {
		t.Fatalf("took %s of a minute", took)
	}
}

// TestOwnAccountStays lists the account that the agent runs as among the objects of a target that drops it.
func TestOwnAccountStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	account := func(name string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s, namespace: %s}\n---\n", name, w.ns)
	}
	w.text = w.configMap("a", "1") + account("agent") + account("other")
	w.converge(false)
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: w.ns},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.ns, Name: "agent"}},
	}
	must(w.kube.Kubernetes.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}))(t)
	t.Cleanup(func() {
		_ = w.kube.Kubernetes.RbacV1().ClusterRoleBindings().Delete(context.Background(), w.ns, metav1.DeleteOptions{})
	})
	w.account = "system:serviceaccount:" + w.ns + ":agent"
	w.restart()
	testAwait(t, func() error { // the authorizer learns of it a moment later
		_, err := w.clients.Kubernetes.CoreV1().ConfigMaps(w.ns).List(t.Context(), metav1.ListOptions{})
		return err
	})
	w.text = w.configMap("a", "1")
	_, err := w.run(t.Context(), false)
	wantFailure(t, err, deploy.ReasonPruneFailed, true, "/agent: not deleted: the agent runs as it")
	accounts := must(w.kube.Kubernetes.CoreV1().ServiceAccounts(w.ns).List(t.Context(), metav1.ListOptions{LabelSelector: deploy.LabelTarget}))(t)
	wantEqual(t, "accounts", len(accounts.Items), 1)
	wantEqual(t, "name", accounts.Items[0].Name, "agent")
}
