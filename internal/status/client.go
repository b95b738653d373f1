package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/towline/towline/internal/deploy"
)

const (
	// connectTimeout is how long an agent may take to accept a connection.
	connectTimeout = 5 * time.Second
	// requestTimeout is how long a request may take that does not watch: a reload reads and checks all of the config.
	requestTimeout = 30 * time.Second
	// maxAnswer bounds what is read of one answer, in bytes: far above a board of 10,000 targets.
	maxAnswer = 256 << 20
)

// What a client's errors may wrap.
var (
	// ErrNoAgent: nothing listens there.
	ErrNoAgent = errors.New("no agent is running there")
	// ErrReadOnly: the agent takes no commands over this address.
	ErrReadOnly = errors.New("the agent takes no commands there")
)

// Client talks to a running agent.
type Client struct {
	where string // as messages name it
	base  string // URL without a slash at the end
	http  *http.Client
}

// NewClient returns a client for a unix socket (a path with a slash in it, or unix:PATH) or an address (host:port, or an http or https URL). It does not connect yet.
func NewClient(socketOrAddress string) (*Client, error) {
	dialer := &net.Dialer{Timeout: connectTimeout}
	// A connection per request: a command makes one or two, and nothing is left open behind it.
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	c := &Client{http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	path, isUnix := strings.CutPrefix(socketOrAddress, "unix:")
	isURL := strings.HasPrefix(socketOrAddress, "http://") || strings.HasPrefix(socketOrAddress, "https://")
	switch {
	case isUnix || !isURL && strings.Contains(socketOrAddress, "/"):
		path = strings.TrimPrefix(path, "//")
		c.where, c.base = "the socket "+path, "http://towline"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) }
		return c, nil
	case isURL:
		u, err := url.Parse(socketOrAddress)
		if err != nil || u.Host == "" {
			return nil, errors.New("the agent's address is not a valid URL: want http://host:port")
		}
		c.where, c.base = u.Redacted(), strings.TrimSuffix(u.String(), "/")
		return c, nil
	}
	if _, _, err := net.SplitHostPort(socketOrAddress); err != nil {
		return nil, fmt.Errorf("%q is neither an address, host:port, nor the path of a socket: %w", socketOrAddress, err)
	}
	c.where, c.base = socketOrAddress, "http://"+socketOrAddress
	return c, nil
}

// Status is a snapshot of the agent's board.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodGet, "/api/v1/status", nil, &s)
	return s, err
}

// Target explains a target. ErrUnknown: the agent has none of that name.
func (c *Client) Target(ctx context.Context, n deploy.Name) (Explanation, error) {
	var x Explanation
	path := "/api/v1/targets/" + url.PathEscape(n.Kind.Word()) + "/" + url.PathEscape(n.Namespace) + "/" + url.PathEscape(n.Name)
	err := c.call(ctx, http.MethodGet, path, nil, &x)
	return x, err
}

// Reconcile asks the agent to run a target or source now. It returns when the agent accepted that.
func (c *Client) Reconcile(ctx context.Context, n deploy.Name, how Haste) error {
	return c.call(ctx, http.MethodPost, "/api/v1/reconcile", reconcileRequest{Name: n.String(), Haste: how}, nil)
}

// Reload asks the agent to read its config again. The error says what is wrong with it.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/api/v1/reload", struct{}{}, nil)
}

// Rollback asks the agent to bring a target back to an earlier revision, empty being the last good one before the newest, waits until that is done and returns which it was. Where the
// context ends first, the agent goes on.
func (c *Client) Rollback(ctx context.Context, n deploy.Name, revision string) (string, error) {
	resp, err := c.do(ctx, http.MethodPost, "/api/v1/rollback", rollbackRequest{Name: n.String(), Revision: revision}) // without requestTimeout: a release takes minutes
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var out RolledBack
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return "", fmt.Errorf("read the agent's answer from %s: %w", c.where, err)
	}
	return out.Revision, nil
}

// call makes one request and reads the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("read the agent's answer from %s: %w", c.where, err)
	}
	return nil
}

// do makes one request and returns the answer if it is a success. The caller closes its body.
func (c *Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, c.refused(resp)
	}
	return resp, nil
}

// unreachable says why there was no answer and what to do about it.
func (c *Client) unreachable(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the made-up URL of the socket
	}
	const where = "say where it is with --socket PATH or --address HOST:PORT"
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w: start one with \"towline run\", or %s", c.where, ErrNoAgent, where)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("you may not use %s: run this as the agent's user or as a member of the socket's group: %w", c.where, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the agent at %s does not answer: %w", c.where, err)
	}
	return fmt.Errorf("reach the agent at %s (%s): %w", c.where, where, err)
}

// refused turns an answer that is not a success into an error.
func (c *Client) refused(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	var e apiError
	if json.Unmarshal(b, &e) != nil || e.Error == "" {
		return fmt.Errorf("%s answered %s: is it a towline agent?", c.where, resp.Status)
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return refusal{message: e.Error, sentinel: ErrUnknown}
	case http.StatusForbidden:
		return refusal{message: e.Error, sentinel: ErrReadOnly}
	}
	return errors.New(e.Error)
}

// refusal says what the agent said, which is already a whole sentence, and is the sentinel for errors.Is.
type refusal struct {
	message  string
	sentinel error
}

func (r refusal) Error() string { return r.message }
func (r refusal) Unwrap() error { return r.sentinel }
