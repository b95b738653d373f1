package applier_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/towline/towline/internal/applier"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/testenv"
)

// door is another way into the test cluster: to the engine a cluster of its own, that notes what is asked of it and can be shut.
type door struct {
	server *httptest.Server
	hides  string // a path that is not found

	mu       sync.Mutex // guards requests
	requests []string
}

func newDoor(t *testing.T) *door {
	cfg := testenv.Cluster(t).Config
	host, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{}
	proxy := &httputil.ReverseProxy{
		Transport: must(rest.TransportFor(cfg))(t), FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: host.Scheme, Host: host.Host}) },
	}
	d.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.requests = append(d.requests, r.Method+" "+r.URL.Path)
		d.mu.Unlock()
		if d.hides != "" && r.URL.Path == d.hides {
			http.NotFound(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(d.server.Close)
	return d
}

// asked are the requests since it was called last.
func (d *door) asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.requests
	d.requests = nil
	return out
}

// kubeconfig is one that leads through the door.
func (d *door) kubeconfig(t *testing.T) []byte {
	return must(clientcmd.Write(api.Config{
		Clusters:  map[string]*api.Cluster{"edge": {Server: d.server.URL}},
		AuthInfos: map[string]*api.AuthInfo{"edge": {Token: "canary-4711"}},
		Contexts:  map[string]*api.Context{"edge": {Cluster: "edge", AuthInfo: "edge"}}, CurrentContext: "edge",
	}))(t)
}

// remote is a world whose engine finds clusters in a pool, and whose target is behind a door.
func remote(t *testing.T) (*world, *door) {
	w, d := newWorld(t), newDoor(t)
	w.target.Name.Namespace = w.ns
	secrets := w.kube.Kubernetes.CoreV1().Secrets(w.ns)
	must(secrets.Create(t.Context(), secretOf("edge", d.kubeconfig(t)), metav1.CreateOptions{}))(t)
	w.spec(func(s *deploy.KustomizationSpec) {
		s.KubeConfig = &deploy.KubeConfig{SecretRef: &deploy.SecretKeyRef{Name: "edge"}}
	})
	w.pooled()
	return w, d
}

// pooled gives the world a new engine, with a pool.
func (w *world) pooled() {
	w.restart()
	own := w.clients
	pool := kube.NewPool(own, func(ctx context.Context, namespace, name string) (map[string][]byte, error) {
		s, err := own.Kubernetes.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return s.Data, nil
	})
	w.engine = applier.New(applier.Options{Clients: own, Clusters: pool, Builder: &w.manifests, Namespace: w.ns})
}

func about(requests []string, words ...string) (out []string) {
	for _, r := range requests {
		for _, w := range words {
			if strings.Contains(r, w) {
				out = append(out, r)
			}
		}
	}
	return out
}

