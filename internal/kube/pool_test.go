package kube_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/testenv"
)

// target is a Kustomization of a namespace, as changed.
func target(namespace string, change func(*deploy.KustomizationSpec)) deploy.Target {
	k := &deploy.KustomizationSpec{}
	change(k)
	return deploy.Target{Name: deploy.Name{Kind: deploy.KindKustomization, Namespace: namespace, Name: "a"}, Kustomization: k}
}

func as(account string) func(*deploy.KustomizationSpec) {
	return func(k *deploy.KustomizationSpec) { k.ServiceAccountName = account }
}

func inSecret(name, key string) func(*deploy.KustomizationSpec) {
	return func(k *deploy.KustomizationSpec) {
		k.KubeConfig = &deploy.KubeConfig{SecretRef: &deploy.SecretKeyRef{Name: name, Key: key}}
	}
}

func inFile(path, context string) func(*deploy.KustomizationSpec) {
	return func(k *deploy.KustomizationSpec) { k.KubeConfig = &deploy.KubeConfig{File: path, Context: context} }
}

func both(a, b func(*deploy.KustomizationSpec)) func(*deploy.KustomizationSpec) {
	return func(k *deploy.KustomizationSpec) { a(k); b(k) }
}

// pool is one whose Secrets are those of the test cluster, read by the agent's own clients.
func pool(t *testing.T) (*kube.Pool, *kube.Clients) {
	t.Helper()
	own, err := kube.New(testenv.Cluster(t).Config)
	if err != nil {
		t.Fatal(err)
	}
	p := kube.NewPool(own, func(ctx context.Context, namespace, name string) (map[string][]byte, error) {
		s, err := own.Kubernetes.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return s.Data, nil
	})
	t.Cleanup(p.Close)
	return p, own
}

