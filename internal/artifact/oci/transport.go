package oci

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxDocument bounds manifests and tokens, in bytes: 4 MiB is what the distribution spec asks registries to accept for a manifest.
	maxDocument = 4 << 20
	// maxTags bounds a page of tags, in bytes: some registries send all of them at once, and a hundred thousand are 4 MiB.
	maxTags = 32 << 20
	// maxErrors bounds the body of an answer that is not a success, in bytes.
	maxErrors = 64 << 10
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
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlivePeriod}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   tlsTimeout,
		ResponseHeaderTimeout: answerTimeout,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConnsPerHost:   idlePerHost,
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, res *http.Response) error {
			if res.StatusCode == http.StatusOK {
				return nil
			}
			return &proxyError{host: proxy.Host, status: res.StatusCode}
		},
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
	case res.StatusCode >= http.StatusBadRequest:
		res.Body = &errorBody{io.LimitReader(res.Body, maxErrors), res.Body} // the status is what counts
		return res, nil
	}
	if n := maxBody(req); n > 0 {
		res.Body = &cappedBody{ReadCloser: res.Body, left: n}
	}
	return res, nil
}

// errorBody ends early instead of failing.
type errorBody struct {
	io.Reader
	io.Closer
}

// maxBody is how long an answer may be, in bytes; 0 for blobs, and for what a redirect led to: that has any path. Both are bounded where they are read.
func maxBody(req *http.Request) int64 {
	switch {
	case req.Response != nil || strings.Contains(req.URL.Path, "/blobs/"):
		return 0
	case strings.HasSuffix(req.URL.Path, "/tags/list"):
		return maxTags
	}
	return maxDocument
}

// loopback reports whether a host is this one: what is sent there cannot be overheard.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
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

// cappedBody fails instead of reading on when a body is longer than it may be.
type cappedBody struct {
	io.ReadCloser
	left int64
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLong
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}
