package publish_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/layout"
	"github.com/towline/towline/internal/artifact/publish"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

func TestSave(t *testing.T) {
	r := testenv.NewRegistry(t)
	amd := r.PushFiles("apps/web", "amd", map[string]string{"a.yaml": "a: amd"}, nil)
	arm := r.PushFiles("apps/web", "arm", map[string]string{"a.yaml": "a: arm"}, nil)
	digest := r.PushIndex("apps/web", "v1", map[string]string{"linux/amd64": amd, "linux/arm64": arm})
	key := signing.KeyPair(t)
	signing.Sign(t, key, r.Host()+"/apps/web@"+digest)
	signing.SignLegacy(t, key, r.Host()+"/apps/web@"+digest)

	dir := filepath.Join(t.TempDir(), "stick")
	save := func(tag string) publish.Saved {
		t.Helper()
		ref, repo := repository(t, r, "apps/web:"+tag)
		got, err := publish.Save(t.Context(), repo, ref, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := save("v1"); got.Digest != digest || got.Signatures != 2 {
		t.Errorf("saved %+v, want %s with 2 signatures", got, digest)
	}
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	t.Run("everything is in the layout", func(t *testing.T) {
		if got, err := l.Digest(t.Context(), "v1"); err != nil || got != digest {
			t.Errorf("%s %v", got, err)
		}
		for _, d := range []string{digest, amd, arm} {
			if _, err := l.Manifest(t.Context(), d); err != nil {
				t.Error(err)
			}
		}
		if refs, err := l.Referrers(t.Context(), digest); err != nil || len(refs) != 1 {
			t.Errorf("referrers %v %v", refs, err)
		}
		if _, err := l.Digest(t.Context(), "sha256-"+digest[len("sha256:"):]+".sig"); err != nil {
			t.Error(err)
		}
	})
	t.Run("a second time pulls no blob", func(t *testing.T) {
		r.Reset()
		save("v1")
		if n := r.Count("GET", "/blobs/"); n != 0 {
			t.Errorf("%d blobs were pulled again", n)
		}
	})
	t.Run("another artifact is added, and a tag that moved is moved", func(t *testing.T) {
		save("amd")
		moved := r.PushFiles("apps/web", "v1", map[string]string{"a.yaml": "a: 2"}, nil)
		save("v1")
		for tag, want := range map[string]string{"v1": moved, "amd": amd} {
			if got, err := l.Digest(t.Context(), tag); err != nil || got != want {
				t.Errorf("%s: %s %v, want %s", tag, got, err, want)
			}
		}
	})
	t.Run("a folder that is full of something else is left alone", func(t *testing.T) {
		there := map[string]string{"a.yaml": configMap}
		out := folder(t, there)
		ref, repo := repository(t, r, "apps/web:v1")
		_, err := publish.Save(t.Context(), repo, ref, out, nil)
		fails(t, err, "is no OCI image layout, and not empty")
		if d := cmp.Diff(there, read(t, out)); d != "" {
			t.Error(d)
		}
	})
	t.Run("a copy that breaks off leaves the layout as it was", func(t *testing.T) {
		before, err := os.ReadFile(filepath.Join(dir, "index.json"))
		if err != nil {
			t.Fatal(err)
		}
		r.PushFiles("apps/web", "v3", map[string]string{"a.yaml": "a: 3"}, nil)
		r.Fail(testenv.Fault{Kind: testenv.FaultTruncate, Path: "/blobs/"})
		defer r.Heal()
		ref, repo := repository(t, r, "apps/web:v3")
		if _, err := publish.Save(t.Context(), repo, ref, dir, nil); err == nil {
			t.Fatal("no error")
		}
		after, err := os.ReadFile(filepath.Join(dir, "index.json"))
		if err != nil || !bytes.Equal(before, after) {
			t.Errorf("the index changed: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "blobs", "*", ".*")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("a signature that cannot be asked for is an error, not none", func(t *testing.T) {
		ref, repo := repository(t, r, "apps/web:amd")
		if _, err := publish.Save(t.Context(), unasked{repo}, ref, dir, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error %v", err)
		}
	})
}

// unasked is a registry whose referrers cannot be had.
type unasked struct{ publish.SavedFrom }

func (unasked) Referrers(context.Context, string) ([]v1.Descriptor, error) {
	return nil, io.ErrUnexpectedEOF
}
