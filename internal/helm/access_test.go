package helm

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/testenv"
)

// pooled makes the engine anew, one that reaches clusters and accounts.
func (e *env) pooled() {
	e.Helper()
	e.counter = &counter{}
	cfg := rest.CopyConfig(e.config)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return e.counter.over(next) })
	clients, err := kube.New(cfg)
	e.must(err)
	e.engine = New(Options{Clients: clients, Clusters: kube.NewPool(clients, nil)})
}

// grant gives an account of the namespace rights to Helm's records and ConfigMaps.
func (e *env) grant(account string) {
	e.Helper()
	all := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: account}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets", "configmaps"}, Verbs: all},
	}}
	_, err := e.set.RbacV1().Roles(e.ns).Create(e.Context(), role, metav1.CreateOptions{})
	e.must(err)
	_, err = e.set.RbacV1().RoleBindings(e.ns).Create(e.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: e.ns, Name: account}},
	}, metav1.CreateOptions{})
	e.must(err)
}

func TestAccount(t *testing.T) {
	e := newEnv(t)
	e.pooled()
	target := e.target("", func(s *deploy.HelmReleaseSpec) { s.ServiceAccountName = "deployer" })
	r := e.revision(plain("1.0.0", map[string]string{"m": configMapNamed("m")}))
	t.Run("one that is not there is said to be missing", func(t *testing.T) {
		_, err := e.run(t.Context(), target, r, false)
		if err == nil || !strings.Contains(err.Error(), "there is no service account deployer in namespace "+e.ns) {
			t.Errorf("error %v", err)
		}
	})
	_, err := e.set.CoreV1().ServiceAccounts(e.ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "deployer"}}, metav1.CreateOptions{})
	e.must(err)
	t.Run("one without rights is named, with what it may not do", func(t *testing.T) {
		_, err := e.run(t.Context(), target, r, false)
		if err == nil || !strings.Contains(err.Error(), `"system:serviceaccount:`+e.ns+`:deployer" cannot list resource "secrets"`) || strings.Contains(err.Error(), "there is no") {
			t.Errorf("error %v", err)
		}
	})
	e.grant("deployer")
	t.Run("with rights it does everything itself", func(t *testing.T) {
		for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) { // the authorizer learns of the role a moment later
			if _, err = e.run(t.Context(), target, r, false); err == nil || time.Now().After(deadline) {
				break
			}
		}
		e.must(err)
		wantEqual(t, "config maps", e.configMaps(e.ns), "m")
		e.bring(target, e.revision(plain("1.1.0", map[string]string{"k": configMapNamed("k")})))
		wantEqual(t, "config maps", e.configMaps(e.ns), "k")
	})
	t.Run("what it may not do in a chart fails the upgrade, by name", func(t *testing.T) {
		_, err := e.run(t.Context(), target, e.revision(plain("1.2.0", map[string]string{"s": service})), false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, `deployer" cannot`)
	})
	t.Run("it uninstalls, also from a record", func(t *testing.T) {
		e.pooled()
		e.must(e.engine.Delete(t.Context(), target, nil))
		wantEqual(t, "config maps", e.configMaps(e.ns), "")
	})
	t.Run("accounts of a cluster share its discovery", func(t *testing.T) {
		e.counter.take()
		other := e.target("", func(s *deploy.HelmReleaseSpec) { s.ServiceAccountName, s.ReleaseName = "deployer", "other" })
		other.Name.Name = "other"
		e.bring(other, r)
		e.bring(e.target("", func(s *deploy.HelmReleaseSpec) { s.ReleaseName = "third" }), e.revision(plain("1.0.0", map[string]string{"k": configMapNamed("k")})))
		asked := 0
		for _, q := range e.counter.take() {
			if q == "GET /apis" || strings.HasPrefix(q, "GET /apis?") {
				asked++
			}
		}
		if asked > 1 {
			t.Errorf("the API groups were listed %d times", asked)
		}
	})
}

