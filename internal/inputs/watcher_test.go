package inputs

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience is how long a test waits for news.
const patience = 30 * time.Second

func release(namespace, name string, from ...deploy.ValuesFrom) deploy.Target {
	return deploy.Target{
		Name: deploy.Name{Kind: deploy.KindHelmRelease, Namespace: namespace, Name: name}, HelmRelease: &deploy.HelmReleaseSpec{ValuesFrom: from},
	}
}

func TestRefs(t *testing.T) {
	t.Parallel()
	secret := &deploy.LocalRef{Name: "keys"}
	got := refsOf(deploy.Target{
		Name: deploy.Name{Kind: deploy.KindKustomization, Namespace: "ns", Name: "a"},
		Kustomization: &deploy.KustomizationSpec{
			KubeConfig: &deploy.KubeConfig{SecretRef: &deploy.SecretKeyRef{Name: "cluster"}},
			PostBuild:  &deploy.PostBuild{SubstituteFrom: []deploy.SubstituteFrom{{Kind: "ConfigMap", Name: "vars"}, {File: "/v.env"}, {Kind: "ConfigMap", Name: "vars"}}},
			Decryption: &deploy.Decryption{SecretRef: secret, Keys: []string{"/k.agekey"}},
		},
	})
	want := []ref{
		{kind: "Secret", namespace: "ns", name: "cluster"}, {kind: "ConfigMap", namespace: "ns", name: "vars"}, {file: "/v.env"},
		{kind: "Secret", namespace: "ns", name: "keys"}, {file: "/k.agekey"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(ref{})); d != "" {
		t.Errorf("of a kustomization (-want +got):\n%s", d)
	}
	r := release("ns", "b", deploy.ValuesFrom{Kind: "Secret", Name: "values"}, deploy.ValuesFrom{File: "/values.yaml"})
	r.HelmRelease.KubeConfig = &deploy.KubeConfig{File: "/kubeconfig"}
	want = []ref{{file: "/kubeconfig"}, {kind: "Secret", namespace: "ns", name: "values"}, {file: "/values.yaml"}}
	if d := cmp.Diff(want, refsOf(r), cmp.AllowUnexported(ref{})); d != "" {
		t.Errorf("of a release (-want +got):\n%s", d)
	}
	if got := refsOf(deploy.Target{Kustomization: &deploy.KustomizationSpec{}}); got != nil {
		t.Errorf("of a plain target: %v", got)
	}
}

// world is a watcher over a namespace of its own.
type world struct {
	*testing.T
	ns       string
	admin    *kubernetes.Clientset
	watcher  *Watcher
	requests *requests
	logs     *observer.ObservedLogs
	told     chan deploy.Name
}

// requests counts those that the watcher makes.
type requests struct {
	mu   sync.Mutex
	seen []string
	away bool // the server is not reached
}

func (r *requests) over(next http.RoundTripper) http.RoundTripper {
	return tripper(func(req *http.Request) (*http.Response, error) {
		r.mu.Lock()
		r.seen = append(r.seen, req.URL.RequestURI())
		away := r.away
		r.mu.Unlock()
		if away {
			return nil, syscall.ECONNREFUSED
		}
		return next.RoundTrip(req)
	})
}

func (r *requests) reach(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = !yes
}

func (r *requests) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.seen
	r.seen = nil
	return out
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newWorld starts a watcher, as somebody without rights where impersonate names one.
func newWorld(t *testing.T, impersonate string) *world {
	t.Helper()
	cp := testenv.Cluster(t)
	w := &world{T: t, ns: cp.Namespace(t), requests: &requests{}, told: make(chan deploy.Name, 100)}
	w.admin = kubernetes.NewForConfigOrDie(cp.Config)
	config := rest.CopyConfig(cp.Config)
	config.QPS = -1
	config.Impersonate.UserName = impersonate
	config.Wrap(w.requests.over)
	core, logs := observer.New(zapcore.WarnLevel)
	w.logs = logs
	w.watcher = New(metadata.NewForConfigOrDie(config), func(n deploy.Name) { w.told <- n }, zap.New(core))
	w.watcher.look, w.watcher.pause = 20*time.Millisecond, 100*time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	before := goleak.IgnoreCurrent()
	go func() { ended <- w.watcher.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
			goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*ClientConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*http2ClientConn).readLoop"))
	})
	return w
}

