package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxDocument bounds manifests and lists of referrers, in bytes: 4 MiB is what the distribution spec asks registries to accept for a manifest.
	maxDocument = 4 << 20
	// maxTags bounds a list of tags, in bytes: some registries send all of them at once, and a hundred thousand are 4 MiB.
	maxTags = 32 << 20
	// maxErrors bounds the body of an answer that is not a success, in bytes.
	maxErrors = 64 << 10
	// maxHeaders bounds the headers of an answer, in bytes; the longest that registries send are links and signed URLs.
	maxHeaders = 256 << 10
)

// Limits of the default transport. A poll is bounded by its source's timeout; these make a dead peer known sooner.
const (
	dialTimeout     = 10 * time.Second
	tlsTimeout      = 10 * time.Second
	answerTimeout   = 30 * time.Second // until the headers
	idleTimeout     = 90 * time.Second
	idlePerHost     = 8
	keepAlivePeriod = 30 * time.Second
)

// NewTransport is a transport for registries: proxies from the environment, HTTP/2, bounded waits, no retries.
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  unquoted(http.ProxyFromEnvironment),
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlivePeriod}).DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  answerTimeout,
		MaxResponseHeaderBytes: maxHeaders,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    idlePerHost,
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, res *http.Response) error {
			if res.StatusCode == http.StatusOK {
				return nil
			}
			return &proxyError{host: proxy.Host, status: res.StatusCode}
		},
	}
}

// unquoted keeps a proxy's address, which may hold a password, out of the error for one that cannot be read.
func unquoted(proxy func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(req *http.Request) (*url.URL, error) {
		u, err := proxy(req)
		if err != nil {
			return nil, &routeError{errors.New("proxy: HTTPS_PROXY or HTTP_PROXY in the environment is no URL such as http://proxy.example:3128")}
		}
		return u, nil
	}
}

// terms are what holds for the requests of one call, and what was learned from the answers.
type terms struct {
	insecure bool
	after    atomic.Int64 // Retry-After in nanoseconds; 0 if there was none
}

type termsKey struct{}

func withTerms(ctx context.Context, insecure bool) (context.Context, *terms) {
	t := &terms{insecure: insecure}
	return context.WithValue(ctx, termsKey{}, t), t
}

// gate lets requests through on their terms. It sees every request, also those to token services and after redirects.
type gate struct{ base http.RoundTripper }

// plainHTTPError is a request that would have gone over plain HTTP without leave.
type plainHTTPError struct{ host string }

func (e *plainHTTPError) Error() string {
	return fmt.Sprintf("plain HTTP to %s is refused: set insecure: true to allow it", e.host)
}

func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	t, _ := req.Context().Value(termsKey{}).(*terms)
	first := origin(req)
	if err := mayLead(first.URL, req.URL); err != nil {
		return nil, err
	}
	if req.URL.Scheme != "https" && (t == nil || !t.insecure) && !loopback(req.URL.Hostname()) {
		return nil, &plainHTTPError{req.URL.Host}
	}
	res, err := g.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= http.StatusBadRequest && t != nil {
		t.after.Store(int64(retryAfter(res.Header.Get("Retry-After"), time.Now())))
	}
	switch {
	case res.StatusCode == http.StatusProxyAuthRequired: // no registry answers that: a proxy for plain HTTP does
		_ = res.Body.Close() // of no use
		return nil, &proxyError{host: "for " + req.URL.Host, status: res.StatusCode}
	case res.StatusCode >= http.StatusBadRequest, strings.TrimSuffix(first.URL.Path, "/") == "/v2":
		res.Body = &sideBody{io.LimitReader(res.Body, maxErrors), res.Body}
	}
	return res, nil
}

// origin is the request that was redirected to become this one.
func origin(req *http.Request) *http.Request {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return req
}

// mayLead keeps a registry from sending us to services of this machine or this network's link (clouds keep theirs there), unless it is there itself.
func mayLead(from, to *url.URL) error {
	if from.Hostname() == to.Hostname() || loopback(from.Hostname()) {
		return nil
	}
	host, ip := to.Hostname(), address(to.Hostname())
	if !loopback(host) && !strings.HasSuffix(strings.ToLower(host), ".localhost") && !ip.IsLinkLocalUnicast() && !ip.IsUnspecified() {
		return nil
	}
	return &answerError{fmt.Sprintf("refused to follow the registry to %s: that is an address of this machine or its link", to.Host)}
}

// sideBody is what comes with an answer whose status is what counts: it ends early instead of failing. What else is read is bounded where it is read.
type sideBody struct {
	io.Reader
	io.Closer
}

func (b *sideBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// loopback reports whether a host is this one: what is sent there cannot be overheard.
func loopback(host string) bool {
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") || address(host).IsLoopback()
}

// address is the IP address that a host is written as, the zero one if it is a name.
func address(host string) netip.Addr {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return ip.WithZone("").Unmap()
}

// retryAfter reads a Retry-After header, seconds or a date (RFC 9110, 10.2.3); 0 where there is none to be honoured.
func retryAfter(h string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(h, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(h); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
