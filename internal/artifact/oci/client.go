// Package oci asks a registry about one repository: what a tag points to, which tags there are, a manifest, a blob. Everything it hands out was checked
// against its digest.
package oci

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// loginAge is how long credentials are used before they are looked up again, so that a Secret that was changed or deleted takes effect although the registry
// still accepts the old one. Refused credentials are looked up again at once.
const loginAge = time.Hour

// Client talks to registries. Connections and logins are shared by all calls: a call in the steady state is exactly one request.
type Client struct {
	transport http.RoundTripper

	// mu guards sessions.
	mu       sync.Mutex
	sessions map[sessionKey]*session
}

// New makes a client over a transport that must not retry: whoever polls has the backoff.
func New(base http.RoundTripper, userAgent string) *Client {
	return &Client{
		transport: transport.NewUserAgent(&gate{base: base}, userAgent),
		sessions:  map[sessionKey]*session{},
	}
}

// Access is one repository and how to get in.
type Access struct {
	Repo name.Repository
	// Insecure allows plain HTTP to hosts other than this one.
	Insecure bool
	// Owner says whose credentials Login returns; calls with the same repository and owner share a login. It is never the credentials themselves.
	Owner string
	// Login looks the credentials up.
	Login func(context.Context) (authn.Authenticator, error)
	// Route looks up how to get there, whenever the credentials are looked up; nil is the zero Route.
	Route func(context.Context) (Route, error)
	// Changed is a cheap fingerprint of what Login and Route read (the times of files); another value makes both be read again before the next request. It may be nil.
	Changed func() string
}

// sessionKey names a session; the number of sessions is bounded by what the config names.
type sessionKey struct {
	repo, owner string
	insecure    bool
}

// session is a transport that knows how the registry wants to be authenticated to, and holds a token where it wants one.
type session struct {
	transport http.RoundTripper
	login     [sha256.Size]byte // of the credentials: changed ones make a new session
	anonymous bool
	lookedUp  atomic.Int64 // Unix nanoseconds
	// headless is set when the registry has shown that a HEAD does not tell it the digest.
	headless atomic.Bool
}

// Digest is what a tag points to now. One HEAD; for a registry that refuses HEAD or does not send the digest, one GET. Where the registry wants tokens and the
// one at hand has expired since, it takes a refused HEAD and a new token first.
func (c *Client) Digest(ctx context.Context, a Access, tag string) (string, error) {
	ref := a.Repo.Tag(tag)
	var digest string
	err := c.do(ctx, a, func(ctx context.Context, s *session) error {
		if !s.headless.Load() {
			d, err := remote.Head(ref, s.options(ctx)...)
			if err == nil {
				digest = d.Digest.String()
				return nil
			}
			if !headRefused(ctx, err) {
				return err
			}
		}
		d, err := remote.Get(ref, s.options(ctx)...)
		if err != nil {
			return err
		}
		s.headless.Store(true)
		digest = d.Digest.String()
		return nil
	})
	return digest, err
}

// Tags lists every tag, page by page.
func (c *Client) Tags(ctx context.Context, a Access) ([]string, error) {
	var tags []string
	err := c.do(ctx, a, func(ctx context.Context, s *session) error {
		var err error
		tags, err = remote.List(a.Repo, s.options(ctx)...)
		return err
	})
	return tags, err
}

// Manifest is the manifest or index with the digest, as the registry stores it. The bytes have that digest.
func (c *Client) Manifest(ctx context.Context, a Access, digest string) ([]byte, error) {
	var raw []byte
	err := c.do(ctx, a, func(ctx context.Context, s *session) error {
		d, err := remote.Get(a.Repo.Digest(digest), s.options(ctx)...)
		if err != nil {
			return err
		}
		raw = d.Manifest
		return nil
	})
	return raw, err
}

// Blob writes the blob to w. The error says when what was written has another digest or size; what is in w is then worthless.
func (c *Client) Blob(ctx context.Context, a Access, want v1.Descriptor, w io.Writer) error {
	return c.do(ctx, a, func(ctx context.Context, s *session) error {
		layer, err := remote.Layer(a.Repo.Digest(want.Digest.String()), s.options(ctx)...)
		if err != nil {
			return err
		}
		body, err := layer.Compressed() // reading to the end checks the digest
		if err != nil {
			return err
		}
		n, err := io.Copy(w, io.LimitReader(body, want.Size+1))
		if err == nil && n != want.Size {
			err = fmt.Errorf("blob %s has another size than the %d bytes that the manifest says", want.Digest, want.Size)
		}
		return errors.Join(err, body.Close())
	})
}

// do runs one call within a session. Refused credentials are looked up once more, and where they have changed the call is made again.
func (c *Client) do(ctx context.Context, a Access, call func(context.Context, *session) error) error {
	ctx, terms := withTerms(ctx, a.Insecure)
	key := sessionKey{repo: a.Repo.Name(), owner: a.Owner, insecure: a.Insecure}
	s, fresh, err := c.session(ctx, key, a, false)
	if err == nil {
		err = call(ctx, s)
	}
	if s != nil && refused(err) {
		c.forget(key, s)
		if !fresh {
			renewed, _, rerr := c.session(ctx, key, a, true)
			switch {
			case rerr != nil:
				err = rerr
			case renewed.login != s.login:
				s = renewed
				err = call(ctx, s)
			}
		}
	}
	return classify(ctx, err, terms, s == nil || s.anonymous)
}

// session returns the session for the key, and whether its credentials were looked up just now.
func (c *Client) session(ctx context.Context, key sessionKey, a Access, renew bool) (*session, bool, error) {
	c.mu.Lock()
	s := c.sessions[key]
	c.mu.Unlock()
	if s != nil && !renew && time.Since(time.Unix(0, s.lookedUp.Load())) < loginAge {
		return s, false, nil
	}
	auth, err := a.Login(ctx)
	if err != nil {
		return nil, true, &loginError{err}
	}
	conf, err := authn.Authorization(ctx, auth)
	if err != nil {
		return nil, true, &loginError{err}
	}
	sum, err := json.Marshal(conf)
	if err != nil {
		return nil, true, &loginError{err}
	}
	fresh := &session{login: sha256.Sum256(sum), anonymous: *conf == authn.AuthConfig{}}
	fresh.lookedUp.Store(time.Now().UnixNano())
	if s != nil && s.login == fresh.login {
		s.lookedUp.Store(time.Now().UnixNano())
		return s, true, nil
	}
	fresh.transport, err = transport.NewWithContext(ctx, a.Repo.Registry, authn.FromConfig(*conf), c.transport, []string{a.Repo.Scope(transport.PullScope)})
	if err != nil {
		return fresh, true, err // says whether there were credentials; not kept
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[key] = fresh
	return fresh, true, nil
}

func (c *Client) forget(key sessionKey, s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions[key] == s {
		delete(c.sessions, key)
	}
}

// options make a remote call use the session as it is: no ping, no retries.
func (s *session) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(s.transport)}
}
