package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// tempTries is how often another temporary folder is made when somebody's cleaning took it in the moment before it was locked.
const tempTries = 10

// temp makes a temporary folder that is locked while this process works in it; release removes it, unless it was renamed.
func (c *Cache) temp() (dir string, release func(), err error) {
	if err := c.makeDir(c.dir); err != nil { // somebody may have deleted it meanwhile
		return "", nil, fmt.Errorf("write the artifact cache: %w", err)
	}
	for range tempTries {
		if dir, err = os.MkdirTemp(c.dir, tempPrefix); err != nil {
			break
		}
		var lock *os.File
		if lock, err = lockDir(dir); err != nil {
			continue
		}
		return dir, func() {
			_ = os.RemoveAll(dir) // what stays is removed by the next clean
			_ = lock.Close()
		}, nil
	}
	return "", nil, fmt.Errorf("write the artifact cache: %w", err)
}

// tempName is a fresh name that clean knows.
func tempName(kind string) string { return tempPrefix + kind + rand.Text() }

// clean removes temporary folders that no living process has locked.
func (c *Cache) clean() error {
	all, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("clean the artifact cache: %w", err)
	}
	var errs []error
	for _, d := range all {
		if !strings.HasPrefix(d.Name(), tempPrefix) {
			continue
		}
		dir := filepath.Join(c.dir, d.Name())
		lock, err := lockDir(dir)
		if err != nil {
			continue // somebody is working there
		}
		err = os.RemoveAll(dir)
		_ = lock.Close()
		if err != nil {
			errs = append(errs, fmt.Errorf("clean the artifact cache: %w", err))
		}
	}
	return errors.Join(errs...)
}

// lockDir takes the lock on a folder, which ends with the process at the latest. It fails where the folder was removed before it was locked.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	locked, err := f.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = os.Lstat(dir); err == nil && !os.SameFile(locked, there) {
			err = os.ErrNotExist
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
