package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Why a call failed, where somebody may want to branch on it.
var (
	ErrNotFound     = errors.New("not found")
	ErrUnauthorized = errors.New("unauthorized")
	ErrRateLimited  = errors.New("rate limited")
	ErrUnavailable  = errors.New("registry unavailable") // it answered 5xx, or what no registry answers
	ErrNetwork      = errors.New("network error")        // no answer, or one that broke off

	// ErrClock is behind an ErrNetwork: the registry's certificate begins in the future.
	ErrClock = errors.New("the certificate is not yet valid")
	// ErrDigest is content other than what the digest names.
	ErrDigest = errors.New("wrong digest")
	// ErrRoute is certificates, a key or a proxy that cannot be used. Nothing was sent.
	ErrRoute = errors.New("unusable certificates or proxy")
)

var errTooLong = errors.New("the answer is longer than a registry may send")

// Error is a failed call: one of the sentinels above and what was behind it.
type Error struct {
	// Kind is one of the sentinels.
	Kind error
	// Anonymous says that no credentials were sent.
	Anonymous bool
	after     time.Duration
	err       error
}

func (e *Error) Error() string   { return fmt.Sprintf("%v: %v", e.Kind, e.err) }
func (e *Error) Unwrap() []error { return []error{e.Kind, e.err} }

// RetryAfter is how long the registry asked to be left alone, if it did.
func (e *Error) RetryAfter() (time.Duration, bool) { return e.after, e.after > 0 }

// loginError is a failure to look up credentials, certificates or a proxy; it is no answer of a registry.
type loginError struct {
	doing string
	err   error
}

func (e *loginError) Error() string { return e.doing + ": " + e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// pingError is a host that does not answer as a registry's does, or not at all.
type pingError struct{ err error }

func (e *pingError) Error() string { return e.err.Error() }
func (e *pingError) Unwrap() error { return e.err }

// answerError is an answer that makes no sense.
type answerError struct{ what string }

func (e *answerError) Error() string { return e.what }

// senseless is the error for an answer that is not what it should be: most often somebody else answers in the registry's place.
func senseless(res *http.Response, is string) error {
	kind := "without a type"
	if t := res.Header.Get("Content-Type"); t != "" {
		kind = "of type " + quote(t)
	}
	where := "the registry"
	if res.Request != nil {
		where = res.Request.Method + " " + bare(res.Request.URL)
	}
	return &answerError{fmt.Sprintf("the answer to %s, %s, is %s: a portal or a proxy may answer in the registry's place", where, kind, is)}
}

// classify gives an error its kind and takes out of it what may be secret: queries of URLs hold signatures.
func classify(ctx context.Context, err error, t *terms, anonymous bool) error {
	if err == nil {
		return nil
	}
	var login *loginError
	var source *sourceError
	switch {
	case errors.As(err, &login), errors.As(err, &source):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	out := &Error{Anonymous: anonymous, after: time.Duration(t.after.Load())}
	out.Kind, out.err = kind(err)
	if out.Kind == nil {
		return out.err
	}
	return out
}

// kind is the sentinel that an error belongs to, nil if none, and what to say.
func kind(err error) (error, error) {
	var plain *plainHTTPError
	var proxy *proxyError
	var token *tokenError
	var ping *pingError
	var answer *answerError
	var request *url.Error
	hint, isTLS := tlsFailure(err, time.Now())
	refusal, isAnswer := asAnswer(err)
	switch {
	case errors.Is(err, ErrRoute), errors.Is(err, ErrDigest):
		return sentinel(err, ErrRoute, ErrDigest), withoutPrefix(err, ErrRoute, ErrDigest)
	case isTLS:
		return ErrNetwork, fmt.Errorf("%w; %w", redact(err), hint)
	case errors.As(err, &proxy) && proxy.status == http.StatusProxyAuthRequired:
		return ErrUnauthorized, proxy
	case errors.As(err, &proxy):
		return ErrNetwork, proxy
	case errors.As(err, &plain):
		return ErrNetwork, withReason(redact(err), plain)
	case tlsOnly(err):
		return ErrNetwork, fmt.Errorf("%w; the host speaks TLS only, and may want a client certificate: set tls.crt and tls.key with certSecretRef or certFiles",
			redact(err))
	case errors.As(err, &token) && token.senseless():
		return ErrUnavailable, token
	case token != nil && !isAnswer:
		return ErrNetwork, redact(err)
	case token != nil && refusal.StatusCode == http.StatusNotFound:
		return ErrUnavailable, token // what is missing is not what was asked for
	case token != nil:
		return answered(refusal.StatusCode), token
	case isAnswer && refusal.StatusCode == http.StatusNotFound && errors.As(err, &ping):
		return ErrUnavailable, fmt.Errorf("no registry is there: %s", describe(refusal))
	case isAnswer:
		return answered(refusal.StatusCode), errors.New(describe(refusal))
	case errors.As(err, &answer):
		return ErrUnavailable, &scrubbed{shorten(scrub(answer.what), maxText), err}
	case errors.Is(err, errTooLong):
		return ErrUnavailable, redact(err)
	case errors.As(err, &request), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrNetwork, redact(err)
	}
	return nil, redact(err)
}

// answered is the kind of an answer with the status.
func answered(status int) error {
	switch {
	case status == http.StatusNotFound:
		return ErrNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return ErrUnauthorized
	case status == http.StatusTooManyRequests:
		return ErrRateLimited
	case status >= http.StatusInternalServerError:
		return ErrUnavailable
	}
	return nil
}

// asAnswer finds the answer behind an error.
func asAnswer(err error) (*transport.Error, bool) {
	var answer *transport.Error
	ok := errors.As(err, &answer)
	return answer, ok
}

// tlsOnly reports whether HTTPS failed and plain HTTP was refused after that: then the refusal tells nothing. A peer that hangs up for want of a client
// certificate is not always heard to say so.
func tlsOnly(err error) bool {
	var request *url.Error
	refusal, ok := asAnswer(err)
	return ok && refusal.StatusCode == http.StatusBadRequest && refusal.Request != nil && refusal.Request.URL.Scheme == "http" &&
		errors.As(err, &request) && strings.HasPrefix(request.URL, "https://")
}

// withReason adds why plain HTTP was not tried to the failure of HTTPS, where the error does not say so already.
func withReason(err error, plain *plainHTTPError) error {
	if strings.Contains(err.Error(), plain.Error()) {
		return err
	}
	return fmt.Errorf("%w; %w", err, plain)
}

// sentinel is the first of the sentinels that an error is.
func sentinel(err error, all ...error) error {
	for _, s := range all {
		if errors.Is(err, s) {
			return s
		}
	}
	return nil
}

// stale reports whether a failure may come from credentials, certificates or a proxy that have been replaced since. With a client certificate, every failure
// of the network before the answer may: see tlsOnly.
func stale(err error, s *session) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var proxy *proxyError
	var request *url.Error
	if errors.As(err, &proxy) && proxy.status == http.StatusProxyAuthRequired {
		return true
	}
	if errors.As(err, &request) && s.mutual && request.Op != readingAnswer {
		return true
	}
	if _, isTLS := tlsFailure(err, time.Now()); isTLS {
		return true
	}
	answer, ok := asAnswer(err)
	return ok && errors.Is(answered(answer.StatusCode), ErrUnauthorized)
}
