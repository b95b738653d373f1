package pack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/towline/towline/internal/artifact/ignore"
)

// modeLink is what symbolic links are packed with; nobody looks at it.
const modeLink = 0o777

// maxHops is how many links one path may lead through, as Linux has it (MAXSYMLINKS).
const maxHops = 40

func link(tw *tar.Writer, fsys fs.FS, name string, m *ignore.Matcher) error {
	target, err := fs.ReadLink(fsys, name)
	if err != nil {
		return err
	}
	if err := follow(fsys, name, m); err != nil {
		return fmt.Errorf("its target %s %w", target, err)
	}
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: modeLink})
}

// follow goes the whole way of a link, element by element: text alone would not do, since ".." behind a link is somewhere else than it looks. The error
// continues a sentence that began with the link's target.
func follow(fsys fs.FS, name string, m *ignore.Matcher) error {
	todo := strings.Split(name, "/")
	at := "."
	for hops := 0; len(todo) > 0; {
		next := todo[0]
		todo = todo[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			if at == "." {
				return errors.New("is outside: an artifact can only hold what is in its own tree")
			}
			at = path.Dir(at)
			continue
		}
		step := path.Join(at, next)
		info, err := fs.Lstat(fsys, step)
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("does not exist")
		}
		if err != nil {
			return fmt.Errorf("cannot be read: %w", err)
		}
		if m.Match(step, info.IsDir()) {
			return fmt.Errorf("leads to %s, which is ignored", step)
		}
		if info.Mode().Type() != fs.ModeSymlink {
			if len(todo) > 0 && !info.IsDir() {
				return fmt.Errorf("leads through %s, which is no folder", step)
			}
			at = step
			continue
		}
		if hops++; hops > maxHops {
			return errors.New("leads in a circle")
		}
		target, err := fs.ReadLink(fsys, step)
		if err != nil {
			return fmt.Errorf("cannot be read: %w", err)
		}
		if path.IsAbs(target) {
			return errors.New("is absolute: only relative links mean the same elsewhere")
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return nil
}
