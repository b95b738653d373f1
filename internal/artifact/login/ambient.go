package login

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/singleflight"
)

const (
	// patience with a cloud's endpoints, in all: on a machine outside of the cloud nothing answers at their addresses, and polls must go on.
	patience = 10 * time.Second
	// margin before a token's end at which it is replaced: a long pull must not outlive it.
	margin = 5 * time.Minute
)

// cloud is how to log in at one provider.
type cloud struct {
	name   string
	tried  string                                                // where it looks for an identity, for messages
	serves func(host string) bool                                // whether a registry is the cloud's; host is lower-case and without port
	shared bool                                                  // one token is good for all of its registries
	fetch  func(ctx context.Context, host string) (token, error) // always asks; may outstay its context
}

// token is what a cloud gave.
type token struct {
	auth    authn.AuthConfig
	expires time.Time
}

// ambient is a keychain with the tokens of a cloud.
type ambient struct {
	cloud
	now      func() time.Time
	patience time.Duration
	flights  singleflight.Group

	mu     sync.Mutex // guards tokens
	tokens map[string]token
}

func newAmbient(c cloud) *ambient {
	return &ambient{cloud: c, now: time.Now, patience: patience, tokens: map[string]token{}}
}

// Resolve is ResolveContext without a context.
func (a *ambient) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return a.ResolveContext(context.Background(), r)
}

// ResolveContext gives the token for a registry of this cloud, a new one where the last is about to expire. Errors hold no tokens.
func (a *ambient) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	host := hostname(r.RegistryStr())
	if !a.serves(host) {
		return authn.Anonymous, nil
	}
	t, err := a.token(ctx, host)
	if err != nil {
		return nil, err
	}
	return authn.FromConfig(t.auth), nil
}

func (a *ambient) token(ctx context.Context, host string) (token, error) {
	key := host
	if a.shared {
		key = ""
	}
	last := a.last(key)
	if a.now().Before(last.expires.Add(-margin)) {
		return last, nil
	}
	t, err := a.refresh(ctx, key, host)
	if err != nil && a.now().Before(last.expires) { // still good: tried again next time
		return last, nil
	}
	return t, err
}

// refresh asks the cloud, once for all who wait. Some libraries cannot be interrupted: then only the wait ends, and the next one joins what still runs.
func (a *ambient) refresh(ctx context.Context, key, host string) (token, error) {
	wait, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	answer := a.flights.DoChan(key, func() (any, error) {
		if t := a.last(key); a.now().Before(t.expires.Add(-margin)) { // the flight before this one brought it
			return t, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.patience)
		defer cancel()
		t, err := a.fetch(ctx, host)
		if err != nil {
			return token{}, err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.tokens[key] = t
		return t, nil
	})
	select {
	case r := <-answer:
		if r.Err != nil {
			return token{}, a.failure(host, r.Err)
		}
		return r.Val.(token), nil
	case <-wait.Done():
		if ctx.Err() != nil {
			return token{}, fmt.Errorf("%s login for %s: %w", a.name, host, context.Cause(ctx))
		}
		return token{}, a.failure(host, wait.Err())
	}
}

// failure says what was tried and what else can be done. The libraries' errors may quote answers: they are kept as scrubbed text.
func (a *ambient) failure(host string, err error) error {
	what := scrub(err.Error())
	if errors.Is(err, context.DeadlineExceeded) {
		what = fmt.Sprintf("no answer within %s", a.patience)
	}
	return fmt.Errorf("%s login for %s: %s; tried %s; without such an identity, name credentials in secretRef or credentialFiles", a.name, host, what, a.tried)
}

func (a *ambient) last(key string) token {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tokens[key]
}

// hostname is a registry without port, lower-case.
func hostname(registry string) string {
	if h, _, err := net.SplitHostPort(registry); err == nil {
		registry = h
	}
	return strings.ToLower(registry)
}
