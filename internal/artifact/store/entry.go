package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Names inside an entry.
const (
	metaFile     = "artifact.json"
	manifestFile = "manifest.json"
	layerFile    = "layer" // the blob of an extracted layer as it was pulled: a damaged tree is unpacked again from it
	treeDir      = "tree"
	copiedFile   = "layer.bin"
	copiedTgz    = "layer.tgz" // Helm and people tell archives by this name
)

// metaVersion changes when older entries cannot be read any more; they are then fetched again.
const metaVersion = 1

// Meta is what an entry remembers about itself, beside the manifest.
type Meta struct {
	Version int `json:"version"`
	// Digest that the entry was asked for by: of the manifest, or of an index that led to it.
	Digest string `json:"digest"`
	// Manifest is the digest of the manifest itself.
	Manifest string        `json:"manifest"`
	Layer    v1.Descriptor `json:"layer"`
	// File of a copied layer, below the tree; empty for an extracted one.
	File string `json:"file,omitempty"`
	// Annotations of the manifest and the index.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Tree is the hash over the unpacked tree.
	Tree string `json:"tree"`
}

// Entry is one artifact in the cache. Immutable.
type Entry struct {
	Meta
	// Dir is the unpacked tree.
	Dir string
}

// errDamaged is an entry that is not what it was when it was made.
var errDamaged = errors.New("damaged")

// readEntry reads an entry without looking into its tree. The error is fs.ErrNotExist where there is none, errDamaged where it cannot be used as it is.
func readEntry(dir string) (*Entry, error) {
	raw, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err != nil {
		if _, serr := os.Lstat(dir); serr == nil && errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: it has no %s", errDamaged, metaFile)
		}
		return nil, err
	}
	e := &Entry{Dir: filepath.Join(dir, treeDir)}
	if err := json.Unmarshal(raw, &e.Meta); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errDamaged, metaFile, err)
	}
	if e.Version != metaVersion {
		return nil, fmt.Errorf("%w: it was written by another version", errDamaged)
	}
	if _, err := os.Stat(e.Dir); err != nil {
		return e, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return e, nil
}

// check compares everything in the entry with its digests.
func (e *Entry) check(dir string) error {
	if err := fileIs(filepath.Join(dir, manifestFile), e.Manifest); err != nil {
		return err
	}
	blob := filepath.Join(dir, layerFile)
	if e.File != "" {
		blob = filepath.Join(e.Dir, e.File)
	}
	if err := fileIs(blob, e.Layer.Digest.String()); err != nil {
		return err
	}
	root, err := os.OpenRoot(e.Dir)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	defer func() { _ = root.Close() }()
	got, err := treeHash(root)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if got != e.Tree {
		return fmt.Errorf("%w: the unpacked files have changed", errDamaged)
	}
	return nil
}

// fileIs compares a file with a digest.
func fileIs(path, digest string) error {
	want, err := v1.NewHash(digest)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	defer func() { _ = f.Close() }()
	sum, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if fmt.Sprintf("%x", sum.Sum(nil)) != want.Hex {
		return fmt.Errorf("%w: %s does not have its digest any more", errDamaged, filepath.Base(path))
	}
	return nil
}
