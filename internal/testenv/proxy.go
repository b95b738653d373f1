package testenv

import (
	"crypto/subtle"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// Proxy is a forward proxy on 127.0.0.1: CONNECT, and requests in absolute form.
type Proxy struct {
	host string
	want string // of the Proxy-Authorization header; empty: everybody may

	// mu guards seen, open and ended.
	mu    sync.Mutex
	seen  []ProxyRequest
	open  []net.Conn
	ended bool

	tunnels sync.WaitGroup
}

// ProxyRequest is one request that a proxy was asked to carry.
type ProxyRequest struct {
	Method, Host string
	// Refused is set where the credentials were wrong.
	Refused bool
}

// NewProxy starts a proxy that ends with the test. It demands the user and password where they are given.
func NewProxy(t testing.TB, user, password string) *Proxy {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{host: l.Addr().String()}
	if user != "" {
		p.want = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	quiet := log.New(io.Discard, "", 0)
	forward := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: &http.Transport{}, ErrorLog: quiet}
	server := &http.Server{ErrorLog: quiet, ReadHeaderTimeout: headerTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case !p.admit(req):
			w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
		case req.Method == http.MethodConnect:
			p.tunnel(w, req)
		default:
			req.Header.Del("Proxy-Authorization")
			forward.ServeHTTP(w, req)
		}
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // always ErrServerClosed: only the test's end ends it
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
		p.end()
		forward.Transport.(*http.Transport).CloseIdleConnections()
	})
	return p
}

// URL is the proxy's address with the user and password, unless they are empty.
func (p *Proxy) URL(user, password string) *url.URL {
	u := &url.URL{Scheme: "http", Host: p.host}
	if user != "" {
		u.User = url.UserPassword(user, password)
	}
	return u
}

// Requests lists what the proxy was asked to carry, oldest first.
func (p *Proxy) Requests() []ProxyRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]ProxyRequest{}, p.seen...)
}

func (p *Proxy) admit(req *http.Request) bool {
	ok := p.want == "" || subtle.ConstantTimeCompare([]byte(req.Header.Get("Proxy-Authorization")), []byte(p.want)) == 1
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, ProxyRequest{Method: req.Method, Host: req.Host, Refused: !ok})
	return ok
}

// tunnel connects the client with the host that it names, until one of the two hangs up.
func (p *Proxy) tunnel(w http.ResponseWriter, req *http.Request) {
	var d net.Dialer
	there, err := d.DialContext(req.Context(), "tcp", req.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusOK)
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = there.Close()
		return
	}
	p.carry(here, buffered, there)
}

// carry copies both ways. The test's end hangs up.
func (p *Proxy) carry(here net.Conn, buffered io.Reader, there net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		_, _ = here.Close(), there.Close()
		return
	}
	p.open = append(p.open, here, there)
	p.tunnels.Go(func() {
		_, _ = io.Copy(there, buffered) // ends when either side hangs up
		_ = there.Close()
	})
	p.tunnels.Go(func() {
		_, _ = io.Copy(here, there) // ends when either side hangs up
		_ = here.Close()
	})
}

// end hangs up and waits until nothing is carried any more.
func (p *Proxy) end() {
	p.mu.Lock()
	p.ended = true
	for _, c := range p.open {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.tunnels.Wait()
}
