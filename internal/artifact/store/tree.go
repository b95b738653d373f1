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

// treeHash is one digest over everything below root: each path with its type, whether it can be executed, and its content or target. Times and owners are
// left out. fs.WalkDir goes in lexical order, so that equal trees have equal hashes.
func treeHash(root *os.Root) (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch d.Type() {
		case fs.ModeDir:
			note(sum, "dir", name, "")
		case fs.ModeSymlink:
			target, err := root.Readlink(name)
			if err != nil {
				return err
			}
			note(sum, "link", name, target)
		case 0:
			kind, content, err := fileHash(root, name)
			if err != nil {
				return err
			}
			note(sum, kind, name, content)
		default:
			return fmt.Errorf("%s is a %s", name, d.Type())
		}
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// note feeds one path; the lengths keep different trees from reading the same.
func note(h hash.Hash, kind, name, content string) {
	_, _ = fmt.Fprintf(h, "%s %d:%s %d:%s\n", kind, len(name), name, len(content), content)
}

func fileHash(root *os.Root, name string) (kind, digest string, err error) {
	f, err := root.Open(name)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return "", "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", "", err
	}
	kind = "file"
	if info.Mode()&0o100 != 0 {
		kind = "exec"
	}
	return kind, hex.EncodeToString(sum.Sum(nil)), nil
}
