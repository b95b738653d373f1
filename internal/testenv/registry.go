package testenv

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// headerTimeout bounds how long a client may take to send its request headers.
const headerTimeout = 10 * time.Second

// Registry is a real OCI registry in this process, with the referrers API, on a loopback port and plain HTTP. Its content is held in memory. What the Push
// methods, Tag and Delete do is neither counted nor subject to faults or credentials: they are the test's own hand, not a client.
type Registry struct {
	host   string
	inner  http.Handler
	server *http.Server
	served chan struct{}
	tb     testing.TB // nil in the demo

	// mu guards everything below.
	mu       sync.Mutex
	requests []*Request
	faults   []*Fault
	auth     *login
	pageSize int
	noHead   bool
	noDigest bool
	noRefers bool
}

// Request is one request that a client sent.
type Request struct {
	Method string
	// Path with the query, if there was one: /v2/apps/tags/list?n=1000.
	Path string
	// Status that was answered; 0 while the request runs, and for a connection that was cut.
	Status     int
	Authorized bool
	UserAgent  string
	At         time.Time
}

// NewRegistry starts a registry that ends with the test.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	r, err := StartRegistry("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.tb = t
	t.Cleanup(r.Close)
	return r
}

// StartRegistry starts a registry on a TCP address; port 0 takes a free one. Close ends it.
func StartRegistry(addr string) (*Registry, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start the registry: %w", err)
	}
	quiet := log.New(io.Discard, "", 0)
	r := &Registry{
		host:   l.Addr().String(),
		inner:  registry.New(registry.Logger(quiet), registry.WithReferrersSupport(true)),
		served: make(chan struct{}),
	}
	r.server = &http.Server{Handler: http.HandlerFunc(r.serve), ErrorLog: quiet, ReadHeaderTimeout: headerTimeout}
	go func() {
		defer close(r.served)
		_ = r.server.Serve(l) // always ErrServerClosed: only Close ends it
	}()
	return r, nil
}

// Close cuts every connection and waits until the server is gone. It may be called twice.
func (r *Registry) Close() {
	_ = r.server.Close()
	<-r.served
}

// Host is host:port.
func (r *Registry) Host() string { return r.host }

// URL is the repository as a source's url: oci://host:port/repo.
func (r *Registry) URL(repo string) string { return "oci://" + r.host + "/" + repo }

// Requests lists what clients asked for since the start or the last Reset, oldest first.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Request, len(r.requests))
	for i, q := range r.requests {
		out[i] = *q
	}
	return out
}

// Count says how many requests had the method and a path that contains the text; an empty method or text matches all.
func (r *Registry) Count(method, text string) int {
	n := 0
	for _, q := range r.Requests() {
		if (method == "" || q.Method == method) && strings.Contains(q.Path, text) {
			n++
		}
	}
	return n
}

// Reset forgets the requests so far.
func (r *Registry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

// PageSize makes tag lists come in pages of at most n tags, with the Link header that leads to the next; 0 is one page.
func (r *Registry) PageSize(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pageSize = n
}

// RefuseHead answers every HEAD with 405, as some registries and proxies do.
func (r *Registry) RefuseHead(refuse bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noHead = refuse
}

// OmitDigest leaves the Docker-Content-Digest header out, as some registries do.
func (r *Registry) OmitDigest(omit bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noDigest = omit
}

// RefuseReferrers answers the referrers API with 404, as older registries do: clients keep the list at the referrers tag then.
func (r *Registry) RefuseReferrers(refuse bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noRefers = refuse
}

// serve notes the request, then lets faults, credentials and the real registry answer it, in this order.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	note := r.note(req)
	sw := &statusWriter{ResponseWriter: w}
	defer func() {
		r.mu.Lock()
		note.Status = sw.status
		r.mu.Unlock()
	}()
	if f := r.fault(req); f != nil && r.inject(sw, req, *f) {
		return
	}
	r.answer(sw, req)
}

func (r *Registry) note(req *http.Request) *Request {
	q := &Request{
		Method: req.Method, Path: req.URL.RequestURI(), UserAgent: req.UserAgent(),
		Authorized: req.Header.Get("Authorization") != "", At: time.Now(),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, q)
	return q
}

// answer is what a healthy registry says.
func (r *Registry) answer(w http.ResponseWriter, req *http.Request) {
	if !r.admit(w, req) {
		return
	}
	r.mu.Lock()
	size, noHead, noDigest, noRefers := r.pageSize, r.noHead, r.noDigest, r.noRefers
	r.mu.Unlock()
	switch {
	case noRefers && strings.Contains(req.URL.Path, "/referrers/"):
		w.WriteHeader(http.StatusNotFound)
	case noHead && req.Method == http.MethodHead:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case strings.HasSuffix(req.URL.Path, "/tags/list") && size > 0:
		r.page(w, req, size)
	case noDigest:
		res := r.record(req)
		res.header.Del("Docker-Content-Digest")
		res.writeTo(w)
	default:
		r.inner.ServeHTTP(w, req)
	}
}

// statusWriter remembers the status for the request log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recorded is a response that has not been sent.
type recorded struct {
	status int
	header http.Header
	body   []byte
}

func (res *recorded) Header() http.Header { return res.header }

func (res *recorded) WriteHeader(code int) {
	if res.status == 0 {
		res.status = code
	}
}

func (res *recorded) Write(b []byte) (int, error) {
	res.WriteHeader(http.StatusOK)
	res.body = append(res.body, b...)
	return len(b), nil
}

func (res *recorded) writeTo(w http.ResponseWriter) {
	for k, v := range res.header {
		w.Header()[k] = slices.Clone(v)
	}
	w.WriteHeader(max(res.status, http.StatusOK))
	_, _ = w.Write(res.body) // a client that left is not the registry's concern
}

// record asks the real registry and keeps its answer.
func (r *Registry) record(req *http.Request) *recorded {
	res := &recorded{header: http.Header{}}
	r.inner.ServeHTTP(res, req)
	return res
}

// fail ends the test; without one, the program: only a wrong call of this package leads here.
func (r *Registry) fail(err error) {
	if r.tb == nil {
		panic(err)
	}
	r.tb.Helper()
	r.tb.Fatal(err)
}
