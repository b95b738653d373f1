package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrClaimed is a folder that another process evicts from.
var ErrClaimed = errors.New("another agent uses this artifact cache: give each a cacheDir of its own")

// Claim makes this cache the only one that removes what is not needed from its folder, until Release or the end of the process: what one agent does not need may be all
// that another one can start from. It is free where it is held already. Where the file system knows no locks, everybody has it.
func (c *Cache) Claim() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	there, err := os.Stat(c.dir)
	if err != nil {
		return fmt.Errorf("claim the artifact cache: %w", err)
	}
	if c.claim != nil {
		if held, err := c.claim.Stat(); err == nil && os.SameFile(held, there) {
			return nil
		}
		_ = c.claim.Close() // of a folder that was deleted
		c.claim = nil
	}
	f, err := os.Open(c.dir)
	if err != nil {
		return fmt.Errorf("claim the artifact cache: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		_ = f.Close() // only locked
		return fmt.Errorf("%s: %w", c.dir, ErrClaimed)
	}
	c.claim = f
	return nil
}

// Release gives the claim up.
func (c *Cache) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.claim != nil {
		_ = c.claim.Close() // only locked
		c.claim = nil
	}
}
