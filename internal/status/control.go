package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// ErrUnknown is what Controls return, wrapped or not, for a name that is not in the config.
var ErrUnknown = errors.New("there is no such source or target in the config")

// ErrSuspended is what Controls return, wrapped or not, for what does not run because the config says so.
var ErrSuspended = errors.New("it is suspended: remove suspend from its entry in the config first")

// maxBody of a request, in bytes: two short fields.
const maxBody = 16 << 10

// Controls is what can be done to a running agent. Reconcile and Reload return when the work was accepted, not when it is done; all heed the context. Their errors are shown to
// the client as they are, so they must be free of secrets.
type Controls interface {
	// Reconcile makes a target or source run now. ErrUnknown: there is none of that name. ErrSuspended: it, or its source, is suspended.
	Reconcile(ctx context.Context, name deploy.Name, how Haste) error
	// Reload reads the config again. The error says what is wrong with it; the old one stays in force then.
	Reload(ctx context.Context) error
	// Rollback brings a target back to an earlier revision, empty being the last good one before the newest, waits until that is done and says which it was. ErrUnknown: there is none of
	// that name.
	Rollback(ctx context.Context, name deploy.Name, revision string) (to string, err error)
}

// Haste says what else a target is to do that runs now.
type Haste struct {
	// WithSource polls the target's source first.
	WithSource bool `json:"withSource,omitempty"`
	// Force also tries again what is held back until there is news: a quarantined revision, or a release whose retries are used up or that was rolled back by hand.
	Force bool `json:"force,omitempty"`
}

// reconcileRequest is the body of POST /api/v1/reconcile.
type reconcileRequest struct {
	// Name is kind/name or kind/namespace/name.
	Name string `json:"name"`
	Haste
}

// rollbackRequest is the body of POST /api/v1/rollback.
type rollbackRequest struct {
	// Name is kind/name or kind/namespace/name.
	Name string `json:"name"`
	// Revision to go back to: of a release Helm's number, of manifests a tag or digest. Default: the last good one before the newest.
	Revision string `json:"revision,omitempty"`
}

// RolledBack says where a rollback led.
type RolledBack struct {
	Name     deploy.Name `json:"name"`
	Revision string      `json:"revision"`
}

// accepted is the answer to orders that nobody waits for.
type accepted struct {
	Accepted string `json:"accepted"`
}

// acting guards what acts: there must be controls, the request must be JSON (which no HTML form can send), and must not come from another site's page.
func (s *server) acting(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := s.cross.Check(r); err != nil || rebound(r) {
			fail(w, http.StatusForbidden, "a page of another site may not do this")
			return
		}
		if s.controls == nil {
			fail(w, http.StatusForbidden, "this address is read-only: use the agent's unix socket, or allow control over the address in the agent's settings")
			return
		}
		if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
			fail(w, http.StatusUnsupportedMediaType, "send the request with Content-Type: application/json")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		h(w, r)
	}
}

// rebound reports whether a browser sends this under a name that somebody may have pointed at us (DNS rebinding): then the page counts as our own for the
// browser, and only the name gives it away. Other clients send no such headers and may use any name.
func rebound(r *http.Request) bool {
	if r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "" {
		return false
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	return host != "localhost" && net.ParseIP(host) == nil
}

func (s *server) reconcile(w http.ResponseWriter, r *http.Request) {
	var req reconcileRequest
	if err := decode(r, &req); err != nil {
		fail(w, badBody(err), err.Error())
		return
	}
	name, err := deploy.ParseName(req.Name, "", s.board.namespace)
	if err != nil {
		fail(w, http.StatusBadRequest, "name: "+err.Error())
		return
	}
	switch err := s.controls.Reconcile(r.Context(), name, req.Haste); {
	case errors.Is(err, ErrUnknown):
		fail(w, http.StatusNotFound, fmt.Sprintf("%s: %v", name, err))
	case errors.Is(err, ErrSuspended):
		fail(w, http.StatusConflict, fmt.Sprintf("%s: %v", name, err))
	case err != nil:
		fail(w, http.StatusInternalServerError, fmt.Sprintf("reconcile %s: %v", name, err))
	default:
		reply(w, http.StatusAccepted, accepted{Accepted: name.String()})
	}
}

func (s *server) reload(w http.ResponseWriter, r *http.Request) {
	if err := decode(r, &struct{}{}); err != nil {
		fail(w, badBody(err), err.Error())
		return
	}
	if err := s.controls.Reload(r.Context()); err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	reply(w, http.StatusAccepted, accepted{Accepted: "reload"})
}

func (s *server) rollback(w http.ResponseWriter, r *http.Request) {
	var req rollbackRequest
	if err := decode(r, &req); err != nil {
		fail(w, badBody(err), err.Error())
		return
	}
	name, err := deploy.ParseName(req.Name, "", s.board.namespace)
	if err != nil {
		fail(w, http.StatusBadRequest, "name: "+err.Error())
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // as long as it takes; not every writer has a deadline
	switch to, err := s.controls.Rollback(r.Context(), name, req.Revision); {
	case errors.Is(err, ErrUnknown):
		fail(w, http.StatusNotFound, fmt.Sprintf("%s: %v", name, err))
	case err != nil:
		fail(w, http.StatusUnprocessableEntity, fmt.Sprintf("roll back %s: %v", name, err))
	default:
		reply(w, http.StatusOK, RolledBack{Name: name, Revision: to})
	}
}

// decode reads a body that holds one JSON object and nothing else. An empty body is an empty object.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	switch err := d.Decode(into); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("read the request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("read the request: there is more than one JSON value in it")
	}
	return nil
}

// badBody is the code for a body that could not be read.
func badBody(err error) int {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}
