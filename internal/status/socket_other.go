//go:build !linux

package status

import (
	"context"
	"syscall"
)

// lockDir does nothing: agents are run on Linux, elsewhere they are tried out, one at a time.
func lockDir(context.Context, string) (unlock func(), err error) { return func() {}, nil }

// restrict does nothing: elsewhere the mode of a socket is not the file's, and the umask has to do until it is set.
func restrict(syscall.RawConn) error { return nil }
