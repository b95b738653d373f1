package layout

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/oci"
)

// openPlain opens files with a clock an hour ahead: whatever changed has long settled.
func openPlain(t testing.TB, path string, extra *string) (*Layout, *plain) {
	t.Helper()
	l, err := OpenFiles(path, extra)
	must(t, err)
	p, ok := l.from.(*plain)
	if !ok {
		t.Fatal("it reads no plain files")
	}
	p.now = func() time.Time { return time.Now().Add(time.Hour) }
	return l, p
}

// unpacked is the manifest of the current content and the names in its layer.
func unpacked(t testing.TB, l *Layout) (digest string, m *v1.Manifest, names []string) {
	t.Helper()
	ctx := context.Background()
	digest, err := l.Digest(ctx, "latest")
	must(t, err)
	raw, err := l.Manifest(ctx, digest)
	must(t, err)
	if digestOf(raw) != digest {
		t.Errorf("the manifest has the digest %s, and not %s", digestOf(raw), digest)
	}
	m, err = v1.ParseManifest(bytes.NewReader(raw))
	must(t, err)
	var config, layer bytes.Buffer
	must(t, l.Blob(ctx, m.Config, &config))
	must(t, l.Blob(ctx, m.Layers[0], &layer))
	if config.String() != "{}" || digestOf(config.Bytes()) != m.Config.Digest.String() || m.Config.Size != int64(config.Len()) {
		t.Errorf("the config is %q", config.String())
	}
	if digestOf(layer.Bytes()) != m.Layers[0].Digest.String() || m.Layers[0].Size != int64(layer.Len()) {
		t.Error("the layer is not what the manifest says")
	}
	z, err := gzip.NewReader(&layer)
	must(t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return digest, m, names
		}
		must(t, err)
		names = append(names, h.Name)
	}
}

func TestFilesAsAnArtifact(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a.yaml", "x/b.yaml", "x/notes.md", "pic.png", ".git/HEAD", "x/.sourceignore"} {
		write(t, filepath.Join(dir, n), "")
	}
	t.Run("a folder, without what is ignored", func(t *testing.T) {
		l, _ := openPlain(t, dir, nil)
		_, m, names := unpacked(t, l)
		if diff := cmp.Diff([]string{"a.yaml", "x/.sourceignore", "x/b.yaml", "x/notes.md"}, names); diff != "" {
			t.Error(diff)
		}
		if m.Config.MediaType != "application/vnd.cncf.flux.config.v1+json" || m.Layers[0].MediaType != "application/vnd.cncf.flux.content.v1.tar+gzip" ||
			m.Annotations[AnnotationCreated] != NoTime || len(m.Annotations) != 1 {
			t.Errorf("Flux would not read %+v", m)
		}
	})
	t.Run("a folder, with rules", func(t *testing.T) {
		extra := "*.md\n.sourceignore"
		l, _ := openPlain(t, dir, &extra)
		if _, _, names := unpacked(t, l); !slices.Equal(names, []string{"a.yaml", "pic.png", "x/b.yaml"}) {
			t.Errorf("it has %q", names)
		}
	})
	t.Run("a single file", func(t *testing.T) {
		l, _ := openPlain(t, filepath.Join(dir, "a.yaml"), nil)
		if _, _, names := unpacked(t, l); !slices.Equal(names, []string{"a.yaml"}) {
			t.Errorf("it has %q", names)
		}
	})
	t.Run("archives, as they are", func(t *testing.T) {
		var plain, zipped bytes.Buffer
		w := tar.NewWriter(&plain)
		must(t, w.WriteHeader(&tar.Header{Name: "in.yaml", Typeflag: tar.TypeReg}))
		must(t, w.Close())
		z := gzip.NewWriter(&zipped)
		_, err := z.Write(plain.Bytes())
		must(t, errors.Join(err, z.Close()))
		for name, text := range map[string]string{"a.tar": plain.String(), "a.tgz": zipped.String(), "a.tar.gz": zipped.String()} {
			path := filepath.Join(t.TempDir(), name)
			write(t, path, text)
			l, _ := openPlain(t, path, nil)
			if _, m, names := unpacked(t, l); !slices.Equal(names, []string{"in.yaml"}) || (name != "a.tar" && m.Layers[0].Digest.String() != digestOf(zipped.Bytes())) {
				t.Errorf("%s has %q", name, names)
			}
		}
	})
	t.Run("nothing else", func(t *testing.T) {
		_, err := OpenFiles(filepath.Join(dir, "x", "notes.md"), nil)
		fails(t, err, nil, "is neither a folder nor a .yaml")
		_, err = OpenFiles(filepath.Join(dir, "nothing"), nil)
		fails(t, err, fs.ErrNotExist)
		_, err = OpenFiles("/dev/null", nil)
		fails(t, err, nil, "it must be a folder, an archive or a YAML file")
	})
	t.Run("only the tag latest, and no signatures", func(t *testing.T) {
		l, _ := openPlain(t, dir, nil)
		_, err := l.Digest(t.Context(), "v1")
		fails(t, err, oci.ErrNotFound, "no tag v1, but latest")
		tags, err := l.Tags(t.Context())
		if diff := cmp.Diff([]string{"latest"}, tags); diff != "" || err != nil {
			t.Error(diff, err)
		}
		if refs, err := l.Referrers(t.Context(), digestOf(nil)); len(refs) != 0 || err != nil {
			t.Error(refs, err)
		}
	})
}

