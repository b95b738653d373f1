package oci

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	// maxQuote is how much of a registry's own words an error repeats, in bytes.
	maxQuote = 300
	// maxText is how long the text of an error gets, in bytes: those of net/http may quote whole headers.
	maxText = 1200
	// minSecret is the length of the shortest secret that is looked for, in bytes: shorter ones are parts of words.
	minSecret = 4
	// hidden stands where a secret was.
	hidden = "(hidden)"
)

var (
	// anyURL finds URLs within text.
	anyURL = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]+`)
	// anyQuery finds queries of URLs that have no host: signatures are in there.
	anyQuery = regexp.MustCompile(`\?[^\s"'<>]*=[^\s"'<>]*`)
	// anyLogin finds the value of an Authorization header.
	anyLogin = regexp.MustCompile(`(?i)\b(basic|bearer)(?: +|%20|\+)[a-zA-Z0-9._~+/-]{8,}=*`)
)

// describe says what the registry answered, in one line: status, then its own words if it sent any in the form that the spec asks for. Some repeat what they
// were sent.
func describe(e *transport.Error) string {
	s := fmt.Sprintf("the registry answered %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	if e.Request != nil {
		s += " to " + e.Request.Method + " " + bare(e.Request.URL)
	}
	var words strings.Builder
	for _, d := range e.Errors {
		fmt.Fprintf(&words, ": %s: %s", d.Code, d.Message)
	}
	return s + quote(words.String(), secretsOf(e.Request)...)
}

// secretsOf is what a request as it was sent has proven itself with, in the forms that an answer may repeat.
func secretsOf(req *http.Request) []string {
	if req == nil {
		return nil
	}
	var out []string
	add := func(secret string) {
		if len(secret) >= minSecret {
			out = append(out, secret, url.QueryEscape(secret))
		}
	}
	if scheme, value, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok {
		add(value)
		if raw, err := base64.StdEncoding.DecodeString(value); err == nil && strings.EqualFold(scheme, "basic") {
			_, password, _ := strings.Cut(string(raw), ":")
			add(password)
		}
	}
	if req.Header.Get("Content-Type") == "application/x-www-form-urlencoded" && req.GetBody != nil { // of a token service
		if body, err := req.GetBody(); err == nil {
			form := http.Request{Method: req.Method, Header: req.Header, Body: body}
			add(form.PostFormValue("refresh_token"))
		}
	}
	return out
}

// quote is a registry's words as an error may repeat them: one line, not too long, without secrets and what URLs may hide.
func quote(s string, secrets ...string) string {
	for _, secret := range secrets {
		s = strings.ReplaceAll(s, secret, hidden)
	}
	return shorten(scrub(s), maxQuote)
}

// scrub makes one line of a text, and takes out logins, and the credentials and queries of URLs.
func scrub(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, s)
	s = anyURL.ReplaceAllStringFunc(s, func(raw string) string {
		u, err := url.Parse(raw)
		if err != nil {
			return "(a URL)"
		}
		return bare(u)
	})
	return anyLogin.ReplaceAllStringFunc(anyQuery.ReplaceAllString(s, ""), func(login string) string {
		if login[1:] == strings.ToLower(login[1:]) && !strings.ContainsAny(login, "0123456789") {
			return login // words, such as "Basic authentication"
		}
		return login[:strings.IndexAny(login, " %+")] + " " + hidden
	})
}

func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// scrubbed is an error whose text was scrubbed; what is behind it stays.
type scrubbed struct {
	text string
	err  error
}

func (e *scrubbed) Error() string { return e.text }
func (e *scrubbed) Unwrap() error { return e.err }

// redact takes out of an error of net/http what may be secret: it quotes URLs, and what it did not understand.
func redact(err error) error {
	text := err.Error()
	var u *url.Error
	if errors.As(err, &u) {
		where := u.URL
		if parsed, perr := url.Parse(u.URL); perr == nil && parsed.Host != "" {
			where = bare(parsed)
		}
		text = fmt.Sprintf("%s %s: %v", u.Op, where, u.Err)
	}
	return &scrubbed{shorten(scrub(text), maxText), err}
}

// withoutPrefix is an error without the sentinel's words at its beginning: the kind says them already.
func withoutPrefix(err error, all ...error) error {
	return &scrubbed{strings.TrimPrefix(shorten(scrub(err.Error()), maxText), sentinel(err, all...).Error()+": "), err}
}

// bare is a URL without credentials, query and fragment.
func bare(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
