package store

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// pack makes a tar.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		h.Size = int64(len(e.body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry { return entry{tar.Header{Name: name}, body} }
func symlink(name, to string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}, ""}
}
func special(name string, kind byte) entry {
	return entry{tar.Header{Name: name, Typeflag: kind, Linkname: "a.yaml"}, ""}
}

func zip(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstdOf(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpack extracts an archive as unpackWith does.
func unpack(t testing.TB, raw []byte, limits Limits) (map[string]string, error) {
	t.Helper()
	return unpackWith(t, func(root *os.Root) error { return Unpack(bytes.NewReader(raw), root, limits) })
}

// unpackWith extracts into a fresh folder beside a file that must not be touched, and lists what is there.
func unpackWith(t testing.TB, fill func(*os.Root) error) (map[string]string, error) {
	t.Helper()
	outside := t.TempDir()
	dir := filepath.Join(outside, "in")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	uerr := fill(root)
	if b, err := os.ReadFile(secret); err != nil || string(b) != "untouched" {
		t.Fatalf("a file outside was changed: %q %v", b, err)
	}
	if all, err := os.ReadDir(outside); err != nil || len(all) != 2 {
		t.Fatalf("something was written outside: %v %v", all, err)
	}
	got := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(path)
			got[rel] = "-> " + to
			return err
		}
		b, err := os.ReadFile(path)
		got[rel] = info.Mode().String() + " " + string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got, uerr
}

func TestUnpack(t *testing.T) {
	archive := pack(t,
		entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "abc"}}, ""},
		entry{tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
		file("./a.yaml", "a: 1"),
		entry{tar.Header{Name: "bin/run", Mode: 0o4777}, "#!"},
		entry{tar.Header{Name: "locked", Mode: 0o100}, "x"},
		file("deep/er/b.yaml", "b: 2"),
		symlink("deep/a.yaml", "../a.yaml"),
		symlink("shortcut", "deep/er"),
		file("twice", "old"), file("twice", "new"),
	)
	want := map[string]string{
		"a.yaml": "-rw-r--r-- a: 1", "bin/run": "-rwxr-xr-x #!", "locked": "-rwxr-xr-x x", "deep/er/b.yaml": "-rw-r--r-- b: 2",
		"deep/a.yaml": "-> ../a.yaml", "shortcut": "-> deep/er", "twice": "-rw-r--r-- new",
	}
	for name, raw := range map[string][]byte{"tar": archive, "tar+gzip": zip(t, archive), "tar+zstd": zstdOf(t, archive),
		"tar+zstd in two frames": append(zstdOf(t, archive[:700]), zstdOf(t, archive[700:])...), "padded tar+gzip": zip(t, append(bytes.Clone(archive), make([]byte, 9000)...))} {
		t.Run("takes "+name, func(t *testing.T) {
			got, err := unpack(t, raw, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("files (-want +got):\n%s", d)
			}
		})
	}
}

