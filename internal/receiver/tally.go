package receiver

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// tally counts the webhooks that came to a source's path.
type tally struct{ accepted, ignored, refused atomic.Int64 }

// Count calls for each source and result (accepted, ignored, refused) with the number of webhooks since the start, or since the source has a receiver.
func (r *Receivers) Count(tell func(source deploy.Name, result string, n int64)) {
	for _, h := range r.all() {
		t := &h.past.tally
		tell(h.source.Name, "accepted", t.accepted.Load())
		tell(h.source.Name, "ignored", t.ignored.Load())
		tell(h.source.Name, "refused", t.refused.Load())
	}
}

// warnEvery is how often the same is logged of one source: what a stranger or a badly set up registry repeats must not fill the disk.
const warnEvery = 5 * time.Minute

// quiet keeps repeats out of the log.
type quiet struct {
	// mu guards the rest.
	mu   sync.Mutex
	said map[string]time.Time
}

// warn logs a warning, unless it was logged a short time ago.
func (q *quiet) warn(log *zap.Logger, message string, fields ...zap.Field) {
	q.mu.Lock()
	if q.said == nil {
		q.said = map[string]time.Time{}
	}
	again := time.Since(q.said[message]) < warnEvery
	if !again {
		q.said[message] = time.Now()
	}
	q.mu.Unlock()
	if again {
		log.Debug(message, fields...)
		return
	}
	log.Warn(message, fields...)
}
