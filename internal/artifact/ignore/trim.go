package ignore

import (
	"fmt"
	"io/fs"
	"os"
	"path"
)

// Trim deletes from an unpacked tree what is ignored, by the rules of Read. Folders that become empty by that go too; those that were empty stay. Nothing
// outside root is touched: links are deleted, not followed.
func Trim(root *os.Root, extra *string) error {
	fsys := root.FS()
	m, err := Read(fsys, extra)
	if err != nil {
		return err
	}
	t := &trimmer{root: root, fsys: fsys, matcher: m}
	if _, err := t.folder("."); err != nil {
		return fmt.Errorf("delete what is ignored: %w", err)
	}
	return nil
}

type trimmer struct {
	root    *os.Root
	fsys    fs.FS
	matcher *Matcher
	budget  budget
}

// folder trims one folder and reports whether that has emptied it.
func (t *trimmer) folder(dir string) (emptied bool, err error) {
	entries, err := fs.ReadDir(t.fsys, dir)
	if err != nil {
		return false, err
	}
	left := len(entries)
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		gone := t.matcher.self(name, e.IsDir(), &t.budget.steps)
		if err := t.budget.check(); err != nil {
			return false, err
		}
		if !gone && e.IsDir() {
			if gone, err = t.folder(name); err != nil {
				return false, err
			}
		}
		if !gone {
			continue
		}
		if err := t.root.RemoveAll(name); err != nil {
			return false, err
		}
		left--
	}
	return left == 0 && len(entries) > 0, nil
}
