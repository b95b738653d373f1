package schedule

import "time"

const (
	// firstBackoff is the wait after the first failure: most of those are gone a moment later (a webhook that starts, a CRD that settles).
	firstBackoff = time.Second
	// defaultRetry caps the backoff of a target without intervals, as in a record of an older version.
	defaultRetry = 10 * time.Minute
	// maxLoadBackoff and maxSaveBackoff are short because without records nothing runs, and because an unsaved outcome is lost with the process.
	maxLoadBackoff = 5 * time.Second
	maxSaveBackoff = time.Minute
	// repairNoted is how long after a repair the record of it is written: a node that comes back, or somebody's script, may have undone a hundred targets at once, and the requests
	// for them go before. A crash within it loses a line of history.
	repairNoted = time.Second
	// saveTimeout bounds one write of a record.
	saveTimeout = 15 * time.Second
	// backoffJitter and intervalJitter spread targets that would otherwise march in step: shares of the wait.
	backoffJitter  = 0.2
	intervalJitter = 0.05
)

// backoff is how long to wait after that many failures in a row (from 1): doubling from firstBackoff up to limit, the result spread by jitter in [0, 1).
func backoff(failures int, limit time.Duration, jitter float64) time.Duration {
	d := firstBackoff
	for i := 1; i < failures && d < limit; i++ {
		d *= 2
	}
	return spread(min(d, limit), backoffJitter, jitter)
}

// spread moves d by at most the given share to either side; jitter in [0, 1) says where.
func spread(d time.Duration, share, jitter float64) time.Duration {
	return d + time.Duration(float64(d)*share*(2*jitter-1))
}
