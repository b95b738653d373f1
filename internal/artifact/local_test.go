package artifact_test

import (
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// copyToLayout writes an artifact of the registry into an OCI layout under its tag, as somebody with a USB stick would.
func copyToLayout(t testing.TB, r *testenv.Registry, repo, tag, dir string) {
	t.Helper()
	img, err := remote.Image(must(name.ParseReference(r.Host() + "/" + repo + ":" + tag))(t))
	if err != nil {
		t.Fatal(err)
	}
	p, err := layout.FromPath(dir)
	if err != nil {
		p = must(layout.Write(dir, empty.Index))(t)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})); err != nil {
		t.Fatal(err)
	}
}

// must is a value, or the end of the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestLayoutAsSource(t *testing.T) {
	r := testenv.NewRegistry(t)
	digest := r.PushFiles("apps/web", "1.0.0", files, map[string]string{"org.opencontainers.image.revision": "main@sha1:abc"})
	dir := filepath.Join(t.TempDir(), "stick")
	copyToLayout(t, r, "apps/web", "1.0.0", dir)
	cache := filepath.Join(t.TempDir(), "cache")
	s := newStore(t, func(o *artifact.Options) { o.CacheDir = cache })
	src := source("oci-layout://"+dir, deploy.Ref{Semver: ">=1"})

	rev := fetch(t, s, src)
	if rev.Digest != digest || rev.Ref != "1.0.0" || read(t, rev.Dir, "app/web.yaml") != files["app/web.yaml"] || rev.Annotations["org.opencontainers.image.revision"] != "main@sha1:abc" {
		t.Errorf("revision %+v", rev)
	}
	t.Run("an update of the layout is a new revision", func(t *testing.T) {
		r.PushFiles("apps/web", "1.1.0", map[string]string{"a.yaml": "a: 2"}, nil)
		copyToLayout(t, r, "apps/web", "1.1.0", dir)
		if rev := fetch(t, s, src); rev.Ref != "1.1.0" || read(t, rev.Dir, "a.yaml") != "a: 2" {
			t.Errorf("revision %+v", rev)
		}
	})
	t.Run("a layout that was taken away is an error, and what it brought stays", func(t *testing.T) {
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		_, err := s.Resolve(t.Context(), src)
		if err == nil || reasonOf(t, err) != deploy.SourceNotFound || !strings.Contains(err.Error(), "is the disk mounted?") {
			t.Errorf("error %v", err)
		}
		if _, rev, err := cachedIn(t, cache, src); err != nil || rev.Ref != "1.1.0" {
			t.Errorf("%+v %v", rev, err)
		}
	})
}

func TestFolderAsSource(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		write(name, content)
	}
	write("notes.md", "not for the cluster")
	write(".git/HEAD", "ref: refs/heads/main")
	s := newStore(t)
	ignore := "*.md"
	src := source("file://"+dir, deploy.Ref{}, func(s *deploy.SourceSpec) { s.Ref, s.Ignore = nil, &ignore })
	rev := fetch(t, s, src)
	if read(t, rev.Dir, "app/web.yaml") != files["app/web.yaml"] {
		t.Errorf("revision %+v", rev)
	}
	for _, ignored := range []string{"notes.md", ".git"} {
		if _, err := os.Stat(filepath.Join(rev.Dir, ignored)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", ignored, err)
		}
	}
	t.Run("an unchanged folder has the same digest, also when it was touched", func(t *testing.T) {
		write("kustomization.yaml", files["kustomization.yaml"])
		if pin := resolve(t, s, src); pin.Digest != rev.Digest {
			t.Errorf("pin %+v", pin)
		}
	})
	t.Run("what is ignored changes nothing", func(t *testing.T) {
		write("notes.md", "other words")
		if pin := resolve(t, s, src); pin.Digest != rev.Digest {
			t.Errorf("pin %+v", pin)
		}
	})
	t.Run("a changed file is a new revision", func(t *testing.T) {
		write("app/web.yaml", "kind: Secret\n")
		if next := fetch(t, s, src); next.Digest == rev.Digest || read(t, next.Dir, "app/web.yaml") != "kind: Secret\n" {
			t.Errorf("revision %+v", next)
		}
	})
}

func TestWhatOtherToolsPush(t *testing.T) {
	r := testenv.NewRegistry(t)
	s := newStore(t)
	t.Run("oras: plain files, one a layer", func(t *testing.T) {
		file := func(name, content string) testenv.Layer {
			return testenv.Layer{MediaType: "application/yaml", Data: []byte(content), Annotations: map[string]string{"org.opencontainers.image.title": name}}
		}
		r.PushLayers("oras/files", "v1", "application/vnd.oci.empty.v1+json", []byte("{}"), nil, file("a.yaml", "a: 1"), file("more/b.yaml", "b: 2"))
		rev := fetch(t, s, source(r.URL("oras/files"), deploy.Ref{Tag: "v1"}))
		if read(t, rev.Dir, "a.yaml") != "a: 1" || read(t, rev.Dir, "more/b.yaml") != "b: 2" {
			t.Errorf("revision %+v", rev)
		}
	})
	t.Run("oras: a folder", func(t *testing.T) {
		r.PushLayers("oras/folder", "v1", "application/vnd.oci.empty.v1+json", []byte("{}"), nil, testenv.Layer{
			MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Data: testenv.TarGz(map[string]string{"app/a.yaml": "a: 1"}),
			Annotations: map[string]string{"org.opencontainers.image.title": "app", "io.deis.oras.content.unpack": "true"},
		})
		if rev := fetch(t, s, source(r.URL("oras/folder"), deploy.Ref{Tag: "v1"})); read(t, rev.Dir, "app/a.yaml") != "a: 1" {
			t.Errorf("revision %+v", rev)
		}
	})
	t.Run("crane: an image with a layer of files", func(t *testing.T) {
		r.PushLayers("crane/image", "v1", "application/vnd.docker.container.image.v1+json", []byte("{}"), nil, testenv.Layer{
			MediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip", Data: testenv.TarGz(map[string]string{"a.yaml": "a: 1"}),
		})
		if rev := fetch(t, s, source(r.URL("crane/image"), deploy.Ref{Tag: "v1"})); read(t, rev.Dir, "a.yaml") != "a: 1" {
			t.Errorf("revision %+v", rev)
		}
	})
	t.Run("an index: the platform that was asked for", func(t *testing.T) {
		arm := r.PushFiles("multi", "arm", map[string]string{"a.yaml": "arm"}, nil)
		amd := r.PushFiles("multi", "amd", map[string]string{"a.yaml": "amd"}, nil)
		r.PushIndex("multi", "v1", map[string]string{"linux/amd64": amd, "linux/arm/v7": arm})
		on := func(platform string) deploy.Source {
			return source(r.URL("multi"), deploy.Ref{Tag: "v1"}, func(s *deploy.SourceSpec) { s.Platform = platform })
		}
		for platform, want := range map[string]string{"linux/arm/v7": "arm", "linux/amd64": "amd"} {
			if rev := fetch(t, s, on(platform)); read(t, rev.Dir, "a.yaml") != want {
				t.Errorf("%s: revision %+v", platform, rev)
			}
		}
		_, err := s.Fetch(t.Context(), on("linux/s390x"), resolve(t, s, on("linux/s390x")))
		if err == nil || reasonOf(t, err) != deploy.SourceInvalidArtifact || !strings.Contains(err.Error(), "linux/s390x") || !strings.Contains(err.Error(), "linux/arm/v7") {
			t.Errorf("error %v", err)
		}
	})
}
