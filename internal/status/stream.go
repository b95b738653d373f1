package status

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/towline/towline/internal/deploy"
)

const (
	// maxStreams is how many event streams one handler serves at once: each costs a goroutine and up to ten reads of the board a second.
	maxStreams = 64
	// streamPause is the shortest time between two batches of events: a burst of changes becomes one.
	streamPause = 100 * time.Millisecond
	// streamPing keeps a quiet stream from being cut by proxies, which often do so after 30 or 60 s.
	streamPing = 15 * time.Second
	// streamWrite is how long a client may take to accept a batch before it is let go.
	streamWrite = 10 * time.Second
)

// The kinds of events of a stream.
const (
	eventStatus = "status" // Status: the whole board; what was known before is void
	eventHead   = "head"   // Head
	eventSource = "source" // deploy.SourceState
	eventTarget = "target" // deploy.TargetState
	eventGone   = "gone"   // goneEvent
)

// endOfBatch is the comment after events that belong together, and now and then alone, so that a quiet stream is not cut.
const endOfBatch = ": end"

// goneEvent names a source or target that left the board.
type goneEvent struct {
	Name deploy.Name `json:"name"`
}

// events streams the board as server-sent events: first all of it, then, with ?watch, what changes until the client leaves or the agent stops.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "10")
		fail(w, http.StatusServiceUnavailable, fmt.Sprintf("%d event streams are open already", maxStreams))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // or nginx would collect events
	out := &stream{w: w, rc: http.NewResponseController(w)}
	_ = out.rc.SetReadDeadline(time.Time{}) // the server's read timeout is for requests that end; not every writer has one

	changes, stop := s.board.watch()
	defer stop()
	snapshot, seq := s.board.snapshot()
	out.event(eventStatus, snapshot)
	if !out.flush() || !r.URL.Query().Has("watch") || r.Method == http.MethodHead {
		return
	}
	ping := time.NewTicker(streamPing)
	defer ping.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-s.draining:
			return
		case <-ping.C: // flush says enough
		case <-changes:
			seq = s.changesSince(seq, out)
		}
		if !out.flush() || !s.pause(r, streamPause) {
			return
		}
	}
}

// changesSince writes what changed after seq and returns how new that is.
func (s *server) changesSince(seq uint64, out *stream) uint64 {
	d, newest, complete := s.board.since(seq)
	if !complete {
		var snapshot Status
		snapshot, newest = s.board.snapshot()
		out.event(eventStatus, snapshot)
		return newest
	}
	if d.head != nil {
		out.event(eventHead, d.head)
	}
	for _, n := range d.gone {
		out.event(eventGone, goneEvent{Name: n})
	}
	for _, src := range d.sources {
		out.event(eventSource, src)
	}
	for _, t := range d.targets {
		out.event(eventTarget, t)
	}
	return newest
}

// pause waits; false: the stream is to end.
func (s *server) pause(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
	case <-s.draining:
	}
	return false
}

// stream writes events until the first error.
type stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

func (s *stream) event(kind string, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		s.err = err
		return
	}
	s.write("event: " + kind + "\ndata: " + string(b) + "\n\n")
}

func (s *stream) write(text string) {
	if s.err != nil {
		return
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(streamWrite)) // not every writer has one
	_, s.err = s.w.Write([]byte(text))
}

// flush ends a batch and sends what was written; false: the client is gone.
func (s *stream) flush() bool {
	s.write(endOfBatch + "\n\n")
	if s.err == nil {
		s.err = s.rc.Flush()
	}
	return s.err == nil
}
