package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/towline/towline/internal/artifact/ignore"
	"github.com/towline/towline/internal/crashpoint"
)

// fill makes a tree from the blobs, in a folder that is made for it, trims it, and notes its hash and the entry's size. The folder of a copied layer is there.
func (e *Entry) fill(tree string, limits Limits) error {
	if err := os.Mkdir(tree, modeDir); err != nil && (e.File == "" || !errors.Is(err, fs.ErrExist)) {
		return fmt.Errorf("write the artifact cache: %w", err)
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return fmt.Errorf("write the artifact cache: %w", err)
	}
	defer func() { _ = root.Close() }()
	if e.File == "" {
		if err := e.unpack(root, limits); err != nil {
			return invalid(err)
		}
		if e.Trim {
			if err := ignore.Trim(root, e.Ignore); err != nil {
				return invalid(fmt.Errorf("apply the ignore rules: %w", err))
			}
		}
	}
	hash, size, err := treeHash(root)
	if err != nil {
		return fmt.Errorf("hash the unpacked artifact: %w", err)
	}
	e.Tree = hash
	e.Size = size + 3*block // the folder, the manifest and the metadata, small as they nearly always are
	if e.File == "" {
		for _, l := range e.Layers {
			e.Size += onDisk(l.Size)
		}
	}
	return nil
}

func (e *Entry) unpack(root *os.Root, limits Limits) error {
	u := newUnpacker(root, limits)
	for i, l := range e.Layers {
		if err := u.blobFile(e.blob(i), l); err != nil {
			if len(e.Layers) > 1 {
				err = fmt.Errorf("layer %d of %d: %w", i+1, len(e.Layers), err)
			}
			return err
		}
	}
	return u.makeLinks()
}

// repairable is an entry whose tree can be made again from its blobs; nil is none. The error says that they could not be looked at.
func (e *Entry) repairable() (bool, error) {
	if e == nil || e.File != "" {
		return false, nil
	}
	err := e.checkBlobs()
	if errors.Is(err, errDamaged) {
		return false, nil
	}
	return err == nil, err
}

// repair makes the tree of an entry again, in its place: whenever the power is cut, the blobs are there, and the tree is the right one, or is found to be missing or
// damaged. The caller holds the entry's lock.
func (c *Cache) repair(e *Entry) (*Entry, error) {
	tmp, release, err := c.temp()
	if err != nil {
		return nil, err
	}
	defer release()
	old := filepath.Join(tmp, "old")
	if err := os.Rename(e.Dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("repair an artifact in the cache: %w", err)
	}
	crashpoint.At("store.repairing")
	if err := os.RemoveAll(old); err != nil { // its room is needed
		return nil, fmt.Errorf("repair an artifact in the cache: %w", err)
	}
	fresh := &Entry{Meta: e.Meta, Dir: e.Dir}
	if err := fresh.fill(filepath.Join(tmp, treeDir), c.limits); err != nil {
		return nil, fmt.Errorf("repair an artifact in the cache: %w", err)
	}
	if err := os.Rename(filepath.Join(tmp, treeDir), e.Dir); err != nil {
		return nil, fmt.Errorf("repair an artifact in the cache: %w", err)
	}
	crashpoint.At("store.repaired")
	if fresh.Tree != e.Tree || fresh.Size != e.Size { // this version unpacks or trims in another way
		meta, err := fresh.sealed()
		if err != nil {
			return nil, err
		}
		if err := writeFile(filepath.Join(tmp, metaFile), meta); err != nil {
			return nil, err
		}
		if err := os.Rename(filepath.Join(tmp, metaFile), e.path(metaFile)); err != nil {
			return nil, fmt.Errorf("repair an artifact in the cache: %w", err)
		}
	}
	return fresh, syncPath(filepath.Dir(e.Dir))
}
