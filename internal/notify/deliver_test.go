package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const canary = "canary-5ecret"

// receiver is a real HTTP server that notes what it gets and answers as told, the last answer for ever.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	bodies  []string
	headers []http.Header
	at      []time.Time
}

func newReceiver(t *testing.T, answers ...func(http.ResponseWriter)) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		n := len(r.bodies)
		r.bodies, r.headers, r.at = append(r.bodies, string(b)), append(r.headers, req.Header), append(r.at, time.Now())
		r.mu.Unlock()
		if len(answers) > 0 {
			answers[min(n, len(answers)-1)](w)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) await(t *testing.T, n int) {
	t.Helper()
	testenv.Await(t, 20*time.Second, fmt.Sprintf("%d requests", n), func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.bodies) < n {
			return fmt.Errorf("got %d", len(r.bodies))
		}
		return nil
	})
}

func answer(status int, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "body with "+canary)
	}
}

// run runs a notifier until the test ends, and checks that it leaves nothing behind and no secret in the log.
func run(t *testing.T, o Options, sinks ...deploy.Sink) *Notifier {
	t.Helper()
	n, _ := runLogged(t, o, sinks...)
	return n
}

// runLogged is run for those who want to see the log.
func runLogged(t *testing.T, o Options, sinks ...deploy.Sink) (*Notifier, *observer.ObservedLogs) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	core, logs := observer.New(zap.DebugLevel)
	o.Namespace, o.Instance, o.Log = "default", "edge-7", zap.New(core)
	n := New(o)
	n.Set(sinks)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > drainTime+5*time.Second {
			t.Errorf("the end took %s", took)
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*conn).serve")) // the receiver's own, which outlives the notifier
		for _, l := range logs.All() {
			if line := fmt.Sprint(l.Message, l.ContextMap()); strings.Contains(line, canary) {
				t.Errorf("a secret is in the log: %s", line)
			}
		}
	})
	return n, logs
}

// awaitLog waits for a failure in the log whose error has the text.
func awaitLog(t *testing.T, logs *observer.ObservedLogs, part string) {
	t.Helper()
	testenv.Await(t, 20*time.Second, "a log line with "+part, func() error {
		var said []string
		for _, l := range logs.All() {
			why := fmt.Sprint(l.ContextMap()["error"])
			if strings.Contains(why, part) {
				return nil
			}
			said = append(said, why)
		}
		return fmt.Errorf("said %q", said)
	})
}

func sink(kind, address string) deploy.Sink {
	return deploy.Sink{Name: kind, Namespace: "default", Hash: address, Spec: deploy.SinkSpec{
		Type: kind, Address: address, Summary: "the shop", EventMetadata: map[string]string{"site": "north"},
	}}
}

func tokens(context.Context, string, string) (map[string][]byte, error) {
	return map[string][]byte{"token": []byte(canary + "\n")}, nil
}

func refused() deploy.SourceState {
	return bad("a", deploy.SourceUnverified, digest("b")+" refused", 1)
}