func TestUnpackRefuses(t *testing.T) {
	good := zip(t, pack(t, file("a.yaml", "a: 1")))
	broken := bytes.Clone(good)
	broken[len(broken)-5] ^= 0xff // the checksum
	zgood := zstdOf(t, pack(t, file("a.yaml", "a: 1")))
	zbroken := bytes.Clone(zgood)
	zbroken[len(zbroken)-1] ^= 0xff // the checksum
	cases := []struct {
		name, want string
		raw        []byte
	}{
		{"a path that climbs", `".."`, pack(t, file("../secret", "x"))},
		{"a path that climbs on its way", `".."`, pack(t, file("a/../../secret", "x"))},
		{"a path that climbs and comes back", `".."`, pack(t, file("a/../b", "x"))},
		{"an absolute path", "absolute", pack(t, file("/etc/passwd", "x"))},
		{"a link out", "does not end inside", pack(t, symlink("l", "../secret"))},
		{"an absolute link", "only relative links", pack(t, symlink("l", "/etc/passwd"))},
		{"a link to nothing", "does not end inside", pack(t, symlink("l", "nothing"))},
		{"a link to itself", "does not end inside", pack(t, symlink("l", "l"))},
		{"a link out through another link", "does not end inside", pack(t, file("a/b/c/f", ""), symlink("a/b/c/up", "../../.."), symlink("l", "a/b/c/up/../secret"))},
		{"a file through a link", "file exists", pack(t, symlink("d", ".."), file("d/secret", "x"))},
		{"a file in place of a folder", "d", pack(t, file("d/f", "x"), file("d", "x"))},
		{"a hard link", "only files", pack(t, file("a.yaml", "x"), special("h", tar.TypeLink))},
		{"a character device", "only files", pack(t, special("dev", tar.TypeChar))},
		{"a block device", "only files", pack(t, special("dev", tar.TypeBlock))},
		{"a pipe", "only files", pack(t, special("pipe", tar.TypeFifo))},
		{"nothing", "unexpected EOF", nil},
		{"a text", "read the archive", []byte("this is not an archive")},
		{"a zstd that is none", "read the archive", []byte("\x28\xb5\x2f\xfd and so on")},
		{"a zstd that was cut", "unexpected EOF", zgood[:len(zgood)-6]},
		{"a zstd with a wrong checksum", "CRC", zbroken},
		{"a zstd with bytes behind it", "behind its end", append(bytes.Clone(zgood), "garbage"...)},
		{"a zstd with a large window", "window", []byte("\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00")},
		{"a name that is too long", "the length of a path", pack(t, file(strings.Repeat("x/", 20)+strings.Repeat("y", 1000), "x"))},
		{"an element that is too long", "file name too long", pack(t, file(strings.Repeat("y", 300), "x"))},
		{"a link to a far place", "the length of a link's target", pack(t, symlink("l", strings.Repeat("./", 600)+"l"))},
		{"a link in place of a folder", "file exists", pack(t, file("d/f", "x"), symlink("d", "e"))},
		{"a link through a link", "is no folder", pack(t, file("e/f", "x"), symlink("d", "e"), symlink("d/l", "f"))},
		{"a gzip that was cut", "unexpected EOF", good[:len(good)-12]},
		{"a gzip with a wrong checksum", "checksum", broken},
		{"a gzip with bytes behind it", "behind its end", append(bytes.Clone(good), "garbage"...)},
		{"a tar with bytes behind it", "behind its end", append(pack(t, file("a", "b")), "garbage"...)},
		{"a tar that was cut", "unexpected EOF", pack(t, file("a", strings.Repeat("x", 2000)))[:1200]},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := unpack(t, c.raw, Limits{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

func TestUnpackKeepsItsLimits(t *testing.T) {
	bomb := zip(t, pack(t, file("zeros", strings.Repeat("\x00", 1<<20))))
	cases := []struct {
		name, what string
		limits     Limits
		raw        []byte
	}{
		{"one large file", "the unpacked size", Limits{Unpacked: 1<<20 - 1}, bomb},
		{"many small files", "the unpacked size", Limits{Unpacked: 5}, pack(t, file("a", "123"), file("b", "456"))},
		{"many headers that name no file", "the unpacked size", Limits{Unpacked: 1, Files: 1000}, zip(t, globals(t, 900, 8<<10))},
		{"many headers that name no file, and are short", "the number of files", Limits{Files: 5}, pack(t, headers(10)...)},
		{"many folders that are not named", "the number of files", Limits{Files: 10}, pack(t, file("a/b/c/d/e/f/1", ""), file("a/b/c/D/e/f/2", ""))},
		{"too many files", "the number of files", Limits{Files: 1}, pack(t, file("a", ""), file("b", ""))},
		{"a deep path", "the depth of a path", Limits{Depth: 3}, pack(t, file("a/b/c/d", ""))},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := unpack(t, c.raw, c.limits)
			var limit *LimitError
			if !errors.As(err, &limit) || limit.What != c.what {
				t.Errorf("error %v, want the limit on %s", err, c.what)
			}
		})
	}
	t.Run("takes what is just within", func(t *testing.T) {
		if _, err := unpack(t, bomb, Limits{Unpacked: 1 << 20, Files: 1, Depth: 1}); err != nil {
			t.Error(err)
		}
	})
}

// headers are global headers, which name no file.
func headers(n int) (all []entry) {
	for range n {
		all = append(all, entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "abc"}}, ""})
	}
	return all
}

// globals is a tar with large global headers.
func globals(t testing.TB, n, size int) []byte {
	t.Helper()
	all := headers(n)
	for i := range all {
		all[i].PAXRecords = map[string]string{"comment": strings.Repeat("x", size)}
	}
	return pack(t, all...)
}
