package layout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/towline/towline/internal/artifact/ignore"
	"github.com/towline/towline/internal/artifact/pack"
)

// source is one of the forms that files come in.
type source interface {
	// stamp feeds the stamps of all that pack would read, and reports whether all are settled.
	stamp(w io.Writer, m *ignore.Matcher, now time.Time) (settled bool, err error)
	// rules reads the ignore rules.
	rules(extra *string) (*ignore.Matcher, error)
	// pack writes the layer.
	pack(w io.Writer, m *ignore.Matcher) error
}

// pick looks what is at the path now.
func (f *plain) pick() (source, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, fmt.Errorf("open the files: %w", err)
	}
	switch name := strings.ToLower(f.path); {
	case info.IsDir():
		return fileTree{f.path}, nil
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("open the files: %s is a %s: it must be a folder, an archive or a YAML file", f.path, info.Mode().Type())
	case hasSuffix(name, ".yaml", ".yml", ".json"):
		return oneFile{f.path, func(w io.Writer, r io.Reader) error { return pack.File(w, filepath.Base(f.path), r) }}, nil
	case hasSuffix(name, ".tgz", ".tar.gz"):
		return oneFile{f.path, asItIs}, nil
	case hasSuffix(name, ".tar"):
		return oneFile{f.path, pack.Compress}, nil
	}
	return nil, fmt.Errorf("open the files: %s is neither a folder nor a .yaml, .yml, .json, .tar, .tgz or .tar.gz file", f.path)
}

func hasSuffix(name string, suffixes ...string) bool {
	for _, s := range suffixes {
		if strings.HasSuffix(name, s) {
			return true
		}
	}
	return false
}

// asItIs copies an archive that is compressed already.
func asItIs(w io.Writer, r io.Reader) error {
	_, err := io.Copy(w, r)
	return err
}

// oneFile is a file, and how a layer is made of it.
type oneFile struct {
	path string
	make func(io.Writer, io.Reader) error
}

func (o oneFile) rules(*string) (*ignore.Matcher, error) { return nil, nil }

func (o oneFile) stamp(w io.Writer, _ *ignore.Matcher, now time.Time) (bool, error) {
	info, err := os.Stat(o.path)
	if err != nil {
		return false, err
	}
	return note(w, "", info, now), nil
}

func (o oneFile) pack(w io.Writer, _ *ignore.Matcher) error {
	r, err := os.Open(o.path)
	if err != nil {
		return err
	}
	return errors.Join(o.make(w, r), r.Close())
}

// fileTree is a folder.
type fileTree struct{ path string }

// within opens the folder for one call.
func (t fileTree) within(use func(fs.FS) error) error {
	root, err := os.OpenRoot(t.path)
	if err != nil {
		return err
	}
	return errors.Join(use(root.FS()), root.Close())
}

func (t fileTree) rules(extra *string) (m *ignore.Matcher, err error) {
	err = t.within(func(fsys fs.FS) error {
		m, err = ignore.Read(fsys, extra)
		return err
	})
	return m, err
}

func (t fileTree) pack(w io.Writer, m *ignore.Matcher) error {
	return t.within(func(fsys fs.FS) error { return pack.Write(w, fsys, m) })
}

// stamp covers everything that is not ignored, and all files with ignore rules that count. Where none of it changed, the rules are the same too.
func (t fileTree) stamp(w io.Writer, m *ignore.Matcher, now time.Time) (bool, error) {
	settled := true
	err := t.within(func(fsys fs.FS) error {
		return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if m.Match(name, d.IsDir()) && (d.IsDir() || d.Name() != ignore.File) {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if !d.IsDir() { // a folder's own times change with what is ignored in it
				settled = note(w, name, info, now) && settled
			}
			return nil
		})
	})
	return settled, err
}

// note feeds the stamp of one file.
func note(w io.Writer, name string, info fs.FileInfo, now time.Time) (settled bool) {
	s := stampOf(info)
	_, _ = fmt.Fprintf(w, "%d:%s %v\n", len(name), name, s) // to a hash: cannot fail
	return s.settled(now)
}