func TestAnotherCluster(t *testing.T) {
	t.Parallel()
	w, d := remote(t)
	w.spec(func(s *deploy.KustomizationSpec) { s.Wait, s.DeletionPolicy = true, deploy.DeletionWait })
	// There the names of the agent's own state mean nothing.
	state := w.configMap("towline-record.of-another", "1")
	w.text = w.deployment("web", "") + w.configMap("a", "1") + w.configMap("b", "1") + state

	w.step(t, "it is applied to and waited for there, while the inventory stays here", func(t *testing.T) {
		here := w.counted(func() { w.converge(false) })
		there := d.asked()
		wantEqual(t, "requests here about the objects", about(here, "/deployments", "/configmaps/a"), []string(nil))
		wantEqual(t, "requests there about the inventory", about(there, "towline-inventory"), []string(nil))
		wantEqual(t, "applies here", about(here, "PATCH "), []string(nil))
		if n := len(about(there, "PATCH ")); n < 4 {
			t.Fatalf("%d PATCHes there", n)
		}
		inventories := must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).List(t.Context(), metav1.ListOptions{LabelSelector: deploy.LabelState}))(t)
		wantEqual(t, "the inventory says where", inventories.Items[0].Annotations["towline.dev/cluster"], "secret "+w.ns+"/edge")
	})
	w.step(t, "unchanged, nothing is asked there", func(t *testing.T) {
		d.asked()
		w.converge(false)
		wantEqual(t, "requests there", d.asked(), []string(nil))
	})
	w.step(t, "it is pruned there after a restart, but for what is somebody else's by now", func(t *testing.T) {
		w.edit("b", `{"annotations":{"config.k8s.io/owning-inventory":"stranger"}}`)
		w.text = w.deployment("web", "") + state
		w.pooled()
		here := w.counted(func() { w.converge(false) })
		wantEqual(t, "deletions here", about(here, "DELETE "), []string(nil))
		wantEqual(t, "values", w.value("a")+w.value("b"), "1")
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 2)
	})
	w.step(t, "without an answer from there an attempt fails, says which cluster, and forgets nothing", func(t *testing.T) {
		before := w.inventory()
		w.spec(func(s *deploy.KustomizationSpec) {
			s.KubeConfig = &deploy.KubeConfig{SecretRef: &deploy.SecretKeyRef{Name: "dead"}}
		})
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPlanFailed, false, "kubeConfig: secret "+w.ns+"/dead does not exist")
		wantEqual(t, "inventory", w.inventory(), before)
		w.spec(func(s *deploy.KustomizationSpec) {
			s.KubeConfig = &deploy.KubeConfig{SecretRef: &deploy.SecretKeyRef{Name: "edge"}}
		})
	})
	w.step(t, "an inventory of one cluster is not taken for one of another", func(t *testing.T) {
		before := w.inventory()
		secrets := w.kube.Kubernetes.CoreV1().Secrets(w.ns)
		must(secrets.Create(t.Context(), secretOf("west", d.kubeconfig(t)), metav1.CreateOptions{}))(t)
		home := w.target
		w.spec(func(s *deploy.KustomizationSpec) {
			s.KubeConfig = &deploy.KubeConfig{SecretRef: &deploy.SecretKeyRef{Name: "west"}}
		})
		w.text = ""
		w.pooled()
		_, err := w.run(t.Context(), true)
		wantFailure(t, err, deploy.ReasonPlanFailed, false, "the cluster of secret "+w.ns+"/edge")
		wantEqual(t, "inventory", w.inventory(), before)
		w.target = home
	})
	w.step(t, "it is deleted there, and then the inventory goes", func(t *testing.T) {
		if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
			t.Fatal(err)
		}
		_, err := w.kube.Kubernetes.AppsV1().Deployments(w.ns).Get(t.Context(), "web", metav1.GetOptions{})
		wantEqual(t, "the Deployment is gone", apierrors.IsNotFound(err), true)
		wantEqual(t, "inventory and b", w.inventory()+w.value("b"), "1")
	})
}

func TestLeavingACluster(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		lose   func(*world, *door)
		stuck  string // what a deletion that is no orphaning says
		marked bool   // the objects still bear our marks
	}{
		{"that can be reached takes the marks off", func(*world, *door) {}, "", false},
		{"that does not answer", func(_ *world, d *door) { d.server.CloseClientConnections(); d.server.Listener.Close() }, "cluster of kubeconfig in secret", true},
		{"whose Secret is gone", func(w *world, _ *door) {
			if err := w.kube.Kubernetes.CoreV1().Secrets(w.ns).Delete(w.t.Context(), "edge", metav1.DeleteOptions{}); err != nil {
				w.t.Fatal(err)
			}
		}, "/edge does not exist", true},
		{"whose kubeconfig is broken", func(w *world, _ *door) {
			must(w.kube.Kubernetes.CoreV1().Secrets(w.ns).Update(w.t.Context(), secretOf("edge", []byte("canary-4711: {")), metav1.UpdateOptions{}))(w.t)
		}, "it is no kubeconfig", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, d := remote(t)
			w.text = w.configMap("a", "1") + w.configMap("b", "1")
			w.converge(false)
			c.lose(w, d)
			w.pooled()
			if c.stuck != "" {
				err := w.engine.Delete(t.Context(), w.target, nil)
				wantFailure(t, err, deploy.ReasonPruneFailed, strings.Contains(c.stuck, "cluster of"), c.stuck)
				if strings.Contains(err.Error(), "canary") {
					t.Fatalf("it tells a secret: %v", err)
				}
				wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 2)
			}
			w.spec(func(s *deploy.KustomizationSpec) { s.DeletionPolicy = deploy.DeletionOrphan })
			if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
				t.Fatal(err)
			}
			wantEqual(t, "inventory", w.inventory(), "")
			wantEqual(t, "values", w.value("a")+w.value("b"), "11")
			wantEqual(t, "it bears our marks", w.count() > 0, c.marked)
		})
	}
}

