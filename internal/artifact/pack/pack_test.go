package pack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/artifact/ignore"
)

// golden is the digest of the layer that sample makes. Whoever changes it changes the digest of every artifact that is published again: with a newer Go that
// compresses otherwise it may have to be, but never by accident.
const golden = "f3d267e69ecf47ff63cc01b2ecdc16b30db10282b3aac5a2c6b79180e2720e96"

// sample writes the same tree each time, with the permissions that the umask leaves, and in the given order.
func sample(t testing.TB, perm os.FileMode, backwards bool) string {
	t.Helper()
	dir := t.TempDir()
	names := []string{"b.yaml", "a/z.yaml", "a/y.yaml", "a.yaml", "run.sh", "deep/" + strings.Repeat("long-name/", 15) + "ä.yaml"}
	if backwards {
		for i, j := 0, len(names)-1; i < j; i, j = i+1, j-1 {
			names[i], names[j] = names[j], names[i]
		}
	}
	for _, n := range names {
		path := filepath.Join(dir, n)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700|perm))
		p := perm &^ 0o111
		if n == "run.sh" {
			p |= 0o100
		}
		must(t, os.WriteFile(path, []byte("# "+n+"\n"), p))
		must(t, os.Chmod(path, p))
	}
	must(t, os.Symlink("../b.yaml", filepath.Join(dir, "a", "link.yaml")))
	must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	return dir
}

func TestWriteIsReproducible(t *testing.T) {
	first := sample(t, 0o644, false)
	second := sample(t, 0o666, true)
	old := time.Date(1999, 12, 31, 23, 59, 59, 7, time.UTC)
	must(t, os.Chtimes(filepath.Join(second, "a", "y.yaml"), old, old))
	must(t, os.Chtimes(filepath.Join(second, "a"), old, old))
	must(t, os.Remove(filepath.Join(second, "empty")))
	if os.Geteuid() == 0 { // others cannot give files away
		must(t, os.Lchown(filepath.Join(second, "b.yaml"), 1234, 1234))
	}
	for _, dir := range []string{first, first, second} {
		var b bytes.Buffer
		must(t, write(&b, dir))
		if sum := sha256.Sum256(b.Bytes()); hex.EncodeToString(sum[:]) != golden {
			t.Errorf("the layer has the digest %x, want %s", sum, golden)
		}
	}
}

func TestWriteHoldsNothingButNamesAndContents(t *testing.T) {
	var b bytes.Buffer
	must(t, write(&b, sample(t, 0o666, false)))
	z, err := gzip.NewReader(&b)
	must(t, err)
	if diff := cmp.Diff(gzip.Header{OS: 255}, z.Header); diff != "" { // 255: unknown (RFC 1952)
		t.Errorf("gzip's header: %s", diff)
	}
	type entry struct {
		Name, Link, Text string
		Mode             int64
	}
	var got []entry
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, err)
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s has an owner or a time: %+v", h.Name, h)
		}
		got = append(got, entry{h.Name, h.Linkname, string(text), h.Mode})
	}
	deep := "deep/" + strings.Repeat("long-name/", 15) + "ä.yaml"
	want := []entry{
		{"a/link.yaml", "../b.yaml", "", 0o777},
		{"a/y.yaml", "", "# a/y.yaml\n", 0o644},
		{"a/z.yaml", "", "# a/z.yaml\n", 0o644},
		{"a.yaml", "", "# a.yaml\n", 0o644},
		{"b.yaml", "", "# b.yaml\n", 0o644},
		{deep, "", "# " + deep + "\n", 0o644},
		{"run.sh", "", "# run.sh\n", 0o755},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(dir string) error
		want string
	}{
		{"a link that leaves", linkTo("../x", "a"), "pack a: its target ../x is outside"},
		{"a link that only looks as if it stayed", links("x/y/deep/../../b.yaml", "a", "../../d", "x/y/deep"), "is outside"},
		{"an absolute link", linkTo("/etc/passwd", "a"), "is absolute"},
		{"a dangling link", linkTo("nothing", "a"), "does not exist"},
		{"links in a circle", links("b", "a", "a", "b"), "leads in a circle"},
		{"a link to what is ignored", linkTo("no.md", "a"), "leads to no.md, which is ignored"},
		{"a link through a file", linkTo("b.yaml/../no.yaml", "a"), "leads through b.yaml, which is no folder"},
		{"a pipe", func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644) }, "pack pipe: it is a p---------: only files"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, n := range []string{"b.yaml", "no.md", "no.yaml", "d/e/f.yaml", "x/y/f.yaml"} {
				must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(n)), 0o755))
				must(t, os.WriteFile(filepath.Join(dir, n), nil, 0o644))
			}
			if c.name == "links in a circle" {
				must(t, os.Remove(filepath.Join(dir, "b.yaml")))
			}
			must(t, c.make(dir))
			if err := write(io.Discard, dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func linkTo(target, name string) func(string) error {
	return func(dir string) error { return os.Symlink(target, filepath.Join(dir, name)) }
}

func links(target, name, target2, name2 string) func(string) error {
	return func(dir string) error {
		return errors.Join(linkTo(target, name)(dir), linkTo(target2, name2)(dir))
	}
}

func TestFile(t *testing.T) {
	t.Run("packs what comes from a pipe like the same file in a folder", func(t *testing.T) {
		var got, want bytes.Buffer
		must(t, File(&got, "all.yaml", io.MultiReader(strings.NewReader("a: "), strings.NewReader("1\n"))))
		must(t, Write(&want, fstest.MapFS{"all.yaml": {Data: []byte("a: 1\n"), Mode: 0o600}}, nil))
		if diff := cmp.Diff(want.Bytes(), got.Bytes()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("refuses names that leave", func(t *testing.T) {
		for _, name := range []string{"../a", "/a", "", ".", "a/"} {
			if err := File(io.Discard, name, strings.NewReader("")); err == nil {
				t.Errorf("%q was packed", name)
			}
		}
	})
	t.Run("refuses what is too large to be held", func(t *testing.T) {
		if err := File(io.Discard, "a.yaml", zeros{}); err == nil || !strings.Contains(err.Error(), "pack a folder instead") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWriteStreams(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "large"))
	must(t, err)
	must(t, errors.Join(f.Truncate(256<<20), f.Close()))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	must(t, write(io.Discard, dir))
	runtime.ReadMemStats(&after)
	if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 8 {
		t.Errorf("256 MiB were packed with %d MiB", used)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// write packs a folder, without what is called .md.
func write(w io.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	extra := "*.md"
	m, err := ignore.Read(root.FS(), &extra)
	if err == nil {
		err = Write(w, root.FS(), m)
	}
	return errors.Join(err, root.Close())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
