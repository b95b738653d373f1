package store

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// FuzzUnpack feeds layers that are nearly right, as archives and as plain files. Whatever happens, nothing outside changes (unpackWith looks) and the limits hold.
func FuzzUnpack(f *testing.F) {
	tars := [][]byte{
		pack(f, file("a.yaml", "a: 1"), symlink("l", "a.yaml")),
		pack(f, file("../x", "x")),
		pack(f, symlink("d", ".."), file("d/secret", "x")),
		pack(f, file("a/b/f", ""), symlink("a/up", ".."), symlink("l", "a/up/../secret")),
		pack(f, special("h", tar.TypeLink), entry{tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700}, ""}),
		pack(f, headers(3)...),
	}
	for _, raw := range tars {
		f.Add(raw, "")
		f.Add(zip(f, raw), "deploy")
		f.Add(zstdOf(f, raw), "")
	}
	for _, title := range []string{"deploy.yaml", "a/b.json", "../secret", "/etc/passwd", "a/../../secret", ".", "x.tar", "a//b", "a\x00b", strings.Repeat("a/", 20)} {
		f.Add([]byte("kind: ConfigMap"), title)
	}
	f.Fuzz(func(t *testing.T, raw []byte, title string) {
		got, err := unpackWith(t, func(root *os.Root) error {
			u := newUnpacker(root, Limits{Unpacked: 1 << 16, Files: 50, Depth: 8})
			l := v1.Descriptor{Size: int64(len(raw)), Annotations: map[string]string{titleAnnotation: title}}
			if err := u.layer(bytes.NewReader(raw), l); err != nil {
				return err
			}
			return u.makeLinks()
		})
		if err != nil {
			return
		}
		sum := 0
		for name, content := range got {
			sum += len(content)
			if strings.Count(name, "/") >= 8 {
				t.Errorf("%q is too deep", name)
			}
		}
		if sum > 1<<16+50*2*maxPath || len(got) > 50 {
			t.Errorf("%d files, %d bytes", len(got), sum)
		}
	})
}

// FuzzMeta puts anything into the files that say what an entry is and why it may be trusted, as they are and with a digest that fits. The entry is then served as it
// was, or repaired, or gone, and never does anybody panic or leave the cache.
func FuzzMeta(f *testing.F) {
	dir := f.TempDir()
	it, _ := item(f, pack(f, file("a.yaml", "a: 1")), "application/x.tar")
	it.Evidence = []byte(`{"signed":true}`)
	name, e := put(f, open(f, dir), it)
	good, err := json.Marshal(e.Meta)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, true)
	for _, s := range []string{
		"", "{}", "null", `{"version":2}`, `{"version":2,"layers":[{}],"tree":"x"}`, `{"version":2,"layers":null,"file":"../../x"}`,
		`{"version":2,"manifest":"sha256:../../x","layers":[{"digest":"sha256:ab","size":-1,"platform":{"os":1}}]}`, `{"version":2,"file":"layer.bin","layers":[{},{}]}`,
		strings.Replace(string(good), `"a":"b"`, `"a":"c"`, 1), strings.Replace(string(good), `"size":`, `"size":-`, 1),
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, sealed bool) {
		in := t.TempDir()
		if err := os.CopyFS(in, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if sealed {
			if raw, err = seal(raw, maxMeta); err != nil {
				return // larger than anything that is written
			}
		}
		for _, file := range []string{metaFile, evidenceFile} {
			if err := os.WriteFile(filepath.Join(in, name, file), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c := open(t, in)
		if _, _, err := c.Usage(); err != nil {
			t.Error(err)
		}
		got, damage, err := c.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		if got == nil {
			if damage == nil || len(names(t, in)) != 0 {
				t.Errorf("gone, damage %+v, left %v", damage, names(t, in))
			}
			return
		}
		if !got.Trim && got.File == "" && read(t, filepath.Join(got.Dir, "a.yaml")) != "a: 1" {
			t.Error("the tree is another one")
		}
		if evidence, err := got.Evidence(); err != nil || evidence != nil && !sealed && !bytes.HasPrefix(raw, []byte(sealBegin)) {
			t.Errorf("evidence %q, %v", evidence, err)
		}
		if _, err := c.Prune(nil); err != nil {
			t.Error(err)
		}
	})
}
