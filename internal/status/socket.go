package status

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// maxSocketPath is the longest path of a unix socket, in bytes: macOS has the shortest, 104 with the closing NUL.
	maxSocketPath = 103
	// socketMode lets the agent's user and group in: whoever can open the socket can control the agent.
	socketMode = 0o660
	// socketDirMode of a directory that is created for the socket.
	socketDirMode = 0o750
	// socketProbe is how long an agent may take to accept on a socket that is in the way.
	socketProbe = 2 * time.Second
)

// listenUnix listens on a unix socket with socketMode. A socket that an earlier agent left behind is replaced, one that is answered is not.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("the socket path %s has %d bytes and may have %d: choose a shorter one with --socket", path, len(path), maxSocketPath)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, socketDirMode); err != nil {
		return nil, fmt.Errorf("make the directory of the socket: %w", err)
	}
	// Two agents that start at once must not each find the same stale socket and the second remove what the first has just made.
	unlock, err := lockDir(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("lock the directory of the socket: %w", err)
	}
	defer unlock()
	if err := clearSocket(ctx, path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return restrict(c) }}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) { // somebody was faster since clearSocket
			return nil, answered(path)
		}
		return nil, fmt.Errorf("listen on the socket %s: %w", path, err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("let the group use the socket: %w", err)
	}
	return l, nil
}

// clearSocket removes the socket at path if nobody answers on it.
func clearSocket(ctx context.Context, path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the socket: %w", err)
	case fi.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is in the way and is not a socket: remove it, or choose another path with --socket", path)
	}
	d := net.Dialer{Timeout: socketProbe}
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return answered(path)
	case !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist): // no permission, a full queue: somebody may well live there
		return fmt.Errorf("cannot tell whether an agent listens on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the stale socket: %w", err)
	}
	return nil
}

func answered(path string) error {
	return fmt.Errorf("another agent listens on %s: stop it, or choose another path with --socket", path)
}
