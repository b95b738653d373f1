package oci

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Route is how to reach a registry and everything it sends us to: token services, places where blobs lie. The zero Route trusts the system's certificates and
// takes the proxy from the environment.
type Route struct {
	// CA is PEM certificates that are trusted besides the system's.
	CA []byte
	// Cert and Key are PEM: what to show where a client certificate is asked for. Both or none.
	Cert, Key []byte
	// Proxy beats the environment, NO_PROXY included; it may hold a user and a password.
	Proxy *url.URL
}

// routeKey is a hash of a route: equal routes share connections, whosever they are.
type routeKey [sha256.Size]byte

func (r Route) key() routeKey {
	if len(r.CA)+len(r.Cert)+len(r.Key) == 0 && r.Proxy == nil {
		return routeKey{}
	}
	proxy := ""
	if r.Proxy != nil {
		proxy = r.Proxy.String()
	}
	sum := sha256.New()
	for _, part := range []string{string(r.CA), string(r.Cert), string(r.Key), proxy} {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(part), part) // a hash does not fail
	}
	return routeKey(sum.Sum(nil))
}

// through is the transport for a route, with the gate before it; and its own one, unless it is the client's base.
func (c *Client) through(r Route) (http.RoundTripper, *http.Transport, error) {
	base := c.base
	var own *http.Transport
	if key := r.key(); key != (routeKey{}) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if own = c.routes[key]; own == nil {
			var err error
			if own, err = r.transport(c.base); err != nil {
				return nil, nil, err
			}
			c.routes[key] = own
		}
		base = own
	}
	return transport.NewUserAgent(&gate{base: base}, c.agent), own, nil
}

// closeUnused lets the connections of routes go that no session takes any more. The caller holds mu.
func (c *Client) closeUnused() {
	used := map[routeKey]bool{}
	for _, s := range c.sessions {
		used[s.route] = true
	}
	for key, t := range c.routes {
		if !used[key] {
			t.CloseIdleConnections()
			delete(c.routes, key)
		}
	}
}

// transport makes a route's transport, with the limits of the given one, or of the default where that is of another kind.
func (r Route) transport(like http.RoundTripper) (*http.Transport, error) {
	conf, err := r.tls()
	if err != nil {
		return nil, &routeError{err}
	}
	t, ok := like.(*http.Transport)
	if ok {
		t = t.Clone()
	} else {
		t = NewTransport()
	}
	t.TLSClientConfig = conf
	if r.Proxy == nil {
		return t, nil
	}
	switch r.Proxy.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return nil, &routeError{fmt.Errorf("proxy: the scheme %q is none of http, https, socks5", r.Proxy.Scheme)}
	}
	if r.Proxy.Host == "" {
		return nil, &routeError{errors.New("proxy: want a URL such as http://proxy.example:3128")}
	}
	t.Proxy = http.ProxyURL(r.Proxy)
	return t, nil
}

func (r Route) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(r.CA) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil { // no bundle on this machine: the given ones are all there is
			pool = x509.NewCertPool()
		}
		certs, err := certificates(r.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		for _, c := range certs {
			pool.AddCert(c)
		}
		conf.RootCAs = pool
	}
	switch {
	case len(r.Cert) == 0 && len(r.Key) == 0:
		return conf, nil
	case len(r.Key) == 0:
		return nil, errors.New("key: missing, although there is a cert")
	case len(r.Cert) == 0:
		return nil, errors.New("cert: missing, although there is a key")
	}
	if _, err := certificates(r.Cert); err != nil {
		return nil, fmt.Errorf("cert: %w", err)
	}
	pair, err := tls.X509KeyPair(r.Cert, r.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %s", strings.TrimPrefix(err.Error(), "tls: "))
	}
	conf.Certificates = []tls.Certificate{pair}
	return conf, nil
}

// certificates reads PEM certificates: one at least, and all of them. Errors do not quote.
func certificates(raw []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate in PEM (-----BEGIN CERTIFICATE-----) is in there")
	}
	return out, nil
}

// routeError is a route that cannot be taken; nothing was sent.
type routeError struct{ err error }

func (e *routeError) Error() string   { return e.err.Error() }
func (e *routeError) Unwrap() []error { return []error{ErrRoute, e.err} }

// proxyError is a proxy that did not let us through.
type proxyError struct {
	host   string
	status int
}

func (e *proxyError) Error() string {
	s := fmt.Sprintf("the proxy %s answered %d %s", e.host, e.status, http.StatusText(e.status))
	if e.status == http.StatusProxyAuthRequired {
		s += ": set its user and password with proxySecretRef, or in the proxy's URL in the environment"
	}
	return s
}

// tlsFailure says what to do about a failed handshake, and whether it was one.
func tlsFailure(err error, now time.Time) (hint error, ok bool) {
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil && now.Before(invalid.Cert.NotBefore):
		return fmt.Errorf("%w: it begins at %s, and this clock says %s: set the clock, if it is wrong", ErrClock, stamp(invalid.Cert.NotBefore), stamp(now)), true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fmt.Errorf("the certificate ended at %s, and this clock says %s: renew it, or set the clock, if it is wrong",
			stamp(invalid.Cert.NotAfter), stamp(now)), true
	case errors.As(err, &authority):
		return errors.New("set certSecretRef or certFiles to the certificates of those who signed the registry's"), true
	case errors.As(err, &verify):
		return errors.New("the certificate is not for this host or this use"), true
	case err != nil && strings.Contains(err.Error(), "remote error: tls: ") && strings.Contains(err.Error(), "certificate"):
		return errors.New("it wants a client certificate, or another: set tls.crt and tls.key with certSecretRef or certFiles"), true
	}
	return nil, false
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
