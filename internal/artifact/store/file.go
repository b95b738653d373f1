package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// fillFile makes a file, lets fill write it and syncs it to disk. An error of fill is returned as it is.
func fillFile(path string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, modeMeta)
	if err != nil {
		return fmt.Errorf("write the artifact cache: %w", err)
	}
	if err := fill(f); err != nil {
		_ = f.Close() // the file is thrown away
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the artifact cache: %w", err)
	}
	return nil
}

// writeFile makes a file with a content and syncs it to disk.
func writeFile(path string, content []byte) error {
	return fillFile(path, func(w io.Writer) error {
		if _, err := w.Write(content); err != nil {
			return fmt.Errorf("write the artifact cache: %w", err)
		}
		return nil
	})
}

// openFile opens a regular file for reading. A link is not followed, and a pipe or a device, which may never end, is not read.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s is no file", errDamaged, filepath.Base(path))
	}
	if err != nil {
		_ = f.Close() // nothing was read
		return nil, err
	}
	return f, nil
}

// syncPath makes a file or a folder's names durable.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("write the artifact cache: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the artifact cache: %w", err)
	}
	return nil
}

// makeDir makes a folder and what it is in, where they are not there, and makes their names durable.
func (c *Cache) makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	above := filepath.Dir(dir)
	if above == dir {
		return fmt.Errorf("%s is no folder", dir)
	}
	if err := c.makeDir(above); err != nil {
		return err
	}
	if err := os.Mkdir(dir, modeCache); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	_ = syncPath(above) // who may write there may not always read it
	return nil
}

// explain adds to the disk's refusals what the user can do about them.
func (c *Cache) explain(err error) error {
	switch {
	case diskFull(err):
		return fmt.Errorf("the disk of the artifact cache %s is full: make room, or give the cache a smaller budget: %w", c.dir, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("the disk of the artifact cache %s is read-only: %w", c.dir, err)
	}
	return err
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// ofSystem is an error of the disk or the system, for which the artifact is not to blame: names that clash or are too long come from an artifact.
func ofSystem(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.EEXIST, syscall.ENOTEMPTY, syscall.ENOTDIR, syscall.EISDIR, syscall.ENAMETOOLONG, syscall.ELOOP, syscall.EINVAL:
		return false
	}
	return true
}

// broken blames an entry for what reading it gave, unless the process or the system could not look at all, as without file handles or memory: then it may be sound, and
// is not to be thrown away.
func broken(err error) error {
	if errors.Is(err, errDamaged) {
		return err
	}
	for _, ofDisk := range []error{fs.ErrNotExist, syscall.EIO, syscall.EBADMSG, syscall.EUCLEAN} {
		if errors.Is(err, ofDisk) {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
	}
	if ofSystem(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errDamaged, err)
}
