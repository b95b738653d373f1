package receiver

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/towline/towline/internal/deploy"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, // the registry that notifies has no way to end these
		goleak.IgnoreAnyFunction("github.com/distribution/distribution/v3/notifications.(*eventQueue).run"),
		goleak.IgnoreAnyFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

// canary is the token of all sources here. Nothing that is logged or answered may hold it, nor a path that is made from it.
const canary = "canary-token"

// pokes is a poller that notes what it was asked for.
type pokes struct {
	// mu guards names.
	mu    sync.Mutex
	names []string
}

func (p *pokes) Poke(n deploy.Name) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.names = append(p.names, n.Name)
	return true
}

func (p *pokes) of(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, got := range p.names {
		if got == name {
			n++
		}
	}
	return n
}

// server is Receivers that are served on 127.0.0.1.
type server struct {
	*Receivers
	*pokes
	t    *testing.T
	url  string
	logs *observer.ObservedLogs
	stop func() error // ends Run and says how it ended; the test's end does it too
}

func serve(t *testing.T, secret ReadSecret, sources ...deploy.Source) *server {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	s := &server{pokes: &pokes{}, t: t, logs: logs}
	s.Receivers = New(Options{Poller: s.pokes, Secret: secret, Log: zap.New(core)})
	s.Set(sources)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ln) }()
	s.stop = sync.OnceValue(func() error {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		for _, e := range logs.All() {
			all := e.Message + fmt.Sprint(e.ContextMap())
			if bytes.Contains([]byte(all), []byte(canary)) || bytes.Contains([]byte(all), []byte("/hook/")) {
				t.Errorf("a secret was logged: %s", all)
			}
		}
	})
	return s
}

// post sends a webhook, and returns the status of the answer.
func (s *server) post(path string, body []byte, header ...string) int {
	s.t.Helper()
	return s.send(http.MethodPost, path, bytes.NewReader(body), header...)
}

func (s *server) send(method, path string, body io.Reader, header ...string) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) > 0 {
		s.t.Errorf("the answer has a body: %q %v", b, err)
	}
	return resp.StatusCode
}

// warnings are the messages of the log that are no debugging, with what they say.
func (s *server) warnings() []string {
	var out []string
	for _, e := range s.logs.FilterLevelExact(zap.WarnLevel).All() {
		out = append(out, fmt.Sprint(e.Message, " ", e.ContextMap()["source"], " ", e.ContextMap()["error"]))
	}
	return out
}

// source is one with a receiver whose token is in a file.
func source(t *testing.T, name, receiver string, change ...func(*deploy.SourceSpec)) deploy.Source {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := deploy.SourceSpec{
		URL: "oci://registry.internal:5000/team/web", Ref: &deploy.Ref{Tag: "stable"},
		Receiver: &deploy.Receiver{Type: receiver, TokenFile: file},
	}
	for _, f := range change {
		f(&spec)
	}
	return deploy.Source{Name: deploy.Name{Kind: deploy.KindSource, Namespace: "apps", Name: name}, Spec: spec, Hash: deploy.HashOf(spec)}
}

func pathOf(name string) string {
	return Path(canary, deploy.Name{Kind: deploy.KindSource, Namespace: "apps", Name: name})
}

// sign is HASH=HEX over the body.
func sign(word string, h func() hash.Hash, key string, body []byte) string {
	mac := hmac.New(h, []byte(key))
	mac.Write(body)
	return fmt.Sprintf("%s=%x", word, mac.Sum(nil))
}

func sha256Of(key string, body []byte) string { return sign("sha256", sha256.New, key, body) }

func payload(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// await waits until the condition holds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