// kubeconfig of the test cluster, as changed.
func kubeconfig(t *testing.T, change func(*api.Config)) []byte {
	t.Helper()
	cfg, err := clientcmd.LoadFromFile(testenv.Cluster(t).Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := api.FlattenConfig(cfg); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(cfg)
	}
	b, err := clientcmd.Write(*cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// user and server are the entries that the current context names.
func user(c *api.Config) *api.AuthInfo  { return c.AuthInfos[c.Contexts[c.CurrentContext].AuthInfo] }
func server(c *api.Config) *api.Cluster { return c.Clusters[c.Contexts[c.CurrentContext].Cluster] }

// store creates or replaces a Secret.
func store(t *testing.T, own *kube.Clients, namespace, name string, data map[string][]byte) {
	t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
	secrets := own.Kubernetes.CoreV1().Secrets(namespace)
	_, err := secrets.Create(t.Context(), s, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = secrets.Update(t.Context(), s, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// list tries to read the ConfigMaps of a namespace.
func list(t *testing.T, c *kube.Clients, namespace string) error {
	t.Helper()
	_, err := c.Kubernetes.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
	return err
}

// may lets an account read the ConfigMaps of its namespace.
func may(t *testing.T, own *kube.Clients, namespace string, subject rbacv1.Subject) {
	t.Helper()
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list", "create"}}},
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"}, Subjects: []rbacv1.Subject{subject},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
	}
	if _, err := own.Kubernetes.RbacV1().Roles(namespace).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := own.Kubernetes.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func clients(t *testing.T, p *kube.Pool, tg deploy.Target) *kube.Clients {
	t.Helper()
	c, err := p.For(t.Context(), tg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPoolAccounts(t *testing.T) {
	p, own := pool(t)
	ns := testenv.Cluster(t).Namespace(t)
	other := testenv.Cluster(t).Namespace(t)

	t.Run("gives the agent's own clients to a target that names nothing", func(t *testing.T) {
		for _, tg := range []deploy.Target{target(ns, func(*deploy.KustomizationSpec) {}), {HelmRelease: &deploy.HelmReleaseSpec{}}} {
			if clients(t, p, tg) != own {
				t.Error("others")
			}
		}
	})
	t.Run("refuses an account without rights, also with clients that are bound to an operation", func(t *testing.T) {
		c := clients(t, p, target(ns, as("nobody")))
		if err := list(t, c, ns); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "system:serviceaccount:"+ns+":nobody") {
			t.Errorf("got %v", err)
		}
		b, err := c.Bound(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := list(t, b, ns); !apierrors.IsForbidden(err) {
			t.Errorf("bound: got %v", err)
		}
		if _, err := c.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(ns).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("dynamic: got %v", err)
		}
		m, err := c.Mapper.RESTMapping(schema.GroupKind{Kind: "ConfigMap"})
		if err != nil {
			t.Fatal(err)
		}
		rc, err := c.RESTClientFor(m)
		if err != nil {
			t.Fatal(err)
		}
		req := rc.Get()
		if err := req.Namespace(ns).Resource("configmaps").Do(t.Context()).Error(); !apierrors.IsForbidden(err) {
			t.Errorf("unstructured: got %v", err)
		}
	})
	t.Run("lets an account do what it may, where it may", func(t *testing.T) {
		may(t, own, ns, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: "reader", Namespace: ns})
		c := clients(t, p, target(ns, as("reader")))
		testenv.Await(t, 10*time.Second, "the right is known", func() error { return list(t, c, ns) })
		if err := list(t, c, other); !apierrors.IsForbidden(err) {
			t.Errorf("elsewhere: got %v", err)
		}
	})
	t.Run("gives an account the groups that the server knows it to be in", func(t *testing.T) {
		may(t, own, other, rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: "system:serviceaccounts:" + ns})
		c := clients(t, p, target(ns, as("anybody")))
		testenv.Await(t, 10*time.Second, "the right is known", func() error { return list(t, c, other) })
	})
	t.Run("keeps accounts of the same name in different namespaces apart", func(t *testing.T) {
		if err := list(t, clients(t, p, target(other, as("reader"))), ns); !apierrors.IsForbidden(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("shares transport, discovery and mapper among accounts, and makes each once", func(t *testing.T) {
		a, b := clients(t, p, target(ns, as("a"))), clients(t, p, target(ns, as("b")))
		if a == b || a.Mapper != own.Mapper || b.Discovery != own.Discovery {
			t.Error("not shared")
		}
		if a != clients(t, p, target(ns, as("a"))) {
			t.Error("made again")
		}
	})
}

func TestPoolClusters(t *testing.T) {
	p, own := pool(t)
	ns := testenv.Cluster(t).Namespace(t)
	secret := func(t *testing.T, name string, change func(*api.Config)) {
		t.Helper()
		store(t, own, ns, name, map[string][]byte{"value": kubeconfig(t, change)})
	}

	t.Run("reads a kubeconfig from the keys of a Secret", func(t *testing.T) {
		good, bad := kubeconfig(t, nil), []byte("none")
		for name, c := range map[string]struct {
			key  string
			data map[string][]byte
		}{
			"value":      {"", map[string][]byte{"value": good, "value.yaml": bad}},
			"value.yaml": {"", map[string][]byte{"value.yaml": good}},
			"another":    {"another", map[string][]byte{"another": good, "value": bad}},
		} {
			store(t, own, ns, "keys", c.data)
			got, err := p.For(t.Context(), target(ns, inSecret("keys", c.key)))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if err := list(t, got, ns); err != nil || got == own {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("says what is wrong with a Secret", func(t *testing.T) {
		store(t, own, ns, "other", map[string][]byte{"config": []byte("x")})
		for _, c := range []struct{ name, key, want string }{
			{"missing", "", "kubeConfig: secret " + ns + "/missing does not exist"},
			{"other", "", "has nothing under value or value.yaml"},
			{"other", "key", `has nothing under "key"`},
		} {
			if got, err := p.For(t.Context(), target(ns, inSecret(c.name, c.key))); err == nil || got != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		}
	})
	t.Run("impersonates in another cluster", func(t *testing.T) {
		secret(t, "remote", nil)
		c := clients(t, p, target(ns, both(inSecret("remote", ""), as("nobody"))))
		if err := list(t, c, ns); !apierrors.IsForbidden(err) {
			t.Errorf("got %v", err)
		}
		plain := clients(t, p, target(ns, inSecret("remote", "")))
		if err := list(t, plain, ns); err != nil {
			t.Error(err)
		}
		if c.Mapper != plain.Mapper || c.Mapper == own.Mapper {
			t.Error("the mapper is not that of the cluster")
		}
	})
	t.Run("goes before an act-as of the kubeconfig, which cannot lend its rights", func(t *testing.T) {
		secret(t, "acting", func(c *api.Config) {
			user(c).Impersonate, user(c).ImpersonateGroups = "admin", []string{"system:masters"}
		})
		if err := list(t, clients(t, p, target(ns, both(inSecret("acting", ""), as("nobody")))), ns); !apierrors.IsForbidden(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("builds clients once for parallel callers, and anew when the Secret changes", func(t *testing.T) {
		secret(t, "rotated", nil)
		tg := target(ns, inSecret("rotated", ""))
		got := make([]*kube.Clients, 16)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				var err error
				if got[i], err = p.For(t.Context(), tg); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, c := range got {
			if c != got[0] {
				t.Fatal("built more than once")
			}
		}
		secret(t, "rotated", func(c *api.Config) { c.Extensions = nil; server(c).DisableCompression = true })
		after := clients(t, p, tg)
		if after == got[0] {
			t.Error("not built anew")
		}
		for _, c := range []*kube.Clients{after, got[0]} { // who began with the old ones goes on
			if err := list(t, c, ns); err != nil {
				t.Error(err)
			}
		}
		store(t, own, ns, "rotated", map[string][]byte{"value": []byte("{")})
		if _, err := p.For(t.Context(), tg); err == nil {
			t.Error("an old kubeconfig is used in place of a broken one")
		}
	})
	t.Run("reads a file, its contexts and the files beside it", func(t *testing.T) {
		dir := t.TempDir()
		text := kubeconfig(t, func(c *api.Config) {
			ca := server(c)
			if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca.CertificateAuthorityData, 0o600); err != nil {
				t.Fatal(err)
			}
			ca.CertificateAuthority, ca.CertificateAuthorityData = "ca.pem", nil
			c.Contexts["named"], c.CurrentContext = c.Contexts[c.CurrentContext], ""
		})
		path := filepath.Join(dir, "kubeconfig")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := p.For(t.Context(), target(ns, inFile(path, ""))); err == nil || !strings.Contains(err.Error(), "no current-context: name one") {
			t.Errorf("got %v", err)
		}
		if _, err := p.For(t.Context(), target(ns, inFile(path, "none"))); err == nil || !strings.Contains(err.Error(), `no context "none"`) {
			t.Errorf("got %v", err)
		}
		c := clients(t, p, target(ns, inFile(path, "named")))
		if err := list(t, c, ns); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		if c == clients(t, p, target(ns, inFile(path, "named"))) {
			t.Error("a changed file is not read again")
		}
		if _, err := p.For(t.Context(), target(ns, inFile(filepath.Join(dir, "none"), ""))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("names the cluster that cannot be reached, and no credential", func(t *testing.T) {
		secret(t, "away", func(c *api.Config) {
			server(c).Server = "https://127.0.0.1:1"
			*user(c) = api.AuthInfo{Token: "canary-4711"}
		})
		err := list(t, clients(t, p, target(ns, both(inSecret("away", ""), as("x")))), ns)
		if err == nil || !strings.Contains(err.Error(), "cluster of kubeconfig in secret "+ns+"/away: dial tcp 127.0.0.1:1") || strings.Contains(err.Error(), "canary") {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.For(ctx, target(ns, inSecret("away", ""))); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestPoolRefuses(t *testing.T) {
	const canary = "canary-4711"
	var text []byte
	p := kube.NewPool(nil, func(context.Context, string, string) (map[string][]byte, error) {
		return map[string][]byte{"value": text}, nil
	})
	for _, c := range []struct {
		name   string
		change func(*api.Config)
		want   string
	}{
		{"a program", func(c *api.Config) {
			user(c).Exec = &api.ExecConfig{Command: "/bin/sh", APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: api.NeverExecInteractiveMode}
		}, "its exec runs a program"},
		{"a plugin", func(c *api.Config) { user(c).AuthProvider = &api.AuthProviderConfig{Name: "oidc"} }, "its auth-provider runs a plugin"},
		{"a token's file", func(c *api.Config) { user(c).TokenFile = "/etc/hostname" }, "its tokenFile reads a file on the agent's machine, which a kubeconfig from a Secret may not: put token in its place"},
		{"a certificate's file", func(c *api.Config) { user(c).ClientCertificate = "/etc/hostname" }, "put client-certificate-data"},
		{"a key's file", func(c *api.Config) { user(c).ClientKey = "/etc/hostname" }, "put client-key-data"},
		{"an authority's file", func(c *api.Config) { server(c).CertificateAuthority = "/etc/hostname" }, "put certificate-authority-data"},
		{"a password in the address", func(c *api.Config) { server(c).Server = "https://u:" + canary + "@127.0.0.1" }, "its server holds a user name"},
		{"no address", func(c *api.Config) { server(c).Server = "" }, "no server found"},
		{"half an address", func(c *api.Config) { server(c).Server = canary + "://" }, "its server is not an address"},
		{"a broken proxy", func(c *api.Config) { server(c).ProxyURL = "http://u:" + canary + "@[" }, "its proxy-url is not an address"},
		{"a proxy of another kind", func(c *api.Config) { server(c).ProxyURL = "ftp://u:" + canary + "@127.0.0.1" }, "its proxy-url is not an address"},
		{"a broken certificate", func(c *api.Config) { user(c).ClientCertificateData = []byte(canary) }, "kubeconfig in secret ns/s: "},
		{"no such user", func(c *api.Config) { delete(c.AuthInfos, c.Contexts[c.CurrentContext].AuthInfo) }, "which it does not have"},
		{"no such cluster", func(c *api.Config) { delete(c.Clusters, c.Contexts[c.CurrentContext].Cluster) }, "which it does not have"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text = kubeconfig(t, c.change)
			got, err := p.For(t.Context(), target("ns", inSecret("s", "")))
			if err == nil || got != nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), canary) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
	t.Run("what is no kubeconfig, without quoting it", func(t *testing.T) {
		for _, broken := range []string{canary, "users: " + canary, "users: [{user: {token: [" + canary + "]}}]", "{" + canary} {
			text = []byte(broken)
			if _, err := p.For(t.Context(), target("ns", inSecret("s", ""))); err == nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("%q: got %v", broken, err)
			}
		}
	})
	t.Run("but not what another context names", func(t *testing.T) {
		text = kubeconfig(t, func(c *api.Config) { c.AuthInfos["other"] = &api.AuthInfo{Exec: &api.ExecConfig{Command: "x"}} })
		if _, err := p.For(t.Context(), target("ns", inSecret("s", ""))); err != nil {
			t.Error(err)
		}
	})
}

func TestPoolConnections(t *testing.T) {
	t.Run("are shared by targets and accounts, and closed with the pool", func(t *testing.T) {
		ns := testenv.Cluster(t).Namespace(t)
		quiet := goleak.IgnoreCurrent()
		var dials atomic.Int64
		front, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		to := strings.TrimPrefix(testenv.Cluster(t).Config.Host, "https://")
		var pipes sync.WaitGroup
		pipes.Go(func() { forward(front, to, &dials, &pipes) })
		text := kubeconfig(t, func(c *api.Config) {
			server(c).Server = "https://" + front.Addr().String()
			server(c).TLSServerName = "localhost"
		})
		p := kube.NewPool(nil, func(context.Context, string, string) (map[string][]byte, error) {
			return map[string][]byte{"value": text}, nil
		})
		for _, name := range []string{"", "a", "b", "c"} {
			c := clients(t, p, target(ns, both(inSecret("s", ""), as(name))))
			if err := list(t, c, ns); err != nil && !apierrors.IsForbidden(err) {
				t.Fatal(err)
			}
		}
		if n := dials.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		p.Close()
		if err := front.Close(); err != nil {
			t.Fatal(err)
		}
		pipes.Wait() // only ends when the connections do
		goleak.VerifyNone(t, quiet)
	})
}

// forward carries connections to an address until both ends are done with them.
func forward(front net.Listener, to string, dials *atomic.Int64, pipes *sync.WaitGroup) {
	for {
		in, err := front.Accept()
		if err != nil {
			return
		}
		dials.Add(1)
		out, err := net.Dial("tcp", to)
		if err != nil {
			in.Close()
			continue
		}
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			pipes.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				way[0].Close()
				way[1].Close()
			})
		}
	}
}
