package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

const (
	// maxText is how large a file may be for its text to be compared line by line, in bytes: the comparison's cost grows faster than the file.
	maxText = 1 << 20
	// diffContext is how many equal lines are shown around a change.
	diffContext = 3
)

// Comparison is how a folder differs from an artifact, by file in lexical order. Close throws the copies away that Text reads.
type Comparison struct {
	// Digest of the artifact.
	Digest string
	// Added are only in the folder, Removed only in the artifact.
	Added, Removed, Changed []string
	dir                     string
	theirs, ours            *os.Root
}

// Diff compares an artifact with what Pack would make of the input.
func Diff(ctx context.Context, r Reader, ref Ref, in Input, opts PullOptions) (*Comparison, error) {
	dir, err := os.MkdirTemp("", "towline-diff-*")
	if err != nil {
		return nil, err
	}
	c := &Comparison{dir: dir}
	if err := c.compare(ctx, r, ref, in, opts); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Comparison) compare(ctx context.Context, r Reader, ref Ref, in Input, opts PullOptions) error {
	for name, root := range map[string]**os.Root{"theirs": &c.theirs, "ours": &c.ours} {
		at := filepath.Join(c.dir, name)
		if err := os.Mkdir(at, 0o700); err != nil {
			return err
		}
		var err error
		if *root, err = os.OpenRoot(at); err != nil {
			return err
		}
	}
	if err := in.unpack(ctx, c.ours, opts.Limits); err != nil {
		return err
	}
	pulled, err := fetch(ctx, r, ref, c.theirs.Name(), opts.Limits, opts.Progress)
	if err != nil {
		return err
	}
	c.Digest = pulled.Digest
	theirs, err := filesOf(c.theirs)
	if err != nil {
		return err
	}
	ours, err := filesOf(c.ours)
	if err != nil {
		return err
	}
	for _, name := range ours {
		if _, there := slices.BinarySearch(theirs, name); !there {
			c.Added = append(c.Added, name)
			continue
		}
		same, err := sameEntry(c.theirs, c.ours, entry{name: name})
		if err != nil {
			return err
		}
		if !same {
			c.Changed = append(c.Changed, name)
		}
	}
	for _, name := range theirs {
		if _, there := slices.BinarySearch(ours, name); !there {
			c.Removed = append(c.Removed, name)
		}
	}
	return nil
}

// filesOf lists all but folders, sorted.
func filesOf(root *os.Root) ([]string, error) {
	entries, err := entriesOf(root)
	var out []string
	for _, e := range entries {
		if !e.dir {
			out = append(out, e.name)
		}
	}
	slices.Sort(out) // a walk goes folder by folder: a-b is behind a/b there
	return out, err
}

// Same reports whether there is no difference.
func (c *Comparison) Same() bool { return len(c.Added)+len(c.Removed)+len(c.Changed) == 0 }

// Close throws the copies away.
func (c *Comparison) Close() error {
	for _, root := range []*os.Root{c.theirs, c.ours} {
		if root != nil {
			_ = root.Close() // only read
		}
	}
	return os.RemoveAll(c.dir)
}

// Text writes a unified diff of the files of YAML and JSON, without the values of Secrets. What cannot be shown is said in a line.
func (c *Comparison) Text(w io.Writer) error {
	all := slices.Concat(c.Added, c.Removed, c.Changed)
	slices.Sort(all)
	for _, name := range all {
		if !slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name)) {
			continue
		}
		text, err := c.fileText(name)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

func (c *Comparison) fileText(name string) (string, error) {
	before, err := readText(c.theirs, name)
	if err != nil {
		return "", err
	}
	after, err := readText(c.ours, name)
	if err != nil {
		return "", err
	}
	if before.note != "" || after.note != "" {
		return fmt.Sprintf("--- %s: not shown, %s\n", name, cmp.Or(before.note, after.note)), nil
	}
	a, b, err := maskPair(before.text, after.text)
	if err != nil {
		return fmt.Sprintf("--- %s: not shown, it may hold a Secret and %v\n", name, err), nil
	}
	if a == b {
		return fmt.Sprintf("--- %s: only what is not shown differs\n", name), nil
	}
	if dosText(a) && dosText(b) { // the ends of lines are no difference
		a, b = strings.ReplaceAll(a, "\r\n", "\n"), strings.ReplaceAll(b, "\r\n", "\n")
	}
	d := difflib.UnifiedDiff{
		A: lines(a), B: lines(b), FromFile: "artifact/" + name, ToFile: "folder/" + name, Context: diffContext,
	}
	if !before.there {
		d.FromFile = os.DevNull
	}
	if !after.there {
		d.ToFile = os.DevNull
	}
	return difflib.GetUnifiedDiffString(d)
}

// lines splits a text; a last line without an end is marked as diff does.
func lines(s string) []string {
	out := slices.Collect(strings.Lines(s))
	if n := len(out); n > 0 && !strings.HasSuffix(s, "\n") {
		out[n-1] += "\n\\ No newline at end of file\n"
	}
	return out
}

// dosText reports whether every line ends as in DOS.
func dosText(s string) bool { return strings.Count(s, "\n") == strings.Count(s, "\r\n") }

// content is a file as text, or why it is not shown.
type content struct {
	text, note string
	there      bool
}

func readText(root *os.Root, name string) (content, error) {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return content{}, nil
	case err != nil:
		return content{}, err
	case !info.Mode().IsRegular():
		return content{note: "it is a link", there: true}, nil
	case info.Size() > maxText:
		return content{note: fmt.Sprintf("it is larger than %d bytes", maxText), there: true}, nil
	}
	b, err := root.ReadFile(name)
	return content{text: string(b), there: true}, err
}
