package layout

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcr "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/artifact/oci"
)

func TestTags(t *testing.T) {
	s := newStick(t)
	one := s.add(artifact(t, "one"), refNameAnnotation, "1.0.0")
	two := s.add(artifact(t, "two"), refNameAnnotation, "localhost:5000/team/app:2.0.0")
	s.add(artifact(t, "three"), refNameAnnotation, "localhost:5000/team/app")
	s.add(artifact(t, "four"), refNameAnnotation, "ghcr.io/team/app@"+one)
	s.add(artifact(t, "five"), refNameAnnotation, "a.example/app:double")
	s.add(artifact(t, "six"), refNameAnnotation, "b.example/app:double")
	s.both(t, func(t *testing.T, l *Layout) {
		got, err := l.Tags(t.Context())
		must(t, err)
		if diff := cmp.Diff([]string{"1.0.0", "2.0.0", "double"}, got); diff != "" {
			t.Error(diff)
		}
		for tag, want := range map[string]string{"1.0.0": one, "2.0.0": two} {
			if got, err := l.Digest(t.Context(), tag); got != want || err != nil {
				t.Errorf("%s is %s, %v, want %s", tag, got, err, want)
			}
		}
		if got := text(t, l, two); got != "two" {
			t.Errorf("the content is %q", got)
		}
		_, err = l.Digest(t.Context(), "3")
		fails(t, err, oci.ErrNotFound, "has no tag 3, but 1.0.0, 2.0.0, double")
		_, err = l.Digest(t.Context(), "double")
		fails(t, err, nil, "has the tag double more than once")
	})
}

func TestLatestOfALayoutWithoutTags(t *testing.T) {
	t.Run("is its only artifact, signatures and parts aside", func(t *testing.T) {
		s := newStick(t)
		part := artifact(t, "part")
		index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: part})
		s.add(part)
		must(t, s.path.AppendIndex(index))
		raw, err := index.RawManifest()
		must(t, err)
		s.add(artifact(t, "signature"), refNameAnnotation, strings.Replace(digestOf(raw), ":", "-", 1)+".sig")
		s.add(refer(t, "referrer", part))
		s.both(t, func(t *testing.T, l *Layout) {
			if got, err := l.Digest(t.Context(), "latest"); got != digestOf(raw) || err != nil {
				t.Errorf("got %s, %v", got, err)
			}
		})
	})
	t.Run("is not guessed among two", func(t *testing.T) {
		s := newStick(t)
		s.add(artifact(t, "one"))
		s.add(artifact(t, "two"))
		s.both(t, func(t *testing.T, l *Layout) {
			_, err := l.Digest(t.Context(), "latest")
			fails(t, err, oci.ErrNotFound, "no tag latest, nor any other")
		})
	})
	t.Run("is not what lies beside a tag", func(t *testing.T) {
		s := newStick(t)
		s.add(artifact(t, "one"))
		s.add(artifact(t, "two"), refNameAnnotation, "v1")
		s.both(t, func(t *testing.T, l *Layout) {
			_, err := l.Digest(t.Context(), "latest")
			fails(t, err, oci.ErrNotFound, "no tag latest, but v1")
		})
	})
}

func TestReferrers(t *testing.T) {
	s := newStick(t)
	app, other := artifact(t, "app"), artifact(t, "other")
	digest := s.add(app, refNameAnnotation, "v1")
	s.add(other)
	listed := refer(t, "listed", app)
	copied := s.add(refer(t, "copied", app)) // as oras cp -r does
	s.add(refer(t, "elsewhere", other))
	// As regctl does: the tag of the digest has a list of manifests that the index itself does not name.
	must(t, s.path.WriteImage(listed))
	must(t, s.path.AppendIndex(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: listed}),
		ggcr.WithAnnotations(map[string]string{refNameAnnotation: strings.Replace(digest, ":", "-", 1)})))
	s.both(t, func(t *testing.T, l *Layout) {
		got, err := l.Referrers(t.Context(), digest)
		must(t, err)
		var digests []string
		for _, d := range got {
			digests = append(digests, d.Digest.String())
			if raw, err := l.Manifest(t.Context(), d.Digest.String()); err != nil || int64(len(raw)) != d.Size {
				t.Errorf("the size is %d: %v", d.Size, err)
			}
		}
		if diff := cmp.Diff([]string{copied, digestOfImage(t, listed)}, digests); diff != "" {
			t.Error(diff)
		}
		if got[0].ArtifactType != string(ConfigMediaType) || got[0].Annotations["what"] != "copied" || got[0].MediaType != types.OCIManifestSchema1 {
			t.Errorf("the descriptor is not as a registry makes it: %+v", got[0])
		}
		if none, err := l.Referrers(t.Context(), digestOf([]byte("nobody"))); err != nil || len(none) != 0 {
			t.Errorf("for what is not there: %v, %v", none, err)
		}
	})
}