// TestClusterByAnotherName renames the Secret of a kubeconfig under a running target.
func TestClusterByAnotherName(t *testing.T) {
	t.Parallel()
	w, d := remote(t)
	w.text = w.configMap("a", "1") + w.configMap("b", "1")
	w.converge(false)
	secrets := w.kube.Kubernetes.CoreV1().Secrets(w.ns)
	was := w.target
	rename := func(name string) {
		w.target = was
		w.spec(func(s *deploy.KustomizationSpec) {
			s.KubeConfig = &deploy.KubeConfig{SecretRef: &deploy.SecretKeyRef{Name: name}}
		})
	}

	w.step(t, "a mistyped name takes nothing away", func(t *testing.T) {
		rename("egde")
		before := w.inventory()
		_, err := w.engine.Move(t.Context(), was, w.target)
		wantFailure(t, err, deploy.ReasonPruneFailed, false, "the cluster of secret "+w.ns+"/egde cannot be used yet: ", "does not exist")
		wantEqual(t, "values and inventory", w.value("a")+w.value("b")+w.inventory(), "11"+before)
	})
	w.step(t, "in the same cluster by another way everything stays, also where the inventory's write is lost once", func(t *testing.T) {
		must(secrets.Create(t.Context(), secretOf("second", newDoor(t).kubeconfig(t)), metav1.CreateOptions{}))(t)
		rename("second")
		lost := false
		w.interfere(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			w.mu.Lock()
			first := r.Method == http.MethodPut && !lost
			lost = lost || first
			w.mu.Unlock()
			if first {
				return nil, &url.Error{Op: "Put", URL: r.URL.Path, Err: io.ErrUnexpectedEOF}
			}
			return next.RoundTrip(r)
		})
		d.asked()
		for range 2 { // the second stands for one after a crash
			stayed, err := w.engine.Move(t.Context(), was, w.target)
			wantEqual(t, "it stayed", must(stayed, err)(t), true)
		}
		wantEqual(t, "a write was lost", lost, true)
		w.interfere(nil)
		wantEqual(t, "deletions", about(d.asked(), "DELETE "), []string(nil))
		w.pooled()
		wantEqual(t, "changes", w.converge(true), []string(nil))
		w.text = w.configMap("a", "2")
		w.converge(false)
		wantEqual(t, "values", w.value("a")+w.value("b"), "2")
	})
	w.step(t, "in one that cannot be told to be the same it does not", func(t *testing.T) {
		was = w.target
		strange := newDoor(t)
		strange.hides = "/api/v1/namespaces/kube-system"
		must(secrets.Create(t.Context(), secretOf("third", strange.kubeconfig(t)), metav1.CreateOptions{}))(t)
		rename("third")
		stayed, err := w.engine.Move(t.Context(), was, w.target)
		wantEqual(t, "it stayed", must(stayed, err)(t), false)
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
	})
}

