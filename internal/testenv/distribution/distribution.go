// Package distribution runs the distribution project's registry for tests: TLS, client certificates, basic and token authentication, and no referrers API. It
// is apart from testenv because what it brings along is large.
package distribution

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // basic authentication
	_ "github.com/distribution/distribution/v3/registry/auth/token"    // token authentication
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory" // where the content is
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"
)

// headerTimeout bounds how long a client may take to send its request headers.
const headerTimeout = 10 * time.Second

const (
	// notifyTimeout bounds one notification, and notifyBackoff is the pause after one that failed: short, for tests.
	notifyTimeout = 5 * time.Second
	notifyBackoff = 50 * time.Millisecond
)

// tokenPath is where the token service answers, beside the registry.
const tokenPath = "/token"

// Credentials are a user and a password.
type Credentials struct{ User, Password string }

// Options say how a registry is guarded; the zero Options are plain HTTP for everybody.
type Options struct {
	// TLS serves HTTPS with a certificate of Registry.CA.
	TLS bool
	// ClientCA demands a certificate such as Registry.Client. It implies TLS.
	ClientCA bool
	// NotBefore and NotAfter of the server's certificate; zero: valid now.
	NotBefore, NotAfter time.Time
	// Basic demands these as HTTP basic authentication.
	Basic *Credentials
	// Token demands a token that these are exchanged for.
	Token *Credentials
	// TokenLife is how long tokens live; default 5 minutes.
	TokenLife time.Duration
	// Notify is a URL that the registry sends its notifications to, with NotifyHeaders; empty: none.
	Notify        string
	NotifyHeaders http.Header
	// Wrap stands before the registry and can answer in its place; it may be nil.
	Wrap func(registry http.Handler) http.Handler
}

// Registry is a running registry. Its content is in memory.
type Registry struct {
	// CA signed the server's certificate, PEM; nil without TLS.
	CA []byte
	// Client is a certificate and its key that the registry accepts, PEM; nil without ClientCA.
	Client, ClientKey []byte

	host   string
	tokens *tokens

	// mu guards requests.
	mu       sync.Mutex
	requests []Request
}

// Request is one request that a client sent.
type Request struct {
	Method string
	// Path with the query, if there was one.
	Path          string
	Authorization string
}

// New starts a registry that ends with the test.
func New(t testing.TB, o Options) *Registry {
	t.Helper()
	logrus.SetOutput(io.Discard) // the registry's only logger
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Registry{host: l.Addr().String()}
	scheme := "http"
	if o.TLS || o.ClientCA {
		scheme = "https"
		l = tls.NewListener(l, r.certify(t, o))
	}
	ctx, cancel := context.WithCancel(context.Background())
	app := handlers.NewApp(ctx, r.config(t, o, scheme))
	var handler http.Handler = app
	if o.Wrap != nil {
		handler = o.Wrap(app)
	}
	quiet := log.New(io.Discard, "", 0)
	server := &http.Server{Handler: r.count(handler), ErrorLog: quiet, ReadHeaderTimeout: headerTimeout}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // always ErrServerClosed: only the test's end ends it
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
		_ = app.Shutdown() // has nothing to close
		cancel()
	})
	return r
}

// config is the registry's own configuration.
func (r *Registry) config(t testing.TB, o Options, scheme string) *configuration.Configuration {
	t.Helper()
	c := &configuration.Configuration{
		Storage: configuration.Storage{
			"inmemory":    configuration.Parameters{},
			"delete":      configuration.Parameters{"enabled": true},
			"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
		},
		Catalog: configuration.Catalog{MaxEntries: 1000},
	}
	c.HTTP.Secret = "for tests"
	if o.Notify != "" {
		c.Notifications.Endpoints = []configuration.Endpoint{{
			Name: "test", URL: o.Notify, Headers: o.NotifyHeaders, Timeout: notifyTimeout, Threshold: 1, Backoff: notifyBackoff,
		}}
	}
	c.Log.AccessLog.Disabled = true
	c.Log.Level = "panic"
	switch {
	case o.Basic != nil:
		hash, err := bcrypt.GenerateFromPassword([]byte(o.Basic.Password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		c.Auth = configuration.Auth{"htpasswd": configuration.Parameters{
			"realm": "registry", "path": write(t, "htpasswd", fmt.Appendf(nil, "%s:%s\n", o.Basic.User, hash)),
		}}
	case o.Token != nil:
		r.tokens = newTokens(t, *o.Token, o.TokenLife)
		c.Auth = configuration.Auth{"token": configuration.Parameters{
			"realm": scheme + "://" + r.host + tokenPath, "service": tokenService, "issuer": tokenIssuer, "jwks": write(t, "jwks.json", r.tokens.keySet()),
		}}
	}
	return c
}

// count notes the request and lets the token service or the registry answer it.
func (r *Registry) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.requests = append(r.requests, Request{req.Method, req.URL.RequestURI(), req.Header.Get("Authorization")})
		r.mu.Unlock()
		if r.tokens != nil && req.URL.Path == tokenPath {
			r.tokens.ServeHTTP(w, req)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// Host is host:port.
func (r *Registry) Host() string { return r.host }

// Requests lists what clients asked for since the start or the last Reset, oldest first.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request{}, r.requests...)
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

// write puts a file where the registry reads it.
func write(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
