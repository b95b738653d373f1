package applier_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"

	"github.com/towline/towline/internal/applier"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is an engine with a namespace of its own on the test cluster. Each request of the engine passes meddle, where a test sets it.
type world struct {
	t       testing.TB
	ns      string
	kube    *kube.Clients // not counted
	clients *kube.Clients // the engine's
	engine  *applier.Engine
	target  deploy.Target
	manifests
	account string // the account that the engine runs as, where it is not the cluster's admin

	mu       sync.Mutex // guards the two below
	requests []string   // method and path
	meddle   func(*http.Request, http.RoundTripper) (*http.Response, error)
}

// manifests is a Builder whose artifact is the text of the moment.
type manifests struct{ text string }

func (m *manifests) Build(context.Context, deploy.Target, string) ([]*unstructured.Unstructured, error) {
	return parse(m.text)
}

func parse(text string) ([]*unstructured.Unstructured, error) {
	var us []*unstructured.Unstructured
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			return nil, fmt.Errorf("%w in %s", err, doc)
		}
		us = append(us, u)
	}
	return us, nil
}

func newWorld(t testing.TB) *world {
	t.Helper()
	c := testenv.Cluster(t)
	w := &world{t: t, ns: c.Namespace(t)}
	w.kube = must(kube.New(c.Config))(t)
	w.target = deploy.Target{
		Name:    deploy.Name{Kind: deploy.KindKustomization, Namespace: "apps", Name: "web"},
		Timeout: 30 * time.Second, Hash: "spec-1",
		Kustomization: &deploy.KustomizationSpec{Prune: true},
	}
	w.restart()
	return w
}

// step is t.Run for a test whose steps share a world.
func (w *world) step(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	outer := w.t
	defer func() { w.t = outer }()
	t.Run(name, func(t *testing.T) {
		w.t = t
		f(t)
	})
}

// restart is what a new process would be: an engine that remembers nothing.
func (w *world) restart() {
	w.t.Helper()
	cfg := rest.CopyConfig(testenv.Cluster(w.t).Config)
	cfg.Impersonate.UserName = w.account
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			w.mu.Lock()
			w.requests = append(w.requests, r.Method+" "+r.URL.Path)
			meddle := w.meddle
			w.mu.Unlock()
			if meddle != nil {
				return meddle(r, next)
			}
			return next.RoundTrip(r)
		})
	})
	w.clients = must(kube.New(cfg))(w.t)
	w.engine = applier.New(applier.Options{Clients: w.clients, Builder: &w.manifests, Namespace: w.ns})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// counted returns the requests that f makes, discovery left out.
func (w *world) counted(f func()) []string {
	w.mu.Lock()
	w.requests = nil
	w.mu.Unlock()
	f()
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, r := range w.requests {
		if p := r[strings.IndexByte(r, ' ')+1:]; p != "/api" && p != "/apis" {
			out = append(out, r)
		}
	}
	return out
}

func (w *world) interfere(f func(*http.Request, http.RoundTripper) (*http.Response, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.meddle = f
}

func (w *world) work(full bool) deploy.Work {
	return deploy.Work{Target: w.target, Full: full, Revision: deploy.Revision{Digest: "sha256:" + deploy.HashOf(w.text)}}
}

// run plans and applies; the changes are written as "action Object: error".
func (w *world) run(ctx context.Context, full bool) ([]string, error) {
	w.t.Helper()
	work := w.work(full)
	p, err := w.engine.Plan(ctx, work)
	if err != nil {
		return nil, err
	}
	if p.Empty() {
		return nil, nil
	}
	changes, err := w.engine.Apply(ctx, work, p, nil)
	return w.lines(changes), err
}

func (w *world) lines(changes []deploy.Change) []string {
	var out []string
	for _, c := range changes {
		s := fmt.Sprintf("%s %s", c.Action, c.Object)
		if c.Err != nil {
			s += ": " + c.Err.Error()
		}
		out = append(out, strings.ReplaceAll(s, w.ns, "NS"))
	}
	return out
}

// converge runs without errors.
func (w *world) converge(full bool) []string {
	w.t.Helper()
	changes, err := w.run(w.t.Context(), full)
	if err != nil {
		w.t.Fatalf("run: %v\n%s", err, strings.Join(changes, "\n"))
	}
	return changes
}

// configMap is a manifest with one value.
func (w *world) configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s}\ndata: {v: %q}\n---\n", name, w.ns, value)
}

func (w *world) deployment(name string, podAnnotations string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}, annotations: {%[3]s}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: example.org/x:1}]}
---
`, name, w.ns, podAnnotations)
}

// value reads a ConfigMap; "" where there is none.
func (w *world) value(name string) string {
	w.t.Helper()
	cm, err := w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).Get(w.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return ""
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return cm.Data["v"]
}

// inventory is the text of all shards.
func (w *world) inventory() string {
	w.t.Helper()
	l := must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).List(w.t.Context(), metav1.ListOptions{LabelSelector: deploy.LabelState + "=" + deploy.StateInventory}))(w.t)
	s := ""
	for _, cm := range l.Items {
		s += cm.Data["objects"]
	}
	return s
}

func wantEqual(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func wantFailure(t testing.TB, err error, reason string, degraded bool, text ...string) {
	t.Helper()
	var f *deploy.Failure
	if !errors.As(err, &f) {
		t.Fatalf("want a *deploy.Failure, got %T: %v", err, err)
	}
	if f.Reason != reason || f.Degraded != degraded {
		t.Fatalf("want reason %s, degraded %v; got %s, %v: %v", reason, degraded, f.Reason, f.Degraded, err)
	}
	for _, s := range text {
		if !strings.Contains(err.Error(), s) {
			t.Fatalf("error does not say %q: %v", s, err)
		}
	}
}

func respond(r *http.Request, code int, body string) *http.Response {
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}
