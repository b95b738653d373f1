package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/towline/towline/internal/deploy"
)

const (
	// webhookTimeout bounds one request. A receiver has only to note what it is told.
	webhookTimeout = 15 * time.Second
	// maxAnswer is how much of an answer is read, in bytes: enough that the connection can be used again. Nobody looks at it.
	maxAnswer = 4 << 10
)

// webhook sends events by HTTP POST: the types generic and generic-hmac.
type webhook struct {
	account  account
	client   *http.Client
	instance string
}

// newTransport is for receivers on the other side of networks that may be bad: few connections, none kept for long. A request without an answer takes its connection
// with it in HTTP/1 only; in HTTP/2 the next ones would go the same way to nowhere.
func newTransport() *http.Transport {
	const idle = 30 * time.Second
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		Protocols:           protocols,
		TLSHandshakeTimeout: webhookTimeout,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     idle,
	}
}

func newSender(s deploy.Sink, o Options) sender {
	a := account{sink: s, secret: o.Secret}
	if s.Spec.Type == deploy.SinkShoutrrr {
		return &chat{account: a, instance: o.Instance}
	}
	return &webhook{account: a, instance: o.Instance, client: &http.Client{
		Transport: o.Transport,
		// A redirect turns a POST into a GET, or carries the token to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (w *webhook) send(ctx context.Context, e deploy.Event) error {
	err := w.post(ctx, e)
	if err != nil {
		w.account.forget()
	}
	return err
}

func (w *webhook) post(ctx context.Context, e deploy.Event) error {
	address, token, err := w.account.load(ctx)
	if err != nil {
		return err
	}
	spec := w.account.sink.Spec
	signed := spec.Type == deploy.SinkGenericHMAC
	if signed && token == "" {
		return errors.New("generic-hmac needs a key: give it in tokenFile, or under the key token of the Secret")
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("the address of the sink is not an http or https URL")
	}
	body, err := encode(e, spec, w.instance)
	if err != nil {
		return permanent{fmt.Errorf("encode an event: %w", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return errors.New("the address of the sink is not an http or https URL")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", controller)
	switch {
	case signed:
		r.Header.Set("X-Signature", "sha256="+signature(token, body))
	case token != "":
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := w.client.Do(r)
	if err != nil {
		why, ok := cause(err)
		if !ok {
			why = "the request failed"
		}
		return unreached{fmt.Errorf("POST to %s: %s", place(address), why)}
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // the status is the answer
	return judge(resp.StatusCode, resp.Header.Get("Retry-After"), time.Now(), place(address))
}

func signature(key string, body []byte) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// judge says what an answer means: nil for a receiver that took the event, and otherwise whether and when to try again.
func judge(status int, retryAfter string, now time.Time, where string) error {
	if status >= 200 && status < 300 {
		return nil
	}
	err := fmt.Errorf("POST to %s: answered %d %s", where, status, http.StatusText(status))
	switch {
	case status >= 300 && status < 400:
		err = fmt.Errorf("%w: redirects are not followed, give the address that it leads to", err)
	case refusesEvent(status):
		return permanent{err}
	}
	if after, ok := parseRetryAfter(retryAfter, now); ok {
		return later{err, after}
	}
	return err
}

// refusesEvent reports whether a status is about what was sent, which stays as it is. The other ones are about address or credentials, which somebody may be changing
// in the Secret or file just now, or about the receiver's health.
func refusesEvent(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone, http.StatusProxyAuthRequired,
		http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return status >= 400 && status < 500
}

// parseRetryAfter reads seconds or an HTTP date (RFC 9110, section 10.2.3).
func parseRetryAfter(s string, now time.Time) (time.Duration, bool) {
	if n, err := strconv.ParseInt(s, 10, 32); err == nil && n >= 0 {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}