func TestSignaturesThatCosignSaved(t *testing.T) {
	s := newStick(t)
	const ref = "ghcr.io/team/app:v1"
	digest := s.add(artifact(t, "app"), refNameAnnotation, ref, kindAnnotation, "dev.cosignproject.cosign/image")
	signature := func(of string) v1.Image {
		payload := `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"` + of + `"},"type":"cosign container image signature"},"optional":null}`
		img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer([]byte(payload), "application/vnd.dev.cosign.simplesigning.v1+json"))
		must(t, err)
		return img
	}
	s.add(signature(digestOf([]byte("other"))), refNameAnnotation, ref, kindAnnotation, kindSignatures)
	want := s.add(signature(digest), refNameAnnotation, ref, kindAnnotation, kindSignatures)
	s.both(t, func(t *testing.T, l *Layout) {
		for tag, want := range map[string]string{"v1": digest, strings.Replace(digest, ":", "-", 1) + ".sig": want} {
			if got, err := l.Digest(t.Context(), tag); got != want || err != nil {
				t.Errorf("%s is %s, %v, want %s", tag, got, err, want)
			}
		}
		_, err := l.Digest(t.Context(), strings.Replace(digestOf([]byte("nobody")), ":", "-", 1)+".sig")
		fails(t, err, oci.ErrNotFound, "has no signatures of sha256:")
	})
}

func TestDamagedBlobs(t *testing.T) {
	s := newStick(t)
	img := artifact(t, "content")
	digest := s.add(img, refNameAnnotation, "v1")
	layers, err := img.Layers()
	must(t, err)
	sum, err := layers[0].Digest()
	must(t, err)
	layer := v1.Descriptor{Digest: sum, Size: int64(len("content"))}
	blob := func(digest string) string {
		return filepath.Join(s.dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
	}
	for _, c := range []struct{ name, text, want string }{
		{"another content", "cOntent", "has the digest"},
		{"a longer one", "content!", "is larger than"},
		{"a shorter one", "conten", "has 6 bytes and not the 7"},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			write(t, blob(sum.String()), c.text)
			s.both(t, func(t *testing.T, l *Layout) { fails(t, l.Blob(t.Context(), layer, io.Discard), nil, c.want) })
		})
	}
	t.Run("a manifest with another content is refused", func(t *testing.T) {
		raw, err := os.ReadFile(blob(digest))
		must(t, err)
		write(t, blob(digest), string(raw)+" ")
		s.both(t, func(t *testing.T, l *Layout) {
			_, err := l.Manifest(t.Context(), digest)
			fails(t, err, nil, "somebody changed it")
		})
	})
	t.Run("a manifest that is too large is refused", func(t *testing.T) {
		write(t, blob(digest), strings.Repeat(" ", maxManifest+1))
		s.both(t, func(t *testing.T, l *Layout) {
			_, err := l.Manifest(t.Context(), digest)
			fails(t, err, nil, "is larger than 4194304 bytes")
		})
	})
	t.Run("a blob that is missing is not found", func(t *testing.T) {
		must(t, os.Remove(blob(sum.String())))
		s.both(t, func(t *testing.T, l *Layout) {
			err := l.Blob(t.Context(), layer, io.Discard)
			fails(t, err, oci.ErrNotFound, "it was not copied completely")
			if errors.Is(err, fs.ErrNotExist) {
				t.Error("it looks as if the whole stick were gone")
			}
		})
	})
	t.Run("a blob that is a link out of the folder is refused", func(t *testing.T) {
		outside := filepath.Join(t.TempDir(), "outside")
		write(t, outside, "content")
		must(t, os.Symlink(outside, blob(sum.String())))
		l, err := Open(s.dir)
		must(t, err)
		fails(t, l.Blob(t.Context(), layer, io.Discard), nil, "escapes")
	})
	t.Run("a digest that is a path is refused", func(t *testing.T) {
		l, err := Open(s.dir)
		must(t, err)
		_, err = l.Manifest(t.Context(), "sha256:../../index.json")
		fails(t, err, nil, "is no sha256 digest")
	})
}

