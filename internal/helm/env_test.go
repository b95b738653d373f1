package helm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// limit is how long a test waits for anything; operations take a second or two.
const limit = 90 * time.Second

// env is a test's own namespace, and an engine whose requests are counted.
type env struct {
	testing.TB
	ns      string
	config  *rest.Config // not counted: the test's own hand
	set     *kubernetes.Clientset
	counter *counter
	engine  *Engine
}

func newEnv(t testing.TB) *env {
	t.Helper()
	cp := testenv.Cluster(t)
	e := &env{TB: t, ns: cp.Namespace(t), config: rest.CopyConfig(cp.Config)}
	e.config.QPS = -1
	e.set = kubernetes.NewForConfigOrDie(e.config)
	e.restart()
	return e
}

// restart makes a new engine that knows nothing, as after a start of the process.
func (e *env) restart() {
	e.Helper()
	e.counter = &counter{}
	cfg := rest.CopyConfig(e.config)
	cfg.UserAgent = "towline-test"
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return e.counter.over(next) })
	clients, err := kube.New(cfg)
	e.must(err)
	e.engine = New(Options{Clients: clients})
}

func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// counter counts requests, and does something at chosen ones.
type counter struct {
	mu   sync.Mutex // guards all
	seen []string
	at   func(method, path string) error
	// instead answers in the server's place, unless it returns neither an answer nor an error.
	instead func(*http.Request) (*http.Response, error)
}

func (c *counter) over(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		c.mu.Lock()
		c.seen = append(c.seen, r.Method+" "+r.URL.RequestURI())
		at, instead := c.at, c.instead
		c.mu.Unlock()
		if instead != nil {
			if resp, err := instead(r); resp != nil || err != nil {
				return resp, err
			}
		}
		if at != nil {
			if err := at(r.Method, r.URL.Path); err != nil {
				return nil, err
			}
		}
		return next.RoundTrip(r)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// take returns the requests since the last take.
func (c *counter) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.seen
	c.seen = nil
	return out
}

func (c *counter) on(at func(method, path string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

func writes(requests []string) []string {
	var out []string
	for _, r := range requests {
		if !strings.HasPrefix(r, "GET ") {
			out = append(out, r)
		}
	}
	return out
}

// deployment is a template with replicaCount and pod annotations of the values, and one object that a value renames.
const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicaCount }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
      annotations: {{ toJson .Values.podAnnotations }}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: web, image: "example.org/web:1"}]
`

const service = `apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {selector: {app: {{ .Release.Name }}}, ports: [{port: 80}]}
`

const configMap = `apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
data:
  chart: {{ first (splitList "+" .Chart.Version) | quote }}
  big: {{ .Values.big | quote }}
  dotted: {{ index .Values "node.kubernetes.io/role" | default "" | quote }}
