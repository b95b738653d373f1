package receiver

import (
	"context"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"time"

	"go.uber.org/zap"
)

const (
	// maxBody of a webhook in bytes. Those of registries have a few KiB; GitHub's are the largest, with 20.
	maxBody = 1 << 20
	// maxHandled is how many requests are handled at once: with maxBody it bounds the memory that they take.
	maxHandled = 32
	// findTimeout bounds how long all the tokens that have to be read for a request may take together.
	findTimeout = 10 * time.Second
)

// ServeHTTP takes one webhook. What it answers has no body, and tells those who do not know a path nothing: all that is unknown looks alike.
func (r *Receivers) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	hooks, complete := r.find(req.Context(), req.URL.Path)
	switch {
	case len(hooks) == 0 && complete:
		w.WriteHeader(http.StatusNotFound)
		return
	case len(hooks) == 0: // it may be the path of one whose token cannot be read just now: the sender should try again
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		status := http.StatusBadRequest
		if errors.As(err, new(*http.MaxBytesError)) {
			status = http.StatusRequestEntityTooLarge
		}
		for _, h := range hooks {
			r.refused(h, req, err)
		}
		w.WriteHeader(status)
		return
	}
	status := 0
	for _, h := range hooks { // nearly always one; what one of several took is taken
		if got := r.take(h, req, body); status == 0 || got == http.StatusOK {
			status = got
		}
	}
	w.WriteHeader(status)
}

// found is a receiver with the token that its path was made from.
type found struct {
	*hook
	token string
}

// find looks for the receivers of a path. Complete says that all tokens could be read, so that there is no other. Where no path fits, tokens that may have been replaced are
// read again.
func (r *Receivers) find(ctx context.Context, path string) (out []found, complete bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), findTimeout) // what is read serves others too
	defer cancel()
	hooks := r.all()
	for _, again := range []bool{false, true} {
		complete = true
		for _, h := range hooks {
			token, err := h.token.read(ctx, again)
			if err != nil {
				complete = false
				h.past.quiet.warn(r.log, "token of a receiver not read", zap.Stringer("source", h.source.Name), zap.Error(err))
				continue
			}
			if subtle.ConstantTimeCompare([]byte(Path(token, h.source.Name)), []byte(path)) == 1 {
				out = append(out, found{h, token})
			}
		}
		if len(out) > 0 {
			break
		}
	}
	return out, complete
}

// take handles a webhook that came to a source's path, and returns the status of the answer.
func (r *Receivers) take(h found, req *http.Request, body []byte) int {
	spec := h.source.Spec
	if err := authentic(spec.Receiver.Type, req.Header, body, h.token); err != nil {
		r.refused(h, req, err)
		return http.StatusUnauthorized
	}
	notices, err := decode(spec.Receiver.Type, req.Header, body)
	if err != nil {
		r.refused(h, req, err)
		return http.StatusBadRequest
	}
	why := "the source is suspended"
	if !spec.Suspend {
		why = pointless(spec, notices)
	}
	if why != "" {
		h.past.tally.ignored.Add(1)
		r.log.Debug("webhook ignored", zap.Stringer("source", h.source.Name), zap.String("why", why))
		return http.StatusOK
	}
	h.past.tally.accepted.Add(1)
	r.log.Debug("webhook accepted", zap.Stringer("source", h.source.Name), zap.String("type", spec.Receiver.Type))
	h.past.pace.run(func() { r.poller.Poke(h.source.Name) }) // false: it has left the config meanwhile
	return http.StatusOK
}

// refused counts and logs a webhook that is not what the source's receiver takes.
func (r *Receivers) refused(h found, req *http.Request, why error) {
	h.past.tally.refused.Add(1)
	h.past.quiet.warn(r.log, "webhook refused", zap.Stringer("source", h.source.Name), zap.String("from", req.RemoteAddr), zap.Error(why))
}