func TestAStickThatIsPulled(t *testing.T) {
	s := newStick(t)
	digest := s.add(artifact(t, "app"), refNameAnnotation, "v1")
	for kind, path := range map[string]string{"folder": s.dir, "tar": s.tarred()} {
		t.Run("as a "+kind, func(t *testing.T) {
			l, err := Open(path)
			must(t, err)
			must(t, os.Rename(path, path+".away"))
			_, err = l.Digest(t.Context(), "v1")
			fails(t, err, fs.ErrNotExist, path)
			if errors.Is(err, oci.ErrNotFound) {
				t.Error("it looks as if only the tag were gone")
			}
			if kind == "folder" { // the place where it was mounted stays
				must(t, os.Mkdir(path, 0o755))
				_, err = l.Manifest(t.Context(), digest)
				fails(t, err, fs.ErrNotExist, "has no file oci-layout")
				must(t, os.Remove(path))
			}
			_, err = Open(path)
			fails(t, err, fs.ErrNotExist, path)
			must(t, os.Rename(path+".away", path))
			if got := text(t, l, digest); got != "app" {
				t.Errorf("put back, it has %q", got)
			}
		})
	}
}

func TestATarThatIsReplaced(t *testing.T) {
	s := newStick(t)
	s.add(artifact(t, "app"), refNameAnnotation, "v1")
	path := s.tarred()
	later := func() time.Time { return time.Now().Add(time.Hour) }
	i := &image{path: path, medium: &tarball{path: path, now: later}}
	l := &Layout{from: i}
	if _, err := l.Digest(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	second := newStick(t)
	second.add(artifact(t, strings.Repeat("moves the rest ", 1000)), refNameAnnotation, "v0")
	want := second.add(artifact(t, "new"), refNameAnnotation, "v1")
	must(t, os.Rename(second.tarred(), path))
	if got, err := l.Digest(t.Context(), "v1"); got != want || err != nil {
		t.Errorf("got %s, %v, want the new tar's %s", got, err, want)
	}
	if got := text(t, l, want); got != "new" {
		t.Errorf("the content is %q", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	tarOf := func(files ...string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, f := range files {
			name, text, _ := strings.Cut(f, "=")
			must(t, w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644, Typeflag: tar.TypeReg}))
			_, err := io.WriteString(w, text)
			must(t, err)
		}
		must(t, w.Close())
		return b.Bytes()
	}
	const marker = `oci-layout={"imageLayoutVersion":"1.0.0"}`
	for _, c := range []struct {
		name string
		text []byte
		want string
	}{
		{"an archive of docker save", tarOf("manifest.json=[]", "a/layer.tar=x"), "skopeo copy docker-archive:FILE"},
		{"any other tar", tarOf("a.yaml=a: 1"), "has no file oci-layout"},
		{"a layout without an index", tarOf(marker), "has no index.json"},
		{"an index that is none", tarOf(marker, "index.json=nope"), "index.json: invalid character"},
		{"another version", tarOf(`oci-layout={"imageLayoutVersion":"2.0.0"}`), `version "2.0.0"`},
		{"a compressed tar", []byte("\x1f\x8b\x08\x00..."), "it is compressed"},
		{"a tar that is cut off", tarOf(marker, "index.json="+strings.Repeat(" ", 5000))[:3000], "unexpected EOF"},
		{"an index that is too large", tarOf(marker, "index.json="+strings.Repeat(" ", maxManifest+1)), "is larger than 4194304 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "layout.tar")
			must(t, os.WriteFile(path, c.text, 0o644))
			_, err := Open(path)
			fails(t, err, nil, c.want)
		})
	}
}

// FuzzOpenTar looks for panics, and for contents that are not what their digest says.
func FuzzOpenTar(f *testing.F) {
	s := newStick(f)
	app := artifact(f, "app")
	s.add(app, refNameAnnotation, "latest")
	s.add(refer(f, "referrer", app))
	raw, err := os.ReadFile(s.tarred())
	must(f, err)
	f.Add(raw)
	f.Add(raw[:len(raw)/2])
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "layout.tar")
		must(t, os.WriteFile(path, raw, 0o644))
		l, err := Open(path)
		if err != nil {
			return
		}
		if _, err := l.Tags(t.Context()); err != nil {
			t.Errorf("it was opened, but has no tags: %v", err)
		}
		digest, err := l.Digest(t.Context(), "latest")
		if err != nil {
			return
		}
		if m, err := l.Manifest(t.Context(), digest); err == nil && digestOf(m) != digest {
			t.Errorf("the manifest %s has the digest %s", digest, digestOf(m))
		}
		_, _ = l.Referrers(t.Context(), digest)
		_, _ = l.Digest(t.Context(), strings.Replace(digest, ":", "-", 1)+".sig")
	})
}
