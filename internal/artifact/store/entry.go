package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Names inside an entry.
const (
	metaFile     = "artifact.json"
	manifestFile = "manifest.json"
	evidenceFile = "evidence.json"
	layerFile    = "layer-" // and its number: the blob of an extracted layer as it was pulled, from which a damaged tree is unpacked again
	treeDir      = "tree"
	copiedFile   = "layer.bin"
	copiedTgz    = "layer.tgz" // Helm and people tell archives by this name
)

// metaVersion changes when older entries cannot be read any more; they are then fetched again.
const metaVersion = 2

// Meta is what an entry remembers about itself, beside the manifest.
type Meta struct {
	Version int `json:"version"`
	// Digest that the entry was asked for by: of the manifest, or of an index that led to it.
	Digest string `json:"digest"`
	// Manifest is the digest of the manifest itself.
	Manifest string          `json:"manifest"`
	Layers   []v1.Descriptor `json:"layers"`
	// File of a copied layer, below the tree; empty for extracted ones.
	File string `json:"file,omitempty"`
	// Trim and Ignore: the rules that were applied to the tree.
	Trim   bool    `json:"trim,omitempty"`
	Ignore *string `json:"ignore,omitempty"`
	// Annotations of the manifest and the index.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Tree is the hash over the unpacked tree.
	Tree string `json:"tree"`
	// Size of the entry on disk without its evidence, in bytes, as far as it can be told in advance: whole blocks.
	Size int64 `json:"size"`
}

// Entry is one artifact in the cache. Immutable.
type Entry struct {
	Meta
	// Dir is the unpacked tree.
	Dir string
}

// Dir is where the unpacked tree of an entry is, or would be.
func (c *Cache) Dir(name string) string { return filepath.Join(c.dir, name, treeDir) }

// path of one of the entry's own files.
func (e *Entry) path(name string) string { return filepath.Join(filepath.Dir(e.Dir), name) }

// blob is where the i-th layer is.
func (e *Entry) blob(i int) string {
	if e.File != "" {
		return filepath.Join(e.Dir, e.File)
	}
	return e.path(layerFile + strconv.Itoa(i))
}

// errDamaged is an entry that is not what it was when it was made.
var errDamaged = errors.New("damaged")

// readEntry reads an entry without looking into its tree. The error is fs.ErrNotExist where there is none, errDamaged where it cannot be used as it is; with the
// latter there is an entry as long as its metadata is sound.
func readEntry(dir string) (*Entry, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%w: it is no folder", errDamaged)
	}
	raw, err := readSealed(filepath.Join(dir, metaFile), maxMeta)
	if err != nil {
		return nil, broken(err)
	}
	e := &Entry{Dir: filepath.Join(dir, treeDir)}
	if err := json.Unmarshal(raw, &e.Meta); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errDamaged, metaFile, err)
	}
	if err := e.valid(); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if info, err = os.Lstat(e.Dir); err != nil {
		return e, broken(err)
	}
	if !info.IsDir() {
		return e, fmt.Errorf("%w: the unpacked files are no folder", errDamaged)
	}
	return e, nil
}

// valid wants of metadata what everything else relies on.
func (m *Meta) valid() error {
	switch {
	case m.Version != metaVersion:
		return errors.New("it was written by another version")
	case m.File != "" && m.File != copiedFile && m.File != copiedTgz:
		return fmt.Errorf("it has a file named %.80q", m.File)
	case len(m.Layers) == 0 || m.File != "" && len(m.Layers) > 1:
		return fmt.Errorf("it has %d layers", len(m.Layers))
	case m.Size < 0:
		return fmt.Errorf("it has the size %d", m.Size)
	}
	return nil
}

// check compares everything in the entry with its digests.
func (e *Entry) check() error {
	if err := e.checkBlobs(); err != nil {
		return err
	}
	root, err := os.OpenRoot(e.Dir)
	if err != nil {
		return broken(err)
	}
	defer func() { _ = root.Close() }() // only read
	got, _, err := treeHash(root)
	if err != nil {
		return broken(err)
	}
	if got != e.Tree {
		return fmt.Errorf("%w: the unpacked files have changed", errDamaged)
	}
	return nil
}

// checkBlobs compares what came from the registry with its digests.
func (e *Entry) checkBlobs() error {
	if err := fileIs(e.path(manifestFile), e.Manifest); err != nil {
		return err
	}
	for i, l := range e.Layers {
		if err := fileIs(e.blob(i), l.Digest.String()); err != nil {
			return err
		}
	}
	return nil
}

// fileIs compares a file with a digest.
func fileIs(path, digest string) error {
	want, err := v1.NewHash(digest)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	f, err := openFile(path)
	if err != nil {
		return broken(err)
	}
	defer func() { _ = f.Close() }() // only read
	sum, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if _, err := io.Copy(sum, f); err != nil {
		return broken(err)
	}
	if fmt.Sprintf("%x", sum.Sum(nil)) != want.Hex {
		return fmt.Errorf("%w: %s does not have its digest any more", errDamaged, filepath.Base(path))
	}
	return nil
}
