package store

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// temp makes a temporary folder that is locked while this process works in it; release removes it, unless it was renamed.
func (c *Cache) temp() (dir string, release func(), err error) {
	if err := os.MkdirAll(c.dir, modeCache); err != nil { // somebody may have deleted it meanwhile
		return "", nil, fmt.Errorf("write the artifact cache: %w", err)
	}
	dir, err = os.MkdirTemp(c.dir, tempPrefix)
	if err != nil {
		return "", nil, fmt.Errorf("write the artifact cache: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return "", nil, fmt.Errorf("write the artifact cache: %w", err)
	}
	return dir, func() {
		_ = os.RemoveAll(dir) // what stays is removed at the next start
		_ = lock.Close()
	}, nil
}

// clean removes temporary folders that no living process has locked.
func (c *Cache) clean() error {
	left, err := filepath.Glob(filepath.Join(c.dir, tempPrefix+"*"))
	if err != nil {
		return fmt.Errorf("clean the artifact cache: %w", err)
	}
	for _, dir := range left {
		lock, err := lockDir(dir)
		if err != nil {
			continue // somebody is working there
		}
		err = os.RemoveAll(dir)
		_ = lock.Close()
		if err != nil {
			return fmt.Errorf("clean the artifact cache: %w", err)
		}
	}
	return nil
}

// lockDir takes the lock on a folder, which ends with the process at the latest.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
