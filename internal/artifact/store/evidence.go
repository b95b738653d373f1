package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// SetEvidence keeps beside an artifact why it may be trusted, at most 8 MiB; empty takes it away. The old or the new is there at any time. What is there already is
// not written again.
func (c *Cache) SetEvidence(entry string, evidence []byte) error {
	if err := checkName(entry); err != nil {
		return err
	}
	defer c.lock(entry)()
	e, err := readEntry(filepath.Join(c.dir, entry))
	if err != nil {
		return fmt.Errorf("keep the evidence for %s: %w", entry, err)
	}
	if len(evidence) == 0 {
		return errors.Join(removeFile(e.path(evidenceFile)), syncPath(filepath.Dir(e.Dir)))
	}
	return c.setEvidence(e, evidence)
}

// setEvidence leaves what is there where there is nothing new.
func (c *Cache) setEvidence(e *Entry, evidence []byte) error {
	if len(evidence) == 0 {
		return nil
	}
	if err := c.replaceSealed(e.path(evidenceFile), evidence, maxEvidence); err != nil {
		return fmt.Errorf("keep the evidence: %w", err)
	}
	return nil
}

// Evidence is what SetEvidence kept; nil where there is none or it is damaged: both mean that the signature has to be asked for again.
func (e *Entry) Evidence() ([]byte, error) {
	got, err := readSealed(e.path(evidenceFile), maxEvidence)
	if errors.Is(err, errDamaged) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the artifact cache: %w", err)
	}
	return got, nil
}

// dropBadEvidence looks at the evidence once in a process, and removes what is damaged.
func (c *Cache) dropBadEvidence(name string, e *Entry) *Damage {
	if c.isUsed(name) {
		return nil
	}
	path := e.path(evidenceFile)
	if _, err := readSealed(path, maxEvidence); errors.Is(err, errDamaged) {
		_ = removeFile(path) // where that fails, it is still not used
		return &Damage{Entry: name, Err: err}
	}
	return nil
}
