package status

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/towline/towline/internal/deploy"
)

// maxScrapes is how many scrapes of /metrics may run at once; each holds a snapshot.
const maxScrapes = 4

// server answers requests from a board.
type server struct {
	board    *Board
	controls Controls
	cross    *http.CrossOriginProtection
	// draining is closed when streams should end; nil: never.
	draining <-chan struct{}
	streams  chan struct{} // a token per open stream
}

// Handler serves the API, the metrics and the web page. Nil controls make it read-only: what acts answers 403. Whoever can reach a handler with controls can
// use them.
func (b *Board) Handler(c Controls) http.Handler { return b.handler(c, nil) }

func (b *Board) handler(c Controls, draining <-chan struct{}) http.Handler {
	s := &server{
		board:    b,
		controls: c,
		cross:    http.NewCrossOriginProtection(),
		draining: draining,
		streams:  make(chan struct{}, maxStreams),
	}
	mux := http.NewServeMux()
	get := func(path string, h http.HandlerFunc) { mux.Handle(path, only(http.MethodGet, h)) }
	get("/healthz", s.healthz)
	get("/readyz", s.readyz)
	get("/metrics", promhttp.HandlerFor(b.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, Registry: b.metrics.registry}).ServeHTTP)
	get("/api/v1/status", s.status)
	get("/api/v1/targets/{kind}/{namespace}/{name}", s.target)
	get("/api/v1/events", s.events)
	mux.Handle("/api/v1/reconcile", only(http.MethodPost, s.acting(s.reconcile)))
	mux.Handle("/api/v1/rollback", only(http.MethodPost, s.acting(s.rollback)))
	mux.Handle("/api/v1/reload", only(http.MethodPost, s.acting(s.reload)))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "there is no "+r.URL.Path+" in this API")
	})
	get("/{$}", s.overviewPage)
	get("/targets/{kind}/{namespace}/{name}", s.targetPage)
	get("/assets/{file}", asset)
	get("/", s.notFoundPage)
	return guarded(mux)
}

// only refuses other methods than the given one; HEAD goes with GET.
func only(method string, h http.HandlerFunc) http.Handler {
	allow := method
	if method == http.MethodGet {
		allow = "GET, HEAD"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method && (r.Method != http.MethodHead || method != http.MethodGet) {
			w.Header().Set("Allow", allow)
			fail(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s is not possible here: use %s", r.Method, allow))
			return
		}
		h(w, r)
	})
}

// guarded sets the headers that keep a browser from doing anything with the answers but show them.
func guarded(h http.Handler) http.Handler {
	const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hd := w.Header()
		hd.Set("Content-Security-Policy", policy)
		hd.Set("X-Content-Type-Options", "nosniff")
		hd.Set("X-Frame-Options", "DENY")
		hd.Set("Referrer-Policy", "no-referrer")
		hd.Set("Cross-Origin-Opener-Policy", "same-origin")
		hd.Set("Cross-Origin-Resource-Policy", "same-origin")
		hd.Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// healthz says that the process is alive and answers; nothing else may make it fail, or a registry that is down would get the agent restarted.
func (s *server) healthz(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") }

// gateHelp says what opens a gate.
var gateHelp = map[string]string{
	GateConfig:  "no valid config was loaded yet",
	GateCluster: "the cluster's API server did not answer yet",
}

func (s *server) readyz(w http.ResponseWriter, _ *http.Request) {
	s.board.mu.Lock()
	h := s.board.head()
	s.board.mu.Unlock()
	if h.Ready {
		text(w, http.StatusOK, "ok\n")
		return
	}
	var b strings.Builder
	b.WriteString("not ready\n")
	for _, gate := range h.Missing {
		fmt.Fprintf(&b, "%s: %s\n", gate, missing(gate, h.Config))
	}
	text(w, http.StatusServiceUnavailable, b.String())
}

// missing says why a gate is closed.
func missing(gate string, c Config) string {
	if gate == GateConfig && c.Error != "" {
		return c.Error
	}
	if help := gateHelp[gate]; help != "" {
		return help
	}
	return "not done yet"
}

func (s *server) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.board.Status())
}

func (s *server) target(w http.ResponseWriter, r *http.Request) {
	x, err := s.explain(r)
	if err != nil {
		fail(w, http.StatusNotFound, err.Error())
		return
	}
	reply(w, http.StatusOK, x)
}

// explain finds the target that the path names.
func (s *server) explain(r *http.Request) (Explanation, error) {
	kind, ok := deploy.ParseKind(r.PathValue("kind"))
	if !ok || kind == deploy.KindSource {
		return Explanation{}, fmt.Errorf("%q is not a kind of target: want kustomization or helmrelease", r.PathValue("kind"))
	}
	n := deploy.Name{Kind: kind, Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	x, ok := s.board.Explain(n)
	if !ok {
		return Explanation{}, fmt.Errorf("there is no target %s", n)
	}
	return x, nil
}

func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(body)) // whoever asked is gone: nobody to tell
}

func reply(w http.ResponseWriter, code int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		b, code = []byte(`{"error": "the answer cannot be written as JSON"}`), http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // whoever asked is gone: nobody to tell
}

// fail answers with an error.
func fail(w http.ResponseWriter, code int, message string) {
	reply(w, code, apiError{Error: message})
}

// apiError is the body of every answer of the API that is not a success.
type apiError struct {
	Error string `json:"error"`
}
