package layout

import (
	"archive/tar"
	"context"
	"errors"

	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcr "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stick is an image layout that the real library writes.
type stick struct {
	t    testing.TB
	dir  string
	path ggcr.Path
}

func newStick(t testing.TB) *stick {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	path, err := ggcr.Write(dir, empty.Index)
	must(t, err)
	return &stick{t, dir, path}
}

// artifact is an image with one layer of that text.
func artifact(t testing.TB, text string) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer([]byte(text), LayerMediaType))
	must(t, err)
	return mutate.ConfigMediaType(img, ConfigMediaType)
}

// add puts an image on the stick, with annotations in pairs, and returns its digest.
func (s *stick) add(img v1.Image, annotations ...string) string {
	s.t.Helper()
	with := map[string]string{}
	for i := 0; i+1 < len(annotations); i += 2 {
		with[annotations[i]] = annotations[i+1]
	}
	must(s.t, s.path.AppendImage(img, ggcr.WithAnnotations(with)))
	return digestOfImage(s.t, img)
}

// refer makes an image that refers to another.
func refer(t testing.TB, text string, subject v1.Image) v1.Image {
	t.Helper()
	raw, err := subject.RawManifest()
	must(t, err)
	sum, err := subject.Digest()
	must(t, err)
	annotated, ok := mutate.Annotations(artifact(t, text), map[string]string{"what": text}).(v1.Image) // first: it drops the subject
	if !ok {
		t.Fatal("annotations make no image")
	}
	img, ok := mutate.Subject(annotated, v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: int64(len(raw)), Digest: sum}).(v1.Image)
	if !ok {
		t.Fatal("a subject makes no image")
	}
	return img
}

func digestOfImage(t testing.TB, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	must(t, err)
	return d.String()
}

// tarred makes a tar of the stick, with names as tar -C layout . gives them.
func (s *stick) tarred() string {
	s.t.Helper()
	name := filepath.Join(s.t.TempDir(), "layout.tar")
	f, err := os.Create(name)
	must(s.t, err)
	w := tar.NewWriter(f)
	must(s.t, fs.WalkDir(os.DirFS(s.dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Size: int64(len(text)), Mode: 0o644}); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}))
	must(s.t, errors.Join(w.Close(), f.Close()))
	return name
}

// both runs a test with the stick as a folder and as a tar.
func (s *stick) both(t *testing.T, test func(*testing.T, *Layout)) {
	t.Helper()
	for kind, path := range map[string]string{"folder": s.dir, "tar": s.tarred()} {
		t.Run("as a "+kind, func(t *testing.T) {
			l, err := Open(path)
			must(t, err)
			test(t, l)
			must(t, l.Close())
		})
	}
}

// text reads the only layer of an artifact, checked along the whole way.
func text(t testing.TB, l *Layout, digest string) string {
	t.Helper()
	ctx := context.Background()
	raw, err := l.Manifest(ctx, digest)
	must(t, err)
	m, err := v1.ParseManifest(strings.NewReader(string(raw)))
	must(t, err)
	var config, layer strings.Builder
	must(t, l.Blob(ctx, m.Config, &config))
	must(t, l.Blob(ctx, m.Layers[0], &layer))
	return layer.String()
}

// fails checks an error's kind and words.
func fails(t testing.TB, err, kind error, words ...string) {
	t.Helper()
	if err == nil || (kind != nil && !errors.Is(err, kind)) {
		t.Fatalf("got the error %v, want a %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got the error %v, want one with %q", err, w)
		}
	}
}

func write(t testing.TB, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(text), 0o644))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
