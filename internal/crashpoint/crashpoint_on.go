//go:build crashpoints

// Package crashpoint names the places in the code where a test can kill the process. In a normal build every call is empty.
package crashpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// chosen is where to die: TOWLINE_CRASH_AT=name or name:n for the n-th time (from 1) that the place is passed.
var (
	chosen, nth = parse(os.Getenv("TOWLINE_CRASH_AT"))
	passed      atomic.Int64
)

// At kills the process with SIGKILL, which no handler or deferred call can soften, when name is the place that TOWLINE_CRASH_AT chose.
func At(name string) {
	if name == chosen && passed.Add(1) == nth {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way; nothing after this place may run
	}
}

func parse(s string) (name string, n int64) {
	name, count, found := strings.Cut(s, ":")
	if n, err := strconv.ParseInt(count, 10, 64); found && err == nil && n > 0 {
		return name, n
	}
	return name, 1
}
