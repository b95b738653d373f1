package store

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// writeFile makes a file, lets fill write it and syncs it to disk. An error of fill is returned as it is.
func writeFile(path string, fill func(io.Writer) error) error {
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

// unpackFile extracts an archive that is on disk.
func unpackFile(path string, root *os.Root, limits Limits) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the artifact cache: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	return Unpack(f, root, limits)
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	_, err = io.Copy(w, f)
	return err
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
