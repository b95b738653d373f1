package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// part is a layer with its annotations.
type part struct {
	raw         []byte
	annotations map[string]string
}

func titled(title, content string) part {
	return part{[]byte(content), map[string]string{titleAnnotation: title}}
}

// items is an artifact of several layers.
func items(t testing.TB, parts ...part) Item {
	t.Helper()
	it, _ := item(t, nil, "")
	it.Layers = nil
	blobs := map[string][]byte{}
	for _, p := range parts {
		h, n, err := v1.SHA256(bytes.NewReader(p.raw))
		if err != nil {
			t.Fatal(err)
		}
		blobs[h.String()] = p.raw
		it.Layers = append(it.Layers, v1.Descriptor{MediaType: types.OCIUncompressedLayer, Digest: h, Size: n, Annotations: p.annotations})
	}
	it.Pull = func(l v1.Descriptor, w io.Writer) error { _, err := w.Write(blobs[l.Digest.String()]); return err }
	return it
}

// tree is the files below a folder with their contents.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		got[rel] = read(t, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPutTakesLayersOfEveryKind(t *testing.T) {
	archive := pack(t, file("app/a.yaml", "a: 1"))
	folder := map[string]string{titleAnnotation: "app", unpackAnnotation: "true"}
	cases := []struct {
		name  string
		parts []part
		want  map[string]string
	}{
		{"a tar+zstd", []part{{zstdOf(t, archive), nil}}, map[string]string{"app/a.yaml": "a: 1"}},
		{"one plain file", []part{titled("deploy.yaml", "kind: ConfigMap")}, map[string]string{"deploy.yaml": "kind: ConfigMap"}},
		{"an empty plain file", []part{titled("empty.yaml", "")}, map[string]string{"empty.yaml": ""}},
		{"plain files, also in folders", []part{titled("a.yaml", "a"), titled("b/c.json", "{}"), titled("./d.yml", "d")},
			map[string]string{"a.yaml": "a", "b/c.json": "{}", "d.yml": "d"}},
		{"a folder that was pushed as one", []part{{zip(t, archive), folder}, titled("b.yaml", "b")}, map[string]string{"app/a.yaml": "a: 1", "b.yaml": "b"}},
		{"an archive with a title", []part{{archive, map[string]string{titleAnnotation: "app"}}}, map[string]string{"app/a.yaml": "a: 1"}},
		{"a plain file twice: the last one counts", []part{titled("a.yaml", "1"), titled("a.yaml", "2")}, map[string]string{"a.yaml": "2"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			name, e := put(t, open(t, dir), items(t, c.parts...))
			if d := cmp.Diff(c.want, tree(t, e.Dir)); d != "" {
				t.Errorf("files (-want +got):\n%s", d)
			}
			if err := os.RemoveAll(e.Dir); err != nil {
				t.Fatal(err)
			}
			e, damage, err := open(t, dir).Get(name)
			if err != nil || damage == nil || !damage.Repaired {
				t.Fatalf("not repaired: %+v %v", damage, err)
			}
			if d := cmp.Diff(c.want, tree(t, e.Dir)); d != "" {
				t.Errorf("files after a repair (-want +got):\n%s", d)
			}
		})
	}
}

func TestPutRefusesLayers(t *testing.T) {
	deep := strings.Repeat("a/", 100) + "b.yaml"
	cases := []struct {
		name, want string
		parts      []part
	}{
		{"a title that climbs", `".."`, []part{titled("../a.yaml", "a")}},
		{"a title that is absolute", "absolute", []part{titled("/etc/passwd", "a")}},
		{"a title that is deep", "depth", []part{titled(deep, "a")}},
		{"a title that is a folder", "names a folder", []part{titled("a/", "a")}},
		{"a title that is the root", "names a folder", []part{titled(".", "a")}},
		{"a title that is long", "length", []part{titled(strings.Repeat("ä", 1000), "a")}},
		{"a title below a file", "no folder", []part{titled("a", "1"), titled("a/b", "2")}},
		{"a plain file without a title", titleAnnotation, []part{{[]byte("kind: ConfigMap"), nil}}},
		{"the empty layer of an artifact without files", titleAnnotation, []part{{[]byte("{}"), nil}}},
		{"a folder that is no archive", "read the archive", []part{{[]byte("text"), map[string]string{titleAnnotation: "a", unpackAnnotation: "true"}}}},
		{"a bad second layer, and says which", "layer 2 of 2", []part{titled("a", "1"), titled("../a", "2")}},
		{"a link to another layer's outside", "does not end inside", []part{{pack(t, symlink("l", "../x")), nil}, titled("x", "2")}},
		{"a file through another layer's link", "file exists", []part{{pack(t, symlink("d", "..")), nil}, titled("d/secret", "2")}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			it := items(t, c.parts...)
			_, err := open(t, dir).Put(EntryName(it.Digest, "ab"), it)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
			var limit *LimitError
			if errors.Is(err, ErrInvalid) == errors.As(err, &limit) {
				t.Errorf("error %v: it is either the artifact's fault or over a limit", err)
			}
			if n := names(t, dir); len(n) != 0 {
				t.Errorf("left behind: %v", n)
			}
		})
	}
	t.Run("layers that are over a limit together", func(t *testing.T) {
		for name, limits := range map[string]Limits{"compressed": {Compressed: 5}, "unpacked": {Unpacked: 5}, "files": {Files: 1}} {
			c, err := Open(t.TempDir(), limits)
			if err != nil {
				t.Fatal(err)
			}
			it := items(t, titled("a", "123"), titled("b", "456"))
			var limit *LimitError
			if _, err := c.Put(EntryName(it.Digest, "ab"), it); !errors.As(err, &limit) {
				t.Errorf("%s: error %v", name, err)
			}
		}
	})
}

func TestPutAppliesIgnoreRulesAndARepairDoesToo(t *testing.T) {
	dir := t.TempDir()
	extra := "*.md\n"
	it := items(t, part{pack(t, file("a.yaml", "a"), file("README.md", "x"), file("secret/x.yaml", "x"), file(".sourceignore", "secret/\n"), file("logo.png", "x")), nil})
	it.Trim, it.Ignore = true, &extra
	name, e := put(t, open(t, dir), it)
	want := tree(t, e.Dir)
	if _, ok := want["a.yaml"]; !ok || want["README.md"] != "" || want["secret/x.yaml"] != "" {
		t.Errorf("files %v", want)
	}
	if err := os.WriteFile(filepath.Join(e.Dir, "README.md"), []byte("back"), 0o644); err != nil {
		t.Fatal(err)
	}
	e, damage, err := open(t, dir).Get(name)
	if err != nil || damage == nil || !damage.Repaired {
		t.Fatalf("not repaired: %+v %v", damage, err)
	}
	if d := cmp.Diff(want, tree(t, e.Dir)); d != "" {
		t.Errorf("files after a repair (-want +got):\n%s", d)
	}
}

func TestMetaKeepsWhatARepairNeeds(t *testing.T) {
	it := items(t, titled("a.yaml", "a"))
	it.Layers[0].Data = []byte("a")
	_, e := put(t, open(t, t.TempDir()), it)
	raw, err := json.Marshal(e.Layers)
	if err != nil || strings.Contains(string(raw), `"data"`) || !strings.Contains(string(raw), titleAnnotation) {
		t.Errorf("layers %s, %v", raw, err)
	}
}
