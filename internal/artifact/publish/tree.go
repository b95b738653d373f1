package publish

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
)

// entry is one path below a folder.
type entry struct {
	name string
	dir  bool
}

// entriesOf lists everything below a folder in lexical order.
func entriesOf(root *os.Root) ([]entry, error) {
	var out []entry
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && name != "." {
			out = append(out, entry{name, d.IsDir()})
		}
		return err
	})
	return out, err
}

// sameEntry reports whether a path is the same below both folders: type, whether it can be executed, content or target. Where it is missing, it is not. A folder
// is the same as every other.
func sameEntry(a, b *os.Root, e entry) (bool, error) {
	left, err := a.Lstat(e.name)
	if err != nil {
		return false, err
	}
	right, err := b.Lstat(e.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch {
	case left.IsDir() && right.IsDir():
		return true, nil
	case left.Mode().Type() != right.Mode().Type() || executable(left) != executable(right):
		return false, nil
	case left.Mode().Type() == fs.ModeSymlink:
		return sameLink(a, b, e.name)
	case left.Size() != right.Size():
		return false, nil
	}
	return sameContent(a, b, e.name)
}

func executable(i fs.FileInfo) bool { return i.Mode()&0o100 != 0 && i.Mode().IsRegular() }

func sameLink(a, b *os.Root, name string) (bool, error) {
	left, err := a.Readlink(name)
	if err != nil {
		return false, err
	}
	right, err := b.Readlink(name)
	return left == right, err
}

func sameContent(a, b *os.Root, name string) (bool, error) {
	left, err := a.Open(name)
	if err != nil {
		return false, err
	}
	defer func() { _ = left.Close() }() // only read
	right, err := b.Open(name)
	if err != nil {
		return false, err
	}
	defer func() { _ = right.Close() }() // only read
	x, y := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		n, err := io.ReadFull(left, x)
		m, merr := io.ReadFull(right, y)
		switch {
		case !bytes.Equal(x[:n], y[:m]):
			return false, nil
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return errors.Is(merr, io.EOF) || errors.Is(merr, io.ErrUnexpectedEOF), nil
		case err != nil:
			return false, err
		case merr != nil:
			return false, merr
		}
	}
}
