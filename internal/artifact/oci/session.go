package oci

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// sessionKey names a session.
type sessionKey struct {
	repo, owner    string
	insecure, push bool
}

// session is how one repository is talked to: where it is, on what route, and with what in hand.
type session struct {
	repo      name.Repository
	guard     *guard
	client    *http.Client
	route     routeKey
	material  [sha256.Size]byte // of credentials and route: changed ones make a new session
	anonymous bool
	mutual    bool         // there is a client certificate
	lookedUp  atomic.Int64 // nanoseconds since started
	mark      atomic.Pointer[string]
	// headless is set when the registry has shown that a HEAD does not tell it the digest.
	headless atomic.Bool
}

// material is what Login and Route gave.
type material struct {
	conf  authn.AuthConfig
	route Route
	sum   [sha256.Size]byte
	mark  string
}

// look reads credentials and route anew. The mark is taken first: what changes in between is read again next time.
func look(ctx context.Context, a Access) (*material, error) {
	m := &material{mark: a.mark()}
	auth, err := a.Login(ctx)
	if err != nil {
		return nil, &loginError{"look up credentials", err}
	}
	conf, err := authn.Authorization(ctx, auth)
	if err != nil {
		return nil, &loginError{"look up credentials", err}
	}
	m.conf = *conf
	if a.Route != nil {
		if m.route, err = a.Route(ctx); err != nil {
			return nil, &loginError{"look up certificates and proxy", err}
		}
	}
	login, err := json.Marshal(conf)
	if err != nil {
		return nil, &loginError{"look up credentials", err}
	}
	route := m.route.key()
	m.sum = sha256.Sum256(append(login, route[:]...))
	return m, nil
}

func (a Access) mark() string {
	if a.Changed == nil {
		return ""
	}
	return a.Changed()
}

// current is the session at hand, unless its credentials must be looked up again, or it was refused.
func (c *Client) current(key sessionKey, a Access, refused *session) (kept, usable *session) {
	c.mu.Lock()
	s := c.sessions[key]
	c.mu.Unlock()
	if s != nil && s != refused && *s.mark.Load() == a.mark() && s.age() < loginAge {
		return s, s
	}
	return s, nil
}

// session returns the session for the key, and whether its material was looked up just now: by one caller for all who wait. A refused session is replaced
// where there is other material now, and else forgotten; then there is none.
func (c *Client) session(ctx context.Context, key sessionKey, a Access, refused *session) (*session, bool, error) {
	if _, s := c.current(key, a, refused); s != nil {
		return s, false, nil
	}
	leave, err := c.turn(ctx, key)
	if err != nil {
		return nil, true, err
	}
	defer leave()
	kept, usable := c.current(key, a, refused)
	if usable != nil { // whoever had the turn before made it
		return usable, false, nil
	}
	m, err := look(ctx, a)
	switch {
	case refused != nil && (err != nil || m.sum == refused.material):
		c.forget(key, refused)
		return nil, true, err
	case err != nil:
		return nil, true, err
	case kept != nil && kept != refused && kept.material == m.sum:
		kept.looked(m)
		return kept, true, nil
	}
	s, err := c.login(ctx, key, a, m)
	return s, true, err
}

// turn waits until nobody else logs in for the key. It ends with the context: a login may take long.
func (c *Client) turn(ctx context.Context, key sessionKey) (leave func(), err error) {
	c.mu.Lock()
	turn := c.turns[key]
	if turn == nil {
		turn = make(chan struct{}, 1)
		c.turns[key] = turn
	}
	c.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// login makes a session and keeps it. With an error, the session says only whether there were credentials, and is not kept.
func (c *Client) login(ctx context.Context, key sessionKey, a Access, m *material) (*session, error) {
	s := &session{repo: a.Repo, material: m.sum, anonymous: m.conf == authn.AuthConfig{}, mutual: len(m.route.Cert) > 0, route: m.route.key()}
	s.looked(m)
	base, own, err := c.through(m.route)
	if err != nil {
		return s, err
	}
	challenge, err := transport.Ping(ctx, a.Repo.Registry, base)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.tidy()
	if err != nil {
		return s, &pingError{err}
	}
	scope := a.Repo.Scope(transport.PullScope)
	if key.push {
		scope = a.Repo.Scope(transport.PushScope)
	}
	s.guard = newGuard(base, a.Repo.Registry, m.conf, challenge, scope)
	s.client = &http.Client{Transport: s.guard}
	c.sessions[key] = s
	if own != nil && c.routes[s.route] == nil { // nobody used it while the registry was asked
		c.routes[s.route] = own
	}
	return s, nil
}

// tidy forgets what nobody used for long: a config that changes names ever new repositories. The caller holds mu.
func (c *Client) tidy() {
	for key, s := range c.sessions {
		if s.age() > unusedAge {
			delete(c.sessions, key)
		}
	}
	for key, turn := range c.turns {
		if c.sessions[key] == nil && len(turn) == 0 { // who just got hold of it logs in beside another: no harm is done
			delete(c.turns, key)
		}
	}
	c.closeUnused()
}

func (s *session) looked(m *material) {
	s.mark.Store(&m.mark)
	s.lookedUp.Store(int64(time.Since(started)))
}

// age is how long ago the material was looked up.
// started is what ages are counted from: the clock of the wall may be set back, and a login would seem young for years.
var started = time.Now()

func (s *session) age() time.Duration { return time.Since(started) - time.Duration(s.lookedUp.Load()) }

func (c *Client) forget(key sessionKey, s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions[key] == s {
		delete(c.sessions, key)
	}
}

// url is a place in the repository's API (distribution spec, "Endpoints").
func (s *session) url(parts ...string) *url.URL {
	return &url.URL{Scheme: s.guard.scheme, Host: s.repo.RegistryStr(), Path: "/v2/" + s.repo.RepositoryStr() + "/" + strings.Join(parts, "/")}
}

// ask sends a request without a body and hands out the answer, whose body must be closed; statuses other than 200 and those named are a *transport.Error.
func (s *session) ask(ctx context.Context, method string, u *url.URL, header http.Header, also ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	return s.send(req, append(also, http.StatusOK)...)
}

func (s *session) send(req *http.Request, want ...int) (*http.Response, error) {
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(res, want...); err != nil {
		return nil, errors.Join(err, res.Body.Close())
	}
	res.Body = &answerBody{ReadCloser: res.Body, from: req.Method + " " + bare(req.URL)}
	return res, nil
}

// read is a whole body of at most so many bytes.
func read(res *http.Response, most int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	if err == nil && int64(len(raw)) > most {
		err = errTooLong
	}
	return raw, err
}

// readingAnswer is the Op of errors that come after the status of an answer.
const readingAnswer = "read the answer to"

// answerBody marks what fails while an answer is read as a failure of the network, and not of whoever it is written to.
type answerBody struct {
	io.ReadCloser
	from string
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, errTooLong) { //nolint:errorlint // io.EOF is never wrapped
		err = &url.Error{Op: readingAnswer, URL: b.from, Err: err}
	}
	return n, err
}