func TestEqualFilesHaveEqualDigests(t *testing.T) {
	var digests []string
	for _, perm := range []os.FileMode{0o600, 0o664} {
		dir := t.TempDir()
		path := filepath.Join(dir, "a.yaml")
		must(t, os.WriteFile(path, []byte("a: 1\n"), perm))
		past := time.Now().Add(-time.Duration(perm) * time.Hour)
		must(t, os.Chtimes(path, past, past))
		for _, p := range []string{dir, path} { // a folder with one file, and the file itself
			l, _ := openPlain(t, p, nil)
			d, _, _ := unpacked(t, l)
			digests = append(digests, d)
		}
	}
	if len(slices.Compact(digests)) != 1 {
		t.Errorf("the digests are %q", digests)
	}
}

func TestPollsOfFiles(t *testing.T) {
	poll := func(t *testing.T, l *Layout) string {
		t.Helper()
		d, err := l.Digest(t.Context(), "latest")
		must(t, err)
		return d
	}
	start := func(t *testing.T) (string, *Layout, *plain, string) {
		t.Helper()
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a.yaml"), "a: 1")
		write(t, filepath.Join(dir, "x", ".sourceignore"), "*.md\n.sourceignore")
		write(t, filepath.Join(dir, "x", "b.md"), "")
		l, p := openPlain(t, dir, nil)
		return dir, l, p, poll(t, l)
	}
	t.Run("of unchanged ones read no content", func(t *testing.T) {
		_, l, p, first := start(t)
		for range 3 {
			if got := poll(t, l); got != first || p.packed != 1 {
				t.Errorf("the digest is %s, after %d readings", got, p.packed)
			}
		}
	})
	t.Run("do not read on account of what is ignored", func(t *testing.T) {
		dir, l, p, first := start(t)
		write(t, filepath.Join(dir, "x", "b.md"), "changed")
		write(t, filepath.Join(dir, "x", "c.md"), "new")
		write(t, filepath.Join(dir, ".git", "HEAD"), "new")
		if got := poll(t, l); got != first || p.packed != 1 {
			t.Errorf("the digest is %s, after %d readings", got, p.packed)
		}
	})
	for _, c := range []struct {
		name   string
		change func(dir string) error
		same   bool
	}{
		{"see a change that keeps the size and the time", func(dir string) error {
			path := filepath.Join(dir, "a.yaml")
			info, err := os.Stat(path)
			return errors.Join(err, os.WriteFile(path, []byte("a: 2"), 0o644), os.Chtimes(path, info.ModTime(), info.ModTime()))
		}, false},
		{"see a new file", func(dir string) error { return os.WriteFile(filepath.Join(dir, "x", "new.yaml"), nil, 0o644) }, false},
		{"see that a file is gone", func(dir string) error { return os.Remove(filepath.Join(dir, "a.yaml")) }, false},
		{"see that a file was renamed", func(dir string) error { return os.Rename(filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")) }, false},
		{"see other rules, even where these ignore themselves", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "x", ".sourceignore"), []byte(".sourceignore"), 0o644)
		}, false},
		{"see that a file can be executed now", func(dir string) error { return os.Chmod(filepath.Join(dir, "a.yaml"), 0o755) }, false},
		{"see through a change that changes nothing", func(dir string) error { return os.WriteFile(filepath.Join(dir, "a.yaml"), []byte("a: 1"), 0o644) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, l, p, first := start(t)
			for before := stampOfFile(t, dir); stampOfNew(t) == before; { // until the clock of the file system has gone on by a tick
				if t.Context().Err() != nil {
					t.Fatal("the clock stands still")
				}
			}
			must(t, c.change(dir))
			if got := poll(t, l); (got == first) != c.same || p.packed != 2 {
				t.Errorf("the digest was %s and is %s, after %d readings", first, got, p.packed)
			}
		})
	}
	t.Run("read again what changed so lately that a further change might not show", func(t *testing.T) {
		_, l, p, first := start(t)
		p.last, p.packed, p.now = nil, 0, time.Now
		for i := range 2 {
			if got := poll(t, l); got != first || p.packed != i+1 {
				t.Errorf("the digest is %s, after %d readings", got, p.packed)
			}
		}
	})
	t.Run("say when the folder is gone, and take it when it is back", func(t *testing.T) {
		dir, l, _, first := start(t)
		must(t, os.Rename(dir, dir+".away"))
		_, err := l.Digest(t.Context(), "latest")
		fails(t, err, fs.ErrNotExist, dir)
		must(t, os.Rename(dir+".away", dir))
		if got := poll(t, l); got != first {
			t.Errorf("the digest is %s, and was %s", got, first)
		}
	})
}

