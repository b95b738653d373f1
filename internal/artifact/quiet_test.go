package artifact_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

// onDisk tells every change of a folder: names, sizes, times, also of folders.
func onDisk(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// signedSource is a source that demands a signature and has one, fetched.
func signedSource(t testing.TB, ref deploy.Ref) (r *testenv.Registry, s *artifact.Store, src deploy.Source, dir string) {
	t.Helper()
	r = testenv.NewRegistry(t)
	key := signing.KeyPair(t)
	digest := r.PushFiles("apps/web", "1.0.0", files, nil)
	signing.Sign(t, key, r.Host()+"/apps/web@"+digest)
	if ref.Digest != "" {
		ref.Digest = digest
	}
	dir = filepath.Join(t.TempDir(), "cache")
	s = newStore(t, func(o *artifact.Options) { o.CacheDir = dir })
	src, _ = signedBy(t, r.URL("apps/web"), ref, key.Public)
	fetch(t, s, src)
	return r, s, src, dir
}

func TestUnchangedPollOfASignedSource(t *testing.T) {
	for name, c := range map[string]struct {
		ref  deploy.Ref
		want []string
	}{
		"a tag is one HEAD":                {deploy.Ref{Tag: "1.0.0"}, []string{"HEAD /v2/apps/web/manifests/1.0.0"}},
		"a digest is nothing":              {deploy.Ref{Digest: "of what is pushed"}, []string{}},
		"a range is one list and one HEAD": {deploy.Ref{Semver: ">=1"}, []string{"GET /v2/apps/web/tags/list?n=1000", "HEAD /v2/apps/web/manifests/1.0.0"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, s, src, dir := signedSource(t, c.ref)
			before, pin := onDisk(t, dir), resolve(t, s, src)
			for range 3 {
				r.Reset()
				if again := resolve(t, s, src); again != pin || pin.Policy == "" {
					t.Errorf("pin %+v, then %+v", pin, again)
				}
				if d := cmp.Diff(c.want, asked(r)); d != "" {
					t.Errorf("requests (-want +got):\n%s", d)
				}
			}
			if d := cmp.Diff(before, onDisk(t, dir)); d != "" {
				t.Errorf("written to the disk (-before +after):\n%s", d)
			}
		})
	}
	t.Run("to check what is cached again writes nothing either", func(t *testing.T) {
		r, s, src, dir := signedSource(t, deploy.Ref{Tag: "1.0.0"})
		pin, before := resolve(t, s, src), onDisk(t, dir)
		r.Reset()
		rev, err := s.Fetch(t.Context(), src, pin)
		if err != nil || rev.VerifiedBy == "" || r.Count("", "") != 0 {
			t.Errorf("%+v %v, requests %v", rev, err, asked(r))
		}
		if d := cmp.Diff(before, onDisk(t, dir)); d != "" {
			t.Errorf("written to the disk (-before +after):\n%s", d)
		}
	})
}

func TestNothingIsKeptOfSourcesThatLeft(t *testing.T) {
	_, s, src, dir := signedSource(t, deploy.Ref{Tag: "1.0.0"})
	notes := func() []string {
		all, err := filepath.Glob(filepath.Join(dir, "pins", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if err := s.Forget([]deploy.Source{src}); err != nil || len(notes()) != 1 {
		t.Fatalf("notes %v, %v", notes(), err)
	}
	if _, ok := s.Remembered(src); !ok {
		t.Error("the one that stayed is forgotten")
	}
	if err := s.Forget(nil); err != nil || len(notes()) != 0 {
		t.Errorf("notes %v, %v", notes(), err)
	}
	if digest, ok := s.Remembered(src); ok {
		t.Errorf("%s is still known", digest)
	}
}

func BenchmarkUnchangedPollOfASignedSource(b *testing.B) {
	r, s, src, dir := signedSource(b, deploy.Ref{Tag: "1.0.0"})
	before := onDisk(b, dir)
	resolve(b, s, src)
	r.Reset()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		resolve(b, s, src)
		n++
	}
	b.ReportMetric(float64(r.Count("", ""))/float64(n), "requests/op")
	if r.Count("", "") != n || onDisk(b, dir) != before {
		b.Errorf("%d requests for %d polls", r.Count("", ""), n)
	}
}

// BenchmarkUnchangedPollOfASharedSource is what a source costs whose question another one has just asked.
func BenchmarkUnchangedPollOfASharedSource(b *testing.B) {
	_, s, src, _ := signedSource(b, deploy.Ref{Tag: "1.0.0"})
	src.Interval = time.Hour
	resolve(b, s, src)
	b.ReportAllocs()
	for b.Loop() {
		resolve(b, s, src)
	}
}
