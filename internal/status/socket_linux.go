package status

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

const (
	// lockPatience is how long another agent may take to look at the socket and bind it: a little longer than socketProbe.
	lockPatience = 3 * time.Second
	// lockRetry is how often the lock is tried. A blocking attempt could not be cancelled.
	lockRetry = 20 * time.Millisecond
)

// lockDir locks a directory against other agents, until unlock is called or the process ends. The lock is on the directory itself and leaves no file.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			_ = f.Close()
			return nil, errors.New("another process holds it for too long")
		}
	}
}

// restrict sets the mode of a socket before it is bound: Linux creates the file with it, less the umask, so that there is no moment in which others may connect.
func restrict(c syscall.RawConn) error {
	var failed error
	if err := c.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), socketMode) }); err != nil {
		return err
	}
	return failed
}
