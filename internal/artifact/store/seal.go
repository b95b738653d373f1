package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/towline/towline/internal/crashpoint"
)

// The most that a file with a digest of its own may hold, in bytes: what is read whole into memory is bounded.
const (
	maxMeta     = 16 << 20 // the annotations of a manifest and an index, which registries bound at 4 MiB each, and escaped
	maxEvidence = 8 << 20  // signatures with their certificates: 4 MiB, and escaped
	maxFact     = 1 << 20
)

// A file that no other digest covers begins with a line that has its own: {"digest":"sha256:<hex>"}, then the content. Where the content is JSON, so is the whole.
const (
	sealBegin = `{"digest":"sha256:`
	sealEnd   = "\"}\n"
	sealLen   = len(sealBegin) + 2*sha256.Size + len(sealEnd)
)

// seal puts the line before a content.
func seal(content []byte, limit int) ([]byte, error) {
	if len(content) > limit {
		return nil, &LimitError{"what is kept with it", int64(limit), "bytes"}
	}
	sum := sha256.Sum256(content)
	out := make([]byte, 0, sealLen+len(content))
	out = append(out, sealBegin...)
	out = hex.AppendEncode(out, sum[:])
	out = append(out, sealEnd...)
	return append(out, content...), nil
}

// unseal is the content, or errDamaged.
func unseal(raw []byte) ([]byte, error) {
	if len(raw) < sealLen {
		return nil, fmt.Errorf("%w: it is cut short", errDamaged)
	}
	content := raw[sealLen:]
	sum := sha256.Sum256(content)
	if want := sealBegin + hex.EncodeToString(sum[:]) + sealEnd; !bytes.HasPrefix(raw, []byte(want)) {
		return nil, fmt.Errorf("%w: it does not have its digest, or another version wrote it", errDamaged)
	}
	return content, nil
}

// readSealed reads a file that seal made. The error is errDamaged where it holds something else, and else what the system says.
func readSealed(path string, limit int) ([]byte, error) {
	f, err := openFile(path)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%w: %s is no file", errDamaged, filepath.Base(path))
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	raw, err := io.ReadAll(io.LimitReader(f, int64(sealLen+limit+1)))
	if err != nil {
		return nil, err
	}
	if len(raw) > sealLen+limit {
		return nil, fmt.Errorf("%w: %s is too large", errDamaged, filepath.Base(path))
	}
	content, err := unseal(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return content, nil
}

// replaceSealed writes a file that a power cut leaves as it was or as it will be. One that holds the same already is not written again.
func (c *Cache) replaceSealed(path string, content []byte, limit int) error {
	if there, err := readSealed(path, limit); err == nil && bytes.Equal(there, content) {
		return nil
	}
	sealed, err := seal(content, limit)
	if err != nil {
		return err
	}
	tmp, release, err := c.temp()
	if err != nil {
		return c.explain(err)
	}
	defer release()
	fresh := filepath.Join(tmp, "file")
	if err := writeFile(fresh, sealed); err != nil {
		return c.explain(err)
	}
	crashpoint.At("store.before-note")
	if err := os.Rename(fresh, path); err != nil {
		return c.explain(fmt.Errorf("write the artifact cache: %w", err))
	}
	crashpoint.At("store.note")
	return c.explain(syncPath(filepath.Dir(path)))
}

// removeFile takes a file away, which may be gone already.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove from the artifact cache: %w", err)
	}
	return nil
}
