// Package oci asks a registry about one repository: what a tag points to, which tags there are, a manifest, a blob, what refers to a digest; and puts
// manifests and blobs there. Everything it hands out was checked against its digest.
package oci

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// loginAge is how long credentials and routes are used before they are looked up again, so that a Secret that was changed or deleted takes effect although the
// registry still accepts the old one. What was refused is looked up again at once.
const loginAge = time.Hour

// unusedAge is when a session that nobody uses is forgotten.
const unusedAge = 2 * loginAge

// Client talks to registries. Connections and logins are shared by all calls: a call in the steady state is exactly one request.
type Client struct {
	base  http.RoundTripper
	agent string

	// mu guards the maps.
	mu       sync.Mutex
	sessions map[sessionKey]*session
	turns    map[sessionKey]chan struct{} // held by who logs in
	routes   map[routeKey]*http.Transport // without the zero Route: that is base
}

// New makes a client over a transport that must not retry: whoever polls has the backoff. The transport serves the zero Route; others get transports of their
// own, made like it where it is an *http.Transport.
func New(base http.RoundTripper, userAgent string) *Client {
	return &Client{
		base: base, agent: userAgent,
		sessions: map[sessionKey]*session{}, turns: map[sessionKey]chan struct{}{}, routes: map[routeKey]*http.Transport{},
	}
}

// Close forgets all logins and lets the idle connections of the client's own transports go. The client can still be used.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.sessions)
	c.tidy()
}

// Access is one repository and how to get in.
type Access struct {
	Repo name.Repository
	// Insecure allows plain HTTP to hosts other than this one.
	Insecure bool
	// Owner says whose credentials and route these are; calls with the same repository and owner share a login. It is never the credentials themselves.
	Owner string
	// Login looks the credentials up.
	Login func(context.Context) (authn.Authenticator, error)
	// Route looks up how to get there, whenever the credentials are looked up; nil is the zero Route.
	Route func(context.Context) (Route, error)
	// Changed is a cheap fingerprint of what Login and Route read (the times of files); another value makes both be read again before the next request. It may
	// be nil.
	Changed func() string
}

// Digest is Repository.Digest.
func (c *Client) Digest(ctx context.Context, a Access, tag string) (string, error) {
	return c.Repository(a).Digest(ctx, tag)
}

// Tags is Repository.Tags.
func (c *Client) Tags(ctx context.Context, a Access) ([]string, error) {
	return c.Repository(a).Tags(ctx)
}

// Manifest is Repository.Manifest.
func (c *Client) Manifest(ctx context.Context, a Access, digest string) ([]byte, error) {
	return c.Repository(a).Manifest(ctx, digest)
}

// Blob is Repository.Blob.
func (c *Client) Blob(ctx context.Context, a Access, want v1.Descriptor, w io.Writer) error {
	return c.Repository(a).Blob(ctx, want, w)
}

// do runs one call within a session. What may come from old credentials, certificates or proxies makes them be looked up once more, and where they have
// changed the call is made again.
func (c *Client) do(ctx context.Context, a Access, push bool, call func(context.Context, *session) error) error {
	ctx, terms := withTerms(ctx, a.Insecure)
	key := sessionKey{repo: a.Repo.Name(), owner: a.Owner, insecure: a.Insecure, push: push}
	s, fresh, err := c.session(ctx, key, a, nil)
	if err == nil {
		err = call(ctx, s)
	}
	switch {
	case s == nil || !stale(err, s):
	case fresh:
		c.forget(key, s)
	default:
		next, _, lerr := c.session(ctx, key, a, s)
		if next != nil && lerr == nil {
			lerr = call(ctx, next)
		}
		if next != nil || lerr != nil {
			s, err = next, lerr
		}
	}
	return classify(ctx, err, terms, s == nil || s.anonymous)
}
