package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// item is an artifact as a registry would give it, and the count of its pulls.
func item(t testing.TB, layer []byte, mediaType string) (Item, *int) {
	t.Helper()
	pulls := 0
	manifest := []byte(`{"schemaVersion":2,"layers":[]}`)
	mh, _, err := v1.SHA256(bytes.NewReader(manifest))
	if err != nil {
		t.Fatal(err)
	}
	lh, n, err := v1.SHA256(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	return Item{
		Digest: mh.String(), ManifestDigest: mh.String(), Manifest: manifest, Annotations: map[string]string{"a": "b"},
		Layers: []v1.Descriptor{{MediaType: types.MediaType(mediaType), Digest: lh, Size: n}},
		Pull: func(_ v1.Descriptor, w io.Writer) error {
			pulls++
			_, err := w.Write(layer)
			return err
		},
	}, &pulls
}

func open(t testing.TB, dir string) *Cache {
	t.Helper()
	c, err := Open(dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t testing.TB, c *Cache, it Item) (string, *Entry) {
	t.Helper()
	name := EntryName(it.Digest, "0123456789ab")
	e, err := c.Put(name, it)
	if err != nil {
		t.Fatal(err)
	}
	return name, e
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, d := range all {
		out = append(out, d.Name())
	}
	return out
}

func TestCacheSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	it, _ := item(t, zip(t, pack(t, file("a.yaml", "a: 1"))), "application/x.tar+gzip")
	name, e := put(t, open(t, dir), it)
	got, damage, err := open(t, dir).Get(name)
	if err != nil || damage != nil || got == nil {
		t.Fatalf("got %v %v %v", got, damage, err)
	}
	if got.Dir != e.Dir || got.Annotations["a"] != "b" || read(t, filepath.Join(got.Dir, "a.yaml")) != "a: 1" {
		t.Errorf("entry %+v, was %+v", got, e)
	}
	if n := names(t, dir); len(n) != 1 {
		t.Errorf("the cache holds %v", n)
	}
}

func TestCacheCopiesALayer(t *testing.T) {
	layer := zip(t, pack(t, file("c/Chart.yaml", "name: c")))
	it, _ := item(t, layer, "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
	it.Copy = true
	_, e := put(t, open(t, t.TempDir()), it)
	if e.File != "layer.tgz" || read(t, filepath.Join(e.Dir, e.File)) != string(layer) {
		t.Errorf("file %q", e.File)
	}
}

func TestCacheNoticesDamage(t *testing.T) {
	write := func(path, content string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, path), []byte(content), 0o644) }
	}
	remove := func(path string) func(string) error {
		return func(dir string) error { return os.RemoveAll(filepath.Join(dir, path)) }
	}
	cases := []struct {
		name     string
		damage   func(dir string) error
		copied   bool
		repaired bool
	}{
		{"a changed file", write("tree/a.yaml", "a: 2"), false, true},
		{"an emptied file", write("tree/a.yaml", ""), false, true},
		{"a missing file", remove("tree/a.yaml"), false, true},
		{"a further file", write("tree/b.yaml", "b: 1"), false, true},
		{"a file that became executable", func(dir string) error { return os.Chmod(filepath.Join(dir, "tree/a.yaml"), 0o755) }, false, true},
		{"a missing tree", remove("tree"), false, true},
		{"a changed blob", write("layer-0", "x"), false, false},
		{"a missing blob", remove("layer-0"), false, false},
		{"a changed manifest", write("manifest.json", "{}"), false, false},
		{"metadata that was cut", write("artifact.json", `{"version":1,`), false, false},
		{"missing metadata", remove("artifact.json"), false, false},
		{"metadata of another version", write("artifact.json", `{"version":0}`), false, false},
		{"a changed copy", write("tree/layer.bin", "x"), true, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			it, pulls := item(t, pack(t, file("a.yaml", "a: 1")), "application/x.tar")
			it.Copy = c.copied
			name, _ := put(t, open(t, dir), it)
			if err := c.damage(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			cache := open(t, dir)
			e, damage, err := cache.Get(name)
			if err != nil {
				t.Fatal(err)
			}
			if damage == nil || damage.Repaired != c.repaired || (e != nil) != c.repaired {
				t.Fatalf("entry %v, damage %+v", e, damage)
			}
			if !c.repaired {
				if n := names(t, dir); len(n) != 0 {
					t.Errorf("still there: %v", n)
				}
				if e, err = cache.Put(name, it); err != nil {
					t.Fatal(err)
				}
			}
			if *pulls > 2 || c.repaired && *pulls != 1 {
				t.Errorf("%d pulls", *pulls)
			}
			if !c.copied && read(t, filepath.Join(e.Dir, "a.yaml")) != "a: 1" {
				t.Error("the file is not as it was")
			}
			if _, damage, err := open(t, dir).Get(name); damage != nil || err != nil {
				t.Errorf("still damaged: %+v %v", damage, err)
			}
		})
	}
}