func TestGeneric(t *testing.T) {
	t.Run("sends Flux's JSON, with a bearer token", func(t *testing.T) {
		r := newReceiver(t)
		s := sink(deploy.SinkGeneric, r.URL+"/"+canary)
		s.Spec.SecretRef, s.Spec.EventSeverity = &deploy.LocalRef{Name: "alerts"}, deploy.SeverityError
		n := run(t, Options{Secret: tokens}, s)
		n.SourceState(refused())
		n.SourceState(refused())
		r.await(t, 1)
		var got payload
		if err := json.Unmarshal([]byte(r.bodies[0]), &got); err != nil {
			t.Fatal(err)
		}
		want := object{APIVersion: "source.toolkit.fluxcd.io/v1", Kind: "OCIRepository", Namespace: "default", Name: "app"}
		if got.InvolvedObject != want || got.Reason != "VerificationFailed" || got.Severity != "error" || got.ReportingInstance != "edge-7" ||
			got.Metadata["site"] != "north" || got.Metadata["summary"] != "the shop" || got.Metadata["digest"] != digest("a") {
			t.Errorf("got %s", r.bodies[0])
		}
		if _, err := time.Parse(time.RFC3339, got.Timestamp); err != nil {
			t.Error(err)
		}
		if h := r.headers[0].Get("Authorization"); h != "Bearer "+canary {
			t.Errorf("Authorization %q", h)
		}
	})
	t.Run("signs the body", func(t *testing.T) {
		r := newReceiver(t)
		s := sink(deploy.SinkGenericHMAC, r.URL)
		s.Spec.SecretRef = &deploy.LocalRef{Name: "alerts"}
		n := run(t, Options{Secret: tokens}, s)
		n.ConfigFailed(io.ErrUnexpectedEOF)
		r.await(t, 1)
		h := hmac.New(sha256.New, []byte(canary))
		h.Write([]byte(r.bodies[0]))
		if got, want := r.headers[0].Get("X-Signature"), "sha256="+hex.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("X-Signature %s, want %s", got, want)
		}
	})
	t.Run("tries again after 500, and no earlier than 429 asks", func(t *testing.T) {
		r := newReceiver(t, answer(500), answer(429, "Retry-After", "3"), answer(200))
		n := run(t, Options{}, sink(deploy.SinkGeneric, r.URL+"/?key="+canary))
		n.ConfigFailed(io.ErrUnexpectedEOF)
		r.await(t, 3)
		if d := r.at[2].Sub(r.at[1]); d < 3*time.Second {
			t.Errorf("came back after %s", d)
		}
	})
	t.Run("does not repeat what is refused, and goes on with the next", func(t *testing.T) {
		r := newReceiver(t, answer(400), answer(200))
		n := run(t, Options{}, sink(deploy.SinkGeneric, r.URL))
		n.ConfigFailed(io.ErrUnexpectedEOF)
		n.ConfigLoaded()
		r.await(t, 2)
		if n.Dropped()["default/generic"] != 1 || r.bodies[0] == r.bodies[1] {
			t.Errorf("dropped %v", n.Dropped())
		}
	})
	t.Run("a receiver that hangs holds nobody up, neither another sink nor the end", func(t *testing.T) {
		release := make(chan struct{})
		hanging := newReceiver(t, func(http.ResponseWriter) { <-release })
		t.Cleanup(func() { close(release) }) // after the notifier's end, before the receiver's
		r := newReceiver(t)
		slow, fast := sink(deploy.SinkGeneric, hanging.URL), sink(deploy.SinkGeneric, r.URL)
		slow.Name = "slow"
		n := run(t, Options{}, slow, fast)
		for i := range queueSize + 10 {
			n.ConfigFailed(fmt.Errorf("fault %d", i))
		}
		r.await(t, 1)
		if n.Dropped()["default/slow"] == 0 {
			t.Error("no drops are counted")
		}
	})
}

func TestShoutrrr(t *testing.T) {
	t.Run("sends text", func(t *testing.T) {
		r := newReceiver(t)
		n := run(t, Options{}, sink(deploy.SinkShoutrrr, "generic://"+strings.TrimPrefix(r.URL, "http://")+"/"+canary+"?disabletls=yes"))
		n.SourceState(refused())
		r.await(t, 2)
		if !strings.Contains(r.bodies[1], "VerificationFailed") {
			t.Errorf("got %s", r.bodies[1])
		}
	})
	t.Run("keeps addresses and answers out of its errors", func(t *testing.T) {
		r := newReceiver(t, answer(400))
		n := run(t, Options{}, sink(deploy.SinkShoutrrr, "generic://"+strings.TrimPrefix(r.URL, "http://")+"/"+canary+"?disabletls=yes"))
		n.ConfigFailed(io.ErrUnexpectedEOF)
		testenv.Await(t, 10*time.Second, "a drop", func() error {
			if d := n.Dropped(); d["default/shoutrrr"] != 1 {
				return fmt.Errorf("%v", d)
			}
			return nil
		})
	})
}

func TestKubernetesEvents(t *testing.T) {
	cluster := testenv.Cluster(t)
	client := kubernetes.NewForConfigOrDie(cluster.Config)
	namespace := cluster.Namespace(t)
	r := newRecorder(Options{Kubernetes: client, Namespace: namespace, Instance: "edge-7"})
	e := deploy.Event{
		Object: deploy.Name{Kind: deploy.KindSource, Namespace: namespace, Name: "app"}, Severity: deploy.SeverityError, Reason: "VerificationFailed",
		Message: strings.Repeat("ä", maxNote),
	}
	elsewhere := e
	elsewhere.Object.Namespace, elsewhere.Severity, elsewhere.Message = "is-not-there", deploy.SeverityInfo, "words"
	for _, e := range []deploy.Event{e, e, elsewhere} {
		if err := r.send(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	list, err := client.CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=OCIRepository"})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 2 {
		t.Fatalf("%d Events", len(list.Items))
	}
	for _, got := range list.Items {
		switch got.Type {
		case corev1.EventTypeWarning:
			if got.Count != 2 || len(got.Message) > maxNote || got.Reason != "VerificationFailed" || got.InvolvedObject.Name != "app" {
				t.Errorf("got %+v", got)
			}
		default:
			if got.Count != 1 || got.Message != "source/is-not-there/app: words" {
				t.Errorf("got %+v", got)
			}
		}
	}
}