`

const defaults = "replicaCount: 1\nbig: 1000000\npodAnnotations: {}\n"

func configMapNamed(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {a: b}\n"
}

// web is a chart of three objects; more files replace or join them.
func web(version string, more map[string]string) []byte {
	files := map[string]string{
		"values.yaml": defaults, "templates/deployment.yaml": deployment, "templates/service.yaml": service, "templates/configmap.yaml": configMap,
	}
	for name, content := range more {
		files[name] = content
		if content == "" {
			delete(files, name)
		}
	}
	return testenv.Chart("web", version, files)
}

// plain is a chart of the given templates alone: nothing to wait for.
func plain(version string, templates map[string]string) []byte {
	files := map[string]string{}
	for name, content := range templates {
		files["templates/"+name+".yaml"] = content
	}
	return testenv.Chart("plain", version, files)
}

// revision puts a chart archive where an artifact store would.
func (e *env) revision(archive []byte) deploy.Revision {
	e.Helper()
	dir := e.TempDir()
	e.must(os.WriteFile(filepath.Join(dir, "chart.tgz"), archive, 0o600))
	sum := sha256.Sum256(archive)
	return deploy.Revision{Digest: "sha256:" + hex.EncodeToString(sum[:]), Ref: "latest", Dir: dir, File: "chart.tgz"}
}

// target is a release named web in the test's namespace.
func (e *env) target(values string, edit ...func(*deploy.HelmReleaseSpec)) deploy.Target {
	spec := &deploy.HelmReleaseSpec{ReleaseName: "web", Values: deploy.Values(values)}
	for _, f := range edit {
		f(spec)
	}
	return deploy.Target{
		Name: deploy.Name{Kind: deploy.KindHelmRelease, Namespace: e.ns, Name: "web"}, Timeout: time.Minute,
		Hash: deploy.HashOf(spec), HelmRelease: spec,
	}
}

func (e *env) run(ctx context.Context, t deploy.Target, r deploy.Revision, full bool) ([]deploy.Change, error) {
	w := deploy.Work{Target: t, Revision: r, Full: full}
	p, err := e.engine.Plan(ctx, w)
	if err != nil {
		return nil, err
	}
	return e.engine.Apply(ctx, w, p, nil)
}

// bring runs plan and apply, which must succeed, and returns the actions.
func (e *env) bring(t deploy.Target, r deploy.Revision) []deploy.Action {
	e.Helper()
	changes, err := e.run(e.Context(), t, r, false)
	e.must(err)
	var out []deploy.Action
	for _, c := range changes {
		out = append(out, c.Action)
	}
	return out
}

// history is what Helm's own client sees, made the way its command line makes it: revision:status, oldest first.
func (e *env) history(storage, name string) string {
	e.Helper()
	list, err := action.NewHistory(e.cli(storage)).Run(name)
	if err != nil {
		return err.Error()
	}
	sortByRevision(list)
	var out []string
	for _, r := range list {
		out = append(out, fmt.Sprintf("%d:%s", r.Version, r.Info.Status))
	}
	return strings.Join(out, " ")
}

// cli is Helm as its command line configures it.
func (e *env) cli(namespace string) *action.Configuration {
	e.Helper()
	path := testenv.Cluster(e.TB).Kubeconfig
	flags := genericclioptions.NewConfigFlags(true)
	flags.KubeConfig, flags.Namespace = &path, &namespace
	cfg := &action.Configuration{}
	e.must(cfg.Init(flags, namespace, "secret", func(string, ...any) {}))
	return cfg
}

func (e *env) last(storage, name string) *release.Release {
	e.Helper()
	r, err := e.cli(storage).Releases.Last(name)
	e.must(err)
	return r
}

func (e *env) deployment(name string) *appsv1.Deployment {
	e.Helper()
	d, err := e.set.AppsV1().Deployments(e.ns).Get(e.Context(), name, metav1.GetOptions{})
	e.must(err)
	return d
}

// configMaps are the names of those in a namespace, without Kubernetes' own.
func (e *env) configMaps(ns string) string {
	e.Helper()
	list, err := e.set.CoreV1().ConfigMaps(ns).List(e.Context(), metav1.ListOptions{})
	e.must(err)
	var out []string
	for _, c := range list.Items {
		if c.Name != "kube-root-ca.crt" {
			out = append(out, c.Name)
		}
	}
	return strings.Join(out, " ")
}

func (e *env) namespaceExists(ns string) bool {
	e.Helper()
	got, err := e.set.CoreV1().Namespaces().Get(e.Context(), ns, metav1.GetOptions{})
	return err == nil && got.Status.Phase == corev1.NamespaceActive
}

func wantFailure(t *testing.T, err error, reason, message string) {
	t.Helper()
	var f *deploy.Failure
	if !errors.As(err, &f) {
		t.Fatalf("error %v (%T), want a *deploy.Failure", err, err)
	}
	if f.Reason != reason || !strings.Contains(f.Error(), message) {
		t.Fatalf("failure %s: %v; want %s with %q", f.Reason, f, reason, message)
	}
}

func wantEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