// watching waits until n watches are open.
func (w *world) watching(n int) {
	w.Helper()
	deadline := time.Now().Add(patience)
	open := 0
	for open < n {
		for _, r := range w.requests.take() {
			if strings.Contains(r, "watch=true") {
				open++
			}
		}
		if time.Now().After(deadline) {
			w.Fatalf("%d of %d watches are open", open, n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *world) wantTold(names ...string) {
	w.Helper()
	want := map[string]bool{}
	for _, n := range names {
		want[n] = true
	}
	for len(want) > 0 {
		select {
		case n := <-w.told:
			if !want[n.Name] {
				w.Fatalf("%s was told, want %v", n, want)
			}
			delete(want, n.Name)
		case <-time.After(patience):
			w.Fatalf("not told: %v", want)
		}
	}
}

func (w *world) put(name, value string) {
	w.Helper()
	cms := w.admin.CoreV1().ConfigMaps(w.ns)
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"v": value}}
	_, err := cms.Update(w.Context(), cm, metav1.UpdateOptions{})
	if err != nil {
		_, err = cms.Create(w.Context(), cm, metav1.CreateOptions{})
	}
	if err != nil {
		w.Fatal(err)
	}
}

func TestObjects(t *testing.T) {
	w := newWorld(t, "")
	cm := func(name string) deploy.ValuesFrom { return deploy.ValuesFrom{Kind: "ConfigMap", Name: name} }
	w.put("shared", "1")
	w.watcher.Set([]deploy.Target{release(w.ns, "a", cm("shared"), cm("later")), release(w.ns, "b", cm("shared")), release(w.ns, "c")})
	w.watching(2)

	w.put("shared", "2")
	w.wantTold("a", "b")
	w.put("later", "1") // it comes to be
	w.wantTold("a")
	if err := w.admin.CoreV1().ConfigMaps(w.ns).Delete(t.Context(), "shared", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.wantTold("a", "b")
	w.put("shared", "3")
	w.wantTold("a", "b")

	w.watcher.Set([]deploy.Target{release(w.ns, "a", cm("later"))})
	w.put("shared", "4") // nobody names it any more
	w.put("later", "2")
	w.wantTold("a")
	if got := w.requests.take(); len(got) > 0 {
		t.Errorf("requests beside the watches: %v", got)
	}
}

func TestSuspendedTargetsHaveNoInputs(t *testing.T) {
	w := newWorld(t, "")
	r := release(w.ns, "a", deploy.ValuesFrom{Kind: "Secret", Name: "s"})
	r.Suspend = true
	w.watcher.Set([]deploy.Target{r, release(w.ns, "b", deploy.ValuesFrom{Kind: "ConfigMap", Name: "x"})})
	w.watching(1)
	for _, got := range w.requests.take() {
		if strings.Contains(got, "secrets") {
			t.Errorf("request for a suspended target: %s", got)
		}
	}
}

func TestRightToOneObjectIsEnough(t *testing.T) {
	w := newWorld(t, "reader")
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"mine"}, Verbs: []string{"list", "watch"}},
	}}
	if _, err := w.admin.RbacV1().Roles(w.ns).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bind := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "one"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "one"},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "reader"}},
	}
	if _, err := w.admin.RbacV1().RoleBindings(w.ns).Create(t.Context(), bind, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.put("mine", "1")
	w.watcher.Set([]deploy.Target{
		release(w.ns, "a", deploy.ValuesFrom{Kind: "ConfigMap", Name: "mine"}), release(w.ns, "b", deploy.ValuesFrom{Kind: "ConfigMap", Name: "theirs"}),
	})
	deadline := time.Now().Add(patience)
	for w.logs.Len() == 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	w.put("theirs", "1")
	w.put("mine", "2")
	w.wantTold("a")
	said := w.logs.All()
	if len(said) != 1 || said[0].ContextMap()["input"] != "ConfigMap/"+w.ns+"/theirs" {
		t.Errorf("warnings: %v, want one about theirs", said)
	}
	role.Rules[0].ResourceNames = append(role.Rules[0].ResourceNames, "theirs")
	if _, err := w.admin.RbacV1().Roles(w.ns).Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.wantTold("b") // what it was when the target was made of it, nobody saw
	w.put("theirs", "2")
	w.wantTold("b")
	if n := w.logs.Len(); n != 1 {
		t.Errorf("%d warnings, want the one", n)
	}
}