func TestCacheLeavesNothingHalfDone(t *testing.T) {
	broken := errors.New("the line broke")
	cases := []struct {
		name string
		item func(*Item)
	}{
		{"a pull that fails", func(it *Item) { it.Pull = func(v1.Descriptor, io.Writer) error { return broken } }},
		{"a pull that fails on its way", func(it *Item) {
			it.Pull = func(_ v1.Descriptor, w io.Writer) error { _, _ = w.Write([]byte("half")); return broken }
		}},
		{"a hostile archive", func(it *Item) {
			hostile, _ := item(t, pack(t, file("good", "x"), file("../bad", "x")), "application/x.tar")
			*it = hostile
		}},
		{"a layer with another digest", func(it *Item) {
			it.Pull = func(l v1.Descriptor, w io.Writer) error { _, err := w.Write(make([]byte, l.Size)); return err }
		}},
		{"a layer that is too short", func(it *Item) {
			it.Pull = func(l v1.Descriptor, w io.Writer) error { _, err := w.Write(make([]byte, l.Size-1)); return err }
		}},
		{"a layer that is too long, and nobody minds", func(it *Item) {
			pull := it.Pull
			it.Pull = func(l v1.Descriptor, w io.Writer) error { _ = pull(l, w); _, _ = w.Write([]byte{0}); return nil }
		}},
		{"a layer without a size", func(it *Item) { it.Layers[0].Size = -1 }},
		{"a manifest with another digest", func(it *Item) { it.Manifest = []byte("{}") }},
		{"no layer", func(it *Item) { it.Layers = nil }},
		{"two layers to copy", func(it *Item) { it.Copy = true; it.Layers = append(it.Layers, it.Layers[0]) }},
		{"a full disk", func(it *Item) {
			it.Pull = func(v1.Descriptor, io.Writer) error { return os.WriteFile("/dev/full", []byte("x"), 0o600) }
		}},
		{"a layer over the limit", func(it *Item) { it.Layers[0].Size = 1 << 40 }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			it, _ := item(t, pack(t, file("a", "b")), "application/x.tar")
			c.item(&it)
			if _, err := open(t, dir).Put(EntryName(it.Digest, "ab"), it); err == nil {
				t.Error("no error")
			}
			if n := names(t, dir); len(n) != 0 {
				t.Errorf("left behind: %v", n)
			}
		})
	}
}

func TestCacheRemovesWhatAKilledProcessLeft(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, tempPrefix+"dead", treeDir, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	busy := open(t, dir) // removes it
	if n := names(t, dir); len(n) != 0 {
		t.Errorf("left behind: %v", n)
	}
	it, _ := item(t, pack(t, file("a", "b")), "application/x.tar")
	pull := it.Pull
	it.Pull = func(_ v1.Descriptor, w io.Writer) error { // another process starts while this one is writing
		open(t, dir)
		return pull(v1.Descriptor{}, w)
	}
	put(t, busy, it)
}

func TestCacheWritesOneEntryOnce(t *testing.T) {
	c := open(t, t.TempDir())
	it, _ := item(t, pack(t, file("a", "b")), "application/x.tar")
	it.Pull = func(pull func(v1.Descriptor, io.Writer) error) func(v1.Descriptor, io.Writer) error {
		var mu sync.Mutex
		return func(_ v1.Descriptor, w io.Writer) error {
			mu.Lock()
			defer mu.Unlock()
			return pull(v1.Descriptor{}, w)
		}
	}(it.Pull)
	_, first := put(t, c, it)
	before, err := os.Stat(first.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := c.Put(EntryName(it.Digest, "0123456789ab"), it); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after, err := os.Stat(first.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("a folder in use was replaced")
	}
}