// stampOfFile is when the file changed last, stampOfNew when one that is written now did.
func stampOfFile(t testing.TB, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "a.yaml"))
	must(t, err)
	return stampOf(info).changed
}

func stampOfNew(t testing.TB) int64 {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), "")
	return stampOfFile(t, dir)
}

func TestFilesThatChangeBetweenDigestAndBlob(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), "a: 1")
	l, p := openPlain(t, dir, nil)
	digest, m, _ := unpacked(t, l)
	write(t, filepath.Join(dir, "a.yaml"), "a: 12")
	fails(t, l.Blob(t.Context(), m.Layers[0], io.Discard), oci.ErrNotFound, "have changed")
	_, err := l.Manifest(t.Context(), digest)
	fails(t, err, oci.ErrNotFound, "and not "+digest)

	_, m, _ = unpacked(t, l)
	w := writerFunc(func(b []byte) (int, error) { return len(b), nil })
	p.now = func() time.Time { // the last thing before the content is read
		write(t, filepath.Join(dir, "a.yaml"), "a: 123")
		return time.Now().Add(time.Hour)
	}
	fails(t, l.Blob(t.Context(), m.Layers[0], w), nil, "change")
}

func TestACancelledCallEnds(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), strings.Repeat("a: 1\n", 100))
	l, _ := openPlain(t, dir, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	_, err := l.Digest(ctx, "latest")
	fails(t, err, why)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestManifestOf(t *testing.T) {
	layer := v1.Descriptor{Size: 7, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}}
	raw, config := ManifestOf(layer, map[string]string{"b": "2", "a": "1"})
	again, _ := ManifestOf(layer, map[string]string{"a": "1", "b": "2"})
	want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"config":{"mediaType":"application/vnd.cncf.flux.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},` +
		`"layers":[{"mediaType":"application/vnd.cncf.flux.content.v1.tar+gzip","size":7,"digest":"sha256:` + strings.Repeat("ab", 32) + `"}],` +
		`"annotations":{"a":"1","b":"2"}}`
	if diff := cmp.Diff(want, string(raw)); diff != "" || !bytes.Equal(raw, again) || string(config) != "{}" {
		t.Errorf("%s %s", diff, config)
	}
}
