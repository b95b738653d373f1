package login

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// maxFile of credentials, keys and certificates, in bytes.
	maxFile = 1 << 20
	// credentialsDirectory is where systemd puts what LoadCredential= names.
	credentialsDirectory = "CREDENTIALS_DIRECTORY"
)

// ReadFile reads a file of credentials, keys or certificates, of at most 1 MiB. A path that is not absolute is below $CREDENTIALS_DIRECTORY. An empty file is
// an error, and errors never quote the content.
func ReadFile(path string) ([]byte, error) {
	full, err := locate(path)
	if err != nil {
		return nil, err
	}
	// Without O_NONBLOCK a named pipe would hold the caller until somebody writes.
	f, err := os.OpenFile(full, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, unreadable(full, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unreadable(full, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", full)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, unreadable(full, err)
	case len(raw) > maxFile:
		return nil, fmt.Errorf("%s is larger than 1 MiB", full)
	case len(raw) == 0:
		return nil, fmt.Errorf("%s is empty", full)
	}
	return raw, nil
}

// FingerprintOf changes when one of the files is written, replaced, removed or comes to be, also through a symlink on the way, as Kubernetes swaps them. It
// reads no content and costs a stat a file. Who keeps what was read takes it before the reading: a change in between is then seen the next time.
func FingerprintOf(paths ...string) string {
	var b strings.Builder
	for _, path := range paths {
		b.WriteString(stamp(path))
		b.WriteByte(';')
	}
	return b.String()
}

func stamp(path string) string {
	if path == "" {
		return "none"
	}
	full, err := locate(path)
	if err != nil {
		return "nowhere"
	}
	info, err := os.Stat(full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "absent"
	case err != nil:
		return "unreadable"
	}
	s := fmt.Sprintf("%d %d %o", info.ModTime().UnixNano(), info.Size(), info.Mode())
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s += fmt.Sprintf(" %d/%d", sys.Dev, sys.Ino)
	}
	return s
}

// locate makes a path absolute.
func locate(path string) (string, error) {
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	dir := os.Getenv(credentialsDirectory)
	switch {
	case dir == "":
		return "", fmt.Errorf("%q is below $%s, which is not set: write an absolute path, or let systemd load it (LoadCredential=)", path, credentialsDirectory)
	case !filepath.IsLocal(path):
		return "", fmt.Errorf("%q leads out of $%s: write an absolute path", path, credentialsDirectory)
	}
	return filepath.Join(dir, path), nil
}

// told is an error in words that say it all.
type told struct {
	text string
	is   error
}

func (t told) Error() string { return t.text }
func (t told) Unwrap() error { return t.is }

func unreadable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return told{path + " does not exist", fs.ErrNotExist}
	case errors.Is(err, fs.ErrPermission):
		return told{fmt.Sprintf("%s may not be read by the agent's user (uid %d)", path, os.Geteuid()), fs.ErrPermission}
	}
	return fmt.Errorf("read %s: %w", path, err)
}