func TestMove(t *testing.T) {
	e := newEnv(t)
	e.pooled()
	kubeconfig, err := os.ReadFile(testenv.Cluster(t).Kubeconfig)
	e.must(err)
	file := func(name string, content []byte) *deploy.KubeConfig {
		path := filepath.Join(t.TempDir(), name)
		e.must(os.WriteFile(path, content, 0o600))
		return &deploy.KubeConfig{File: path}
	}
	in := func(k *deploy.KubeConfig) deploy.Target {
		return e.target("", func(s *deploy.HelmReleaseSpec) { s.KubeConfig = k })
	}
	here, byAnotherName := in(file("a", kubeconfig)), in(file("b", kubeconfig))
	r := e.revision(plain("1.0.0", map[string]string{"m": configMapNamed("m")}))
	e.bring(here, r)
	t.Run("a cluster by another name is the same, and the release stays", func(t *testing.T) {
		stayed, err := e.engine.Move(t.Context(), here, byAnotherName)
		e.must(err)
		wantEqual(t, "it stayed", stayed, true)
		if got := e.bring(byAnotherName, r); len(got) > 0 {
			t.Errorf("did %v", got)
		}
	})
	t.Run("another release in it does not", func(t *testing.T) {
		to := byAnotherName
		spec := *to.HelmRelease
		spec.ReleaseName = "other"
		to.HelmRelease = &spec
		stayed, err := e.engine.Move(t.Context(), here, to)
		e.must(err)
		wantEqual(t, "it stayed", stayed, false)
	})
	t.Run("a cluster that cannot be reached takes nothing away", func(t *testing.T) {
		nowhere := in(&deploy.KubeConfig{File: filepath.Join(t.TempDir(), "mistyped")})
		_, err := e.engine.Move(t.Context(), here, nowhere)
		wantFailure(t, err, deploy.ReasonUninstallFailed, "the new cluster cannot be used yet: ")
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	})
	t.Run("one that is gone is for the uninstallation to tell", func(t *testing.T) {
		gone := in(&deploy.KubeConfig{File: filepath.Join(t.TempDir(), "gone")})
		stayed, err := e.engine.Move(t.Context(), gone, here)
		e.must(err)
		wantEqual(t, "it stayed", stayed, false)
	})
}

// rotating gives other clients at each call, as for a kubeconfig whose token is renewed.
type rotating struct{}

func (rotating) For(context.Context, deploy.Target) (*kube.Clients, error) {
	return &kube.Clients{}, nil
}

func TestPoolsOfRenewedKubeconfigs(t *testing.T) {
	e := New(Options{Clusters: rotating{}})
	for range 3 {
		for _, account := range []string{"", "a", "b"} {
			spec := &deploy.HelmReleaseSpec{ServiceAccountName: account, KubeConfig: &deploy.KubeConfig{File: "config"}}
			if _, err := e.at(t.Context(), deploy.Target{Name: deploy.Name{Namespace: "apps"}, HelmRelease: spec}); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantEqual(t, "pools", len(e.pools), 3)
}

func TestChartOfAnotherName(t *testing.T) {
	e := newEnv(t)
	target := e.target("")
	e.bring(target, e.revision(testenv.Chart("web", "1.0.0", map[string]string{"templates/a.yaml": configMapNamed("a"), "templates/both.yaml": configMapNamed("both"), "templates/kept.yaml": keptConfigMap, "templates/stays.yaml": strings.ReplaceAll(keptConfigMap, "kept,", "stays,")})))
	first := e.uid("both")
	shop := e.revision(testenv.Chart("shop", "1.0.0", map[string]string{
		"templates/b.yaml": configMapNamed("b"), "templates/both.yaml": configMapNamed("both"), "templates/kept.yaml": keptConfigMap,
	}))
	wantLines(t, e.diff(target, shop), "recreate Release.helm.sh/web chart.name chart.version (the release is of chart web, and the chart is shop now)",
		"create ConfigMap/b", "recreate ConfigMap/both (the release is replaced)", "prune ConfigMap/a", "keep ConfigMap/stays ! its annotation helm.sh/resource-policy says keep")
	e.bring(target, shop)
	wantEqual(t, "config maps", e.configMaps(e.ns), "b both kept stays")
	wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	if e.uid("both") == first {
		t.Error("it was upgraded, not installed anew")
	}
	wantEqual(t, "chart", e.last(e.ns, "web").Chart.Metadata.Name, "shop")
}
