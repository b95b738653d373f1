package poller

import "time"

const (
	// repeatAfter is how often a source that keeps failing is logged again.
	repeatAfter = 30 * time.Minute
	// changeAfter is how soon it is logged again when the error reads differently: not at once, for some errors hold a number that is new each time.
	changeAfter = 5 * time.Minute
)

// quiet keeps the repeats of one failure out of the log.
type quiet struct {
	last time.Time
	text string
}

// tell reports whether the n-th failure in a row is to be logged: the first is, and then few.
func (q *quiet) tell(now time.Time, n int, text string) bool {
	since := now.Sub(q.last)
	if n > 1 && since < changeAfter || n > 1 && text == q.text && since < repeatAfter {
		return false
	}
	q.last, q.text = now, text
	return true
}
