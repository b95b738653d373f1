package ignore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// Bounds of what an artifact's own patterns may cost.
const (
	maxFile     = 1 << 20 // bytes of one .sourceignore: git's own largest are a hundredth of that
	maxPatterns = 10_000  // of all files of a tree
)

// Read collects the patterns of a tree: the .sourceignore files from the root down, each for its own folder, then extra for all. Files in folders that are ignored
// are not read. Flux's defaults apply where neither has a pattern.
func Read(fsys fs.FS, extra *string) (*Matcher, error) { return read(fsys, extra, &budget{}) }

func read(fsys fs.FS, extra *string, b *budget) (*Matcher, error) {
	m := &Matcher{patterns: parseAll(alwaysIgnored, "")}
	if extra != nil {
		m.extra = parseAll(split(*extra), "")
	}
	if err := m.folder(fsys, ".", b); err != nil {
		return nil, fmt.Errorf("read the ignore rules: %w", err)
	}
	if len(m.extra) == 0 && len(m.patterns) == len(alwaysIgnored) {
		m.patterns = append(m.patterns, parseAll(defaultIgnored, "")...)
	}
	return m, nil
}

// folder reads the patterns of one folder and of those below.
func (m *Matcher) folder(fsys fs.FS, dir string, b *budget) error {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == File {
			if err := m.file(fsys, dir, e); err != nil {
				return err
			}
		}
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if !e.IsDir() {
			continue
		}
		if m.self(name, true, &b.steps) {
			continue
		}
		if err := b.check(); err != nil {
			return err
		}
		if err := m.folder(fsys, name, b); err != nil {
			return err
		}
	}
	return nil
}

// file reads one .sourceignore. One that is no plain file is refused, as silence would publish or apply what its author wanted left out.
func (m *Matcher) file(fsys fs.FS, dir string, e fs.DirEntry) error {
	name := path.Join(dir, File)
	if e.IsDir() {
		return nil
	}
	if !e.Type().IsRegular() {
		return fmt.Errorf("%s is no regular file: links are not followed here", name)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(text) > maxFile {
		return fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	folder := ""
	if dir != "." {
		folder = dir + "/"
	}
	m.patterns = append(m.patterns, parseAll(split(string(text)), folder)...)
	if len(m.patterns)+len(m.extra) > maxPatterns {
		return fmt.Errorf("%s: with it there are more than %d patterns", name, maxPatterns)
	}
	return nil
}

// maxSteps is how many comparisons of a byte or a pattern a whole tree may cost, a second or two of one core. Honest trees need a hundredth of that; patterns
// that are made to be slow end here.
const maxSteps = 500_000_000

// budget counts the steps of one tree.
type budget struct{ steps int }

func (b *budget) check() error {
	if b.steps > maxSteps {
		return errors.New("the patterns need too long for this many files: use fewer, with fewer stars")
	}
	return nil
}
