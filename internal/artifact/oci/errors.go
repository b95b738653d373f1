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
	ErrUnavailable  = errors.New("registry unavailable") // it answered 5xx
	ErrNetwork      = errors.New("network error")        // no answer, or one that broke off
	ErrClock        = errors.New("certificate not yet valid at this clock")
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

// loginError is a failure to look credentials up; it is no answer of a registry.
type loginError struct{ err error }

func (e *loginError) Error() string { return "look up credentials: " + e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// classify gives an error its kind and takes out of it what may be secret: queries of URLs hold signatures.
func classify(ctx context.Context, err error, t *terms, anonymous bool) error {
	if err == nil {
		return nil
	}
	var login *loginError
	var plain *plainHTTPError
	switch {
	case errors.As(err, &login):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &plain):
		return &Error{Kind: ErrNetwork, Anonymous: anonymous, err: withReason(redact(err), plain)}
	}
	out := &Error{err: redact(err), Anonymous: anonymous, after: time.Duration(t.after.Load())}
	var answer *transport.Error
	var request *url.Error
	switch {
	case errors.As(err, &answer):
		switch code := answer.StatusCode; {
		case code == http.StatusNotFound:
			out.Kind = ErrNotFound
		case code == http.StatusUnauthorized || code == http.StatusForbidden:
			out.Kind = ErrUnauthorized
		case code == http.StatusTooManyRequests:
			out.Kind = ErrRateLimited
		case code >= http.StatusInternalServerError:
			out.Kind = ErrUnavailable
		default:
			return out.err
		}
		out.err = errors.New(describe(answer))
	case errors.As(err, &request), errors.Is(err, io.ErrUnexpectedEOF):
		out.Kind = ErrNetwork
	default:
		return out.err
	}
	return out
}

// withReason adds why plain HTTP was not tried to the failure of HTTPS, where the error does not say so already.
func withReason(err error, plain *plainHTTPError) error {
	if strings.Contains(err.Error(), plain.Error()) {
		return err
	}
	return fmt.Errorf("%w; %w", err, plain)
}

// describe says what the registry answered, in one line: status, then its own words if it sent any in the form that the spec asks for.
func describe(e *transport.Error) string {
	s := fmt.Sprintf("the registry answered %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	if e.Request != nil {
		s += " to " + e.Request.Method + " " + bare(e.Request.URL)
	}
	for _, d := range e.Errors {
		s += fmt.Sprintf(": %s: %s", d.Code, d.Message)
	}
	return s
}

// redact takes credentials and queries out of the URLs that errors of net/http quote.
func redact(err error) error {
	var u *url.Error
	if !errors.As(err, &u) {
		return err
	}
	where := "the registry"
	if parsed, perr := url.Parse(u.URL); perr == nil {
		where = bare(parsed)
	}
	return fmt.Errorf("%s %s: %w", u.Op, where, u.Err)
}

// bare is a URL without credentials, query and fragment.
func bare(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// refused reports whether the registry did not like the credentials.
func refused(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && (e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusForbidden)
}

// headRefused reports whether a failed HEAD says something about HEAD itself: the method was not liked, or the answer lacked the digest. Everything else
// would befall a GET as well.
func headRefused(ctx context.Context, err error) bool {
	var answer *transport.Error
	if errors.As(err, &answer) {
		switch answer.StatusCode {
		case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			return true
		}
		return false
	}
	var request *url.Error
	return ctx.Err() == nil && !errors.As(err, &request)
}