// TestAccountThatMayNotDelete prunes as a service account whose role lacks the verb.
func TestAccountThatMayNotDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target.Name.Namespace = w.ns
	w.spec(func(s *deploy.KustomizationSpec) { s.ServiceAccountName = "deployer" })
	grant(t, w, "deployer", "get", "list", "watch", "create", "update", "patch")
	w.pooled()
	w.text = w.configMap("a", "1") + w.configMap("old", "1")
	testAwait(t, func() error { // the authorizer learns of the role a moment later
		_, err := w.run(t.Context(), false)
		return err
	})
	refused := func(t *testing.T) {
		t.Helper()
		changes, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneFailed, true, "prune 1 of 1 objects failed", "/old: ", "cannot delete resource", "serviceaccount:"+w.ns+":deployer")
		if last := changes[len(changes)-1]; !strings.HasPrefix(last, "prune ConfigMap/NS/old: ") {
			t.Fatalf("changes: %q", changes)
		}
		wantEqual(t, "values", w.value("a")+w.value("old"), "21")
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 2)
	}
	w.step(t, "a deletion that its role forbids is shown, and stays in the inventory", func(t *testing.T) {
		w.text = w.configMap("a", "2")
		refused(t)
	})
	w.step(t, "it is tried again, also after a restart, and nothing is written into the inventory for it", func(t *testing.T) {
		for range 2 {
			got := w.counted(func() { refused(t) })
			wantEqual(t, "writes", writes(got), []string{fmt.Sprintf("DELETE /api/v1/namespaces/%s/configmaps/old", w.ns)})
			w.pooled()
		}
	})
	w.step(t, "a target that leaves the config is not forgotten either", func(t *testing.T) {
		err := w.engine.Delete(t.Context(), w.target, nil)
		wantFailure(t, err, deploy.ReasonPruneFailed, true, "cannot delete resource")
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 2)
	})
	w.step(t, "and it is gone when the role allows it", func(t *testing.T) {
		roles := w.kube.Kubernetes.RbacV1().Roles(w.ns)
		role := must(roles.Get(t.Context(), "deployer", metav1.GetOptions{}))(t)
		role.Rules[0].Verbs = append(role.Rules[0].Verbs, "delete")
		must(roles.Update(t.Context(), role, metav1.UpdateOptions{}))(t)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		testAwait(t, func() error {
			_, err := w.run(ctx, false)
			return err
		})
		wantEqual(t, "values", w.value("a")+w.value("old"), "2")
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), 1)
	})
}

func secretOf(name string, kubeconfig []byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{"value": kubeconfig}}
}

// TestAccountWithoutRights has accounts that are not there, and that may write but not read.
func TestAccountWithoutRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target.Name.Namespace = w.ns
	w.spec(func(s *deploy.KustomizationSpec) { s.ServiceAccountName = "writer" })
	w.pooled()
	w.text = w.configMap("a", "1")
	w.step(t, "an account that is not there is said to be missing", func(t *testing.T) {
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, "there is no service account writer in namespace "+w.ns, "cannot patch resource")
	})
	must(w.kube.Kubernetes.CoreV1().ServiceAccounts(w.ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "writer"}}, metav1.CreateOptions{}))(t)
	w.step(t, "one without rights is named with what it may not do", func(t *testing.T) {
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, `"system:serviceaccount:`+w.ns+`:writer" cannot patch resource "configmaps"`)
		if strings.Contains(err.Error(), "there is no service account") {
			t.Error(err)
		}
	})
	grant(t, w, "writer", "create", "patch")
	w.step(t, "one that may write but not read is told so where something has to be read", func(t *testing.T) {
		testAwait(t, func() error {
			_, err := w.run(t.Context(), false)
			return err
		})
		must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"v":"edited"}}`), metav1.PatchOptions{}))(t)
		w.text = w.configMap("a", "2")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, false, `writer" cannot get resource "configmaps"`)
	})
}

// grant gives an account verbs on ConfigMaps.
func grant(t *testing.T, w *world, account string, verbs ...string) {
	t.Helper()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: account}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: verbs}}}
	must(w.kube.Kubernetes.RbacV1().Roles(w.ns).Create(t.Context(), role, metav1.CreateOptions{}))(t)
	must(w.kube.Kubernetes.RbacV1().RoleBindings(w.ns).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.ns, Name: account}},
	}, metav1.CreateOptions{}))(t)
}
