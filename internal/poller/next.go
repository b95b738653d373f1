package poller

import (
	"errors"
	"hash/fnv"
	"os"
	"time"

	"github.com/towline/towline/internal/deploy"
)

const (
	// jitter is by which part of itself an interval is varied, so that polls that once fell together drift apart.
	jitter = 0.05
	// firstBackoff is the wait after the first failure; it doubles with each further one. Both bounds are Flux's.
	firstBackoff = 750 * time.Millisecond
	maxBackoff   = 15 * time.Minute
	// clockBackoff bounds the wait while a certificate begins in the future: a machine that has just booted is about to learn what time it is.
	clockBackoff = 30 * time.Second
	// maxRetryAfter bounds how long a registry can make us wait: a wrong header must not switch a source off.
	maxRetryAfter = time.Hour
)

// next decides when a source is polled again: wait is the time until then, and again is false where only a poke leads to another poll. failures are in a row,
// err is how the last poll ended, first says whether it was the first of this source, and r in [0, 1) is the jitter's luck.
func next(s deploy.Source, failures int, err error, first bool, r float64) (wait time.Duration, again bool) {
	if err != nil {
		wait = backoff(failures, s.Interval)
		if reason(err) == deploy.SourceNotYetValid {
			wait = min(wait, clockBackoff)
		}
		wait = scale(wait, 1-jitter+2*jitter*r)
		if after, ok := retryAfter(err); ok { // never earlier than asked
			wait = max(wait, scale(min(after, maxRetryAfter), 1+jitter*r))
		}
		return wait, true
	}
	if s.Spec.Ref != nil && s.Spec.Ref.Digest != "" && s.Spec.Verify == nil {
		return 0, false // a digest cannot change its mind; who may sign it can
	}
	if first {
		return scale(s.Interval, (1+phase(s))/2), true
	}
	return scale(s.Interval, 1-jitter+2*jitter*r), true
}

// backoff is the wait after n failures in a row: never longer than the interval, for that often the source was to be polled anyway.
func backoff(n int, interval time.Duration) time.Duration {
	limit := min(maxBackoff, interval)
	d := firstBackoff
	for range n - 1 {
		if d >= limit {
			break
		}
		d *= 2
	}
	return min(d, limit)
}

// retryAfter is how long the registry asked to be left alone.
func retryAfter(err error) (time.Duration, bool) {
	var r interface{ RetryAfter() (time.Duration, bool) }
	if errors.As(err, &r) {
		return r.RetryAfter()
	}
	return 0, false
}

// phase is a number in [0, 1) that belongs to this source on this machine. All sources are polled at once at the start; their second polls are spread by it over
// half an interval, and a restart does not bring them together again.
func phase(s deploy.Source) float64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s.Name.String() + "\x00" + hostname))
	return float64(h.Sum32()) / (1 << 32)
}

// hostname tells agents with equal configs apart. Where it is unknown, they are only not spread.
var hostname, _ = os.Hostname()

func scale(d time.Duration, f float64) time.Duration { return time.Duration(float64(d) * f) }
