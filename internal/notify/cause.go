package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"unicode/utf8"
)

// maxMessage bounds the message of an event, in bytes: a chat takes no more, and a target of a thousand objects can say very much.
const maxMessage = 4 << 10

// place is what may be shown of an address: scheme and host. What is behind them is a password as often as not.
func place(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return "(not a URL)"
	}
	return u.Scheme + "://" + u.Host
}

// cause says in our own words why a request failed. The error's words are not used, since they hold addresses and pieces of answers; false: nothing in it is known.
func cause(err error) (string, bool) {
	var (
		lookup  *net.DNSError
		invalid *tls.CertificateVerificationError
		dated   x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		timeout net.Error
		number  syscall.Errno
	)
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled", true
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return "the host's name is not known", true
	case lookup != nil:
		return "the host's name could not be looked up: the name server does not answer as it should", true
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time", true
	case errors.As(err, &unknown):
		return "the certificate is signed by an authority that this system does not trust", true
	case errors.As(err, &host):
		return "the certificate is for another host", true
	case errors.As(err, &dated) && dated.Reason == x509.Expired:
		return "the certificate is expired or not valid yet, or this machine's clock is wrong", true
	case errors.As(err, &invalid):
		return "the certificate is not valid", true
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "no TLS there", true
	case errors.As(err, &alert):
		return "the TLS handshake was refused", true
	case errors.As(err, &number):
		return number.Error(), true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection broke off", true
	}
	return "", false
}

// withUser finds a user or password in a URL, for messages that come from outside: errors of ours have none.
var withUser = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s"']+@`)

// presentable makes a message fit to be sent: valid, of bounded length, without credentials in URLs.
func presentable(s string) string {
	return cut(withUser.ReplaceAllString(strings.ToValidUTF8(s, "�"), "$1"), maxMessage)
}

// cut shortens a text to at most limit bytes without breaking a character.
func cut(s string, limit int) string {
	const more = "…"
	if len(s) <= limit {
		return s
	}
	end := limit - len(more)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + more
}