func TestServerAway(t *testing.T) {
	w := newWorld(t, "")
	w.requests.reach(false)
	w.put("x", "1")
	w.watcher.Set([]deploy.Target{release(w.ns, "a", deploy.ValuesFrom{Kind: "ConfigMap", Name: "x"})})
	for since := time.Now(); time.Since(since) <= prompt || len(w.requests.take()) == 0; {
		time.Sleep(10 * time.Millisecond)
	}
	w.requests.reach(true)
	w.wantTold("a") // the target may have been made of what was there before the first look
	w.watching(1)
	w.put("x", "2")
	w.wantTold("a")
}

func TestNewsThatGoesOnIsToldMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		w := New(nil, func(deploy.Name) { told++ }, zap.NewNop())
		file := filepath.Join(t.TempDir(), "values.yaml")
		w.Set([]deploy.Target{release("ns", "a", deploy.ValuesFrom{File: file})})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		for range 20 {
			time.Sleep(settle / 3) // the bubble's clock
			w.note(ref{file: file})
		}
		synctest.Wait()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if told < 4 {
			t.Errorf("told %d times in %s", told, 20*settle/3)
		}
	})
}

func TestFiles(t *testing.T) {
	w := newWorld(t, "")
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to string) {
		t.Helper()
		next := filepath.Join(dir, "next")
		if err := os.Symlink(to, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "values.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	write("one", "a: 1")
	write("two", "a: 2")
	link("one")
	values := filepath.Join(dir, "values.yaml")
	before := imprintOf(values, imprint{})
	w.watcher.Set([]deploy.Target{release(w.ns, "a", deploy.ValuesFrom{File: values})})
	to := []string{"two", "one"}
	for i := 0; len(w.told) == 0; i++ { // the first look may come after the first change
		if i == 10 {
			t.Fatal("a changed link is not told")
		}
		link(to[i%2])
		for end := time.Now().Add(4 * settle); time.Now().Before(end) && len(w.told) == 0; {
			time.Sleep(10 * time.Millisecond)
		}
	}
	w.wantTold("a")
	link("two")
	for end := time.Now().Add(2 * settle); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for len(w.told) > 0 {
			w.wantTold("a")
		}
	}
	if now := imprintOf(values, before); now.content == before.content {
		t.Error("the imprint did not change")
	}
	write("two", "a: 3")
	w.wantTold("a")
	if err := os.Remove(values); err != nil {
		t.Fatal(err)
	}
	w.wantTold("a")
	link("one")
	w.wantTold("a")
}

func TestImprint(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "values.yaml")
	write := func(text string, at time.Time) imprint {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		return imprintOf(path, imprint{})
	}
	t.Run("tells a file that was changed again within the step of the file system's clock", func(t *testing.T) {
		at := time.Now()
		before := write("a: 1", at)
		write("a: 2", at)
		if now := imprintOf(path, before); now.content == before.content {
			t.Error("the change is not seen")
		}
	})
	t.Run("does not read a file again that was left alone", func(t *testing.T) {
		at := time.Now().Add(-time.Minute)
		before := write("a: 1", at)
		write("b: 2", at) // would be seen by reading only
		if now := imprintOf(path, before); now.content != before.content {
			t.Error("it was read")
		}
	})
	t.Run("does not wait for a pipe", func(t *testing.T) {
		pipe := filepath.Join(t.TempDir(), "pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		if now := imprintOf(pipe, imprint{}); now.info != nil {
			t.Errorf("imprint of a pipe: %+v", now)
		}
	})
}
