package oci

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// A token is renewed before it expires, by a tenth of its life and at most this: a request that starts now must not arrive with an expired one.
const maxTokenMargin = 30 * time.Second

// maxTokenLife is what of a token's life is believed, in seconds: a year, which no arithmetic overflows.
const maxTokenLife = 365 * 24 * 60 * 60

var (
	// bearerChallenge is what a WWW-Authenticate header wants of tokens (RFC 9110, 11.6.1); one line may hold several challenges.
	bearerChallenge = regexp.MustCompile(`(?i)(?:^|,)\s*bearer\s+((?:[a-z_]+\s*=\s*"[^"]*"[\s,]*)+)`)
	// challengeParam is one of its parameters as registries write them: quoted.
	challengeParam = regexp.MustCompile(`([a-zA-Z_]+)\s*=\s*"([^"]*)"`)
)

// guard authenticates requests to one registry, and only those: whoever a redirect leads to gets nothing. Where the registry wants tokens, one is fetched
// when it is first needed and used until it expires; a refused one is renewed once.
type guard struct {
	base     http.RoundTripper
	registry name.Registry
	scheme   string
	conf     authn.AuthConfig

	// turn is held by whoever uses the fields below; a channel, so that waiting for a token ends with the context.
	turn      chan struct{}
	challenge *transport.Challenge // nil where no tokens are wanted
	scopes    []string
	token     string
	renewAt   time.Time // zero: the token service did not say how long the token lives
}

func newGuard(base http.RoundTripper, reg name.Registry, conf authn.AuthConfig, ch *transport.Challenge, scope string) *guard {
	g := &guard{base: base, registry: reg, scheme: "https", conf: conf, turn: make(chan struct{}, 1), scopes: []string{scope}, token: conf.RegistryToken}
	if ch.Insecure {
		g.scheme = "http"
	}
	if strings.EqualFold(ch.Scheme, "bearer") {
		g.challenge = ch
	}
	return g
}

// RoundTrip sends the request with what the registry wants to see.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if !g.owns(req.URL) {
		return g.base.RoundTrip(req)
	}
	token, err := g.current(req.Context())
	if err != nil {
		closeBody(req)
		return nil, err
	}
	res, err := g.base.RoundTrip(g.sign(req, token))
	if err != nil || res.StatusCode != http.StatusUnauthorized || g.conf.RegistryToken != "" {
		return res, err
	}
	again := req.Clone(req.Context())
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return res, nil
		}
		if again.Body, err = req.GetBody(); err != nil {
			return nil, errors.Join(err, res.Body.Close())
		}
	}
	renewed, wanted, err := g.renew(req.Context(), token, res.Header)
	if err != nil {
		closeBody(again)
		return nil, errors.Join(err, res.Body.Close())
	}
	if !wanted {
		closeBody(again)
		return res, nil
	}
	_ = res.Body.Close() // not read: the connection may be lost, the answer is of no use
	return g.base.RoundTrip(g.sign(again, renewed))
}

// owns reports whether a URL is the registry's own.
func (g *guard) owns(u *url.URL) bool {
	return strings.EqualFold(withPort(u.Host, g.scheme), withPort(g.registry.RegistryStr(), g.scheme))
}

func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "443"
	if scheme == "http" {
		port = "80"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// sign is the request as it is sent to the registry. Its own headers stay without credentials, so that none are copied to where a redirect leads.
func (g *guard) sign(req *http.Request, token string) *http.Request {
	out := req.Clone(req.Context())
	out.URL.Scheme = g.scheme
	switch {
	case token != "":
		out.Header.Set("Authorization", "Bearer "+token)
	case g.conf.Username != "" && g.conf.Password != "":
		out.SetBasicAuth(g.conf.Username, g.conf.Password)
	case g.conf.Auth != "":
		out.Header.Set("Authorization", "Basic "+g.conf.Auth)
	}
	return out
}

// current is the token to use: none, the one at hand, or a new one where that is missing or about to expire.
func (g *guard) current(ctx context.Context) (string, error) {
	if err := g.take(ctx); err != nil {
		return "", err
	}
	defer g.give()
	if g.challenge == nil || g.conf.RegistryToken != "" || g.token != "" && (g.renewAt.IsZero() || time.Now().Before(g.renewAt)) {
		return g.token, nil
	}
	return g.token, g.fetch(ctx)
}

// renew replaces a token that was refused, unless somebody else has already. It is not wanted where the registry asks for something else than tokens.
func (g *guard) renew(ctx context.Context, refused string, header http.Header) (token string, wanted bool, err error) {
	if err := g.take(ctx); err != nil {
		return "", false, err
	}
	defer g.give()
	if g.token != refused {
		return g.token, true, nil
	}
	if ch := g.bearer(header); ch != nil {
		g.challenge = ch
	}
	if g.challenge == nil {
		return "", false, nil
	}
	return g.token, true, g.fetch(ctx)
}

// bearer reads from a refusal where tokens are to be had and for what; nil where it does not say.
func (g *guard) bearer(header http.Header) *transport.Challenge {
	for _, h := range header.Values("WWW-Authenticate") {
		found := bearerChallenge.FindStringSubmatch(h)
		if found == nil {
			continue
		}
		ch := &transport.Challenge{Scheme: "bearer", Parameters: map[string]string{}, Insecure: g.scheme == "http"}
		for _, m := range challengeParam.FindAllStringSubmatch(found[1], -1) {
			ch.Parameters[strings.ToLower(m[1])] = m[2]
		}
		// Some token services look at the first scope only.
		if want := ch.Parameters["scope"]; want != "" && !slices.Contains(g.scopes, want) && len(g.scopes) < maxScopes {
			g.scopes = slices.Insert(g.scopes, 0, want)
		}
		if ch.Parameters["realm"] != "" {
			return ch
		}
	}
	return nil
}

// maxScopes bounds what a registry can make us ask for.
const maxScopes = 4

// fetch gets a token. The caller has the turn.
func (g *guard) fetch(ctx context.Context) error {
	auth := authn.Anonymous
	if g.conf != (authn.AuthConfig{}) {
		auth = authn.FromConfig(g.conf)
	}
	asked := time.Now()
	got, err := transport.Exchange(ctx, g.registry, auth, g.base, g.scopes, g.challenge)
	if err != nil {
		return &tokenError{err}
	}
	g.token, g.renewAt = got.Token, time.Time{}
	if got.AccessToken != "" {
		g.token = got.AccessToken
	}
	if life := time.Duration(min(got.ExpiresIn, maxTokenLife)) * time.Second; life > 0 {
		g.renewAt = asked.Add(life - min(life/10, maxTokenMargin))
	}
	return nil
}

func (g *guard) take(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *guard) give() { <-g.turn }

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // read-only
	}
}

// tokenError is a failure at the token service. What the service said beyond a status is not quoted: it may hold a token.
type tokenError struct{ err error }

func (e *tokenError) Error() string {
	var answer *transport.Error
	var request *url.Error
	switch {
	case errors.As(e.err, &answer):
		return "get a token: " + describe(answer)
	case errors.As(e.err, &request):
		return "get a token: " + redact(e.err).Error()
	case strings.Contains(e.err.Error(), "realm"):
		return "get a token: " + scrub(e.err.Error())
	}
	return "get a token: the token service's answer holds none"
}

func (e *tokenError) Unwrap() error { return e.err }

// senseless reports whether the token service answered something that is no token.
func (e *tokenError) senseless() bool {
	var answer *transport.Error
	var request *url.Error
	return !errors.As(e.err, &answer) && !errors.As(e.err, &request)
}
