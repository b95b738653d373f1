package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
)

// block is what a file takes at least, and in steps of which it grows, in bytes: so it is on nearly every file system.
const block = 4 << 10

// onDisk is what a file of a size takes.
func onDisk(size int64) int64 { return (size + block - 1) / block * block }

// treeHash is one digest over everything below root: each path with its type, whether it can be executed, and its content or target. Times and owners are
// left out. fs.WalkDir goes in lexical order, so that equal trees have equal hashes. The size is what all this takes on disk.
func treeHash(root *os.Root) (digest string, size int64, err error) {
	sum := sha256.New()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch d.Type() {
		case fs.ModeDir:
			note(sum, "dir", name, "")
			size += block
		case fs.ModeSymlink:
			target, err := root.Readlink(name)
			if err != nil {
				return err
			}
			note(sum, "link", name, target)
			size += block
		case 0:
			kind, content, n, err := fileHash(root, name)
			if err != nil {
				return err
			}
			note(sum, kind, name, content)
			size += onDisk(n)
		default:
			return fmt.Errorf("%s is a %s", name, d.Type())
		}
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)), size, err
}

// note feeds one path; the lengths keep different trees from reading the same.
func note(h hash.Hash, kind, name, content string) {
	_, _ = fmt.Fprintf(h, "%s %d:%s %d:%s\n", kind, len(name), name, len(content), content)
}

func fileHash(root *os.Root, name string) (kind, digest string, size int64, err error) {
	f, err := root.Open(name)
	if err != nil {
		return "", "", 0, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return "", "", 0, err
	}
	sum := sha256.New()
	if size, err = io.Copy(sum, f); err != nil {
		return "", "", 0, err
	}
	kind = "file"
	if info.Mode()&0o100 != 0 {
		kind = "exec"
	}
	return kind, hex.EncodeToString(sum.Sum(nil)), size, nil
}
