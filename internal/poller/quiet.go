package poller

import "time"

// repeatAfter is how often a source that keeps failing is logged again.
const repeatAfter = 30 * time.Minute

// quiet keeps the repeats of one failure out of the log.
type quiet struct{ last time.Time }

// tell reports whether the n-th failure in a row is to be logged: the first is, and then one per repeatAfter.
func (q *quiet) tell(now time.Time, n int) bool {
	if n > 1 && now.Sub(q.last) < repeatAfter {
		return false
	}
	q.last = now
	return true
}
