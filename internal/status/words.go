package status

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// shortDigest is how many hex digits of a digest people get to see: enough to tell revisions apart, as in git.
const shortDigest = 12

// shortRevision shortens the digest of a revision, tag@algorithm:hex or algorithm:hex.
func shortRevision(s string) string {
	if s == "" {
		return "no revision"
	}
	i := strings.LastIndex(s, ":")
	if i < 0 || len(s)-i-1 <= shortDigest {
		return s
	}
	return s[:i+1+shortDigest]
}

// fullDigest is a digest in a text, of which shortDigest digits are kept; whatDone is how the message of a source begins.
var (
	fullDigest = regexp.MustCompile(`\b(sha256:[0-9a-f]{12})[0-9a-f]{52}\b`)
	whatDone   = regexp.MustCompile(`^(?:resolve|fetch) \S+: `)
)

// ShortDigests shortens the digests in a message: in full, two of them leave no room for what it says.
func ShortDigests(message string) string { return fullDigest.ReplaceAllString(message, "$1") }

// Brief is the message of a source for a table: without what its row says already.
func Brief(message string) string { return ShortDigests(whatDone.ReplaceAllString(message, "")) }

// span is a duration in its largest one or two units: 4s, 2m10s, 3h5m, 2d3h. Less than a second is "less than 1s".
func span(d time.Duration) string {
	const day = 24 * time.Hour
	d = d.Abs()
	switch {
	case d < time.Second:
		return "less than 1s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return units(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return units(d, time.Hour, "h", time.Minute, "m")
	}
	return units(d, day, "d", time.Hour, "h")
}

func units(d, big time.Duration, bigName string, small time.Duration, smallName string) string {
	s := fmt.Sprintf("%d%s", d/big, bigName)
	if rest := d % big / small; rest > 0 {
		s += fmt.Sprintf("%d%s", rest, smallName)
	}
	return s
}

// ago is how long before now something was; a clock that was set back makes it "just now".
func ago(now, at time.Time) string {
	switch {
	case at.IsZero():
		return "never"
	case now.Sub(at) < time.Second:
		return "just now"
	}
	return span(now.Sub(at)) + " ago"
}

// in is how long after now something will be.
func in(now, at time.Time) string {
	switch {
	case at.IsZero():
		return "not planned"
	case at.Sub(now) < time.Second:
		return "due now"
	}
	return "in " + span(at.Sub(now))
}
