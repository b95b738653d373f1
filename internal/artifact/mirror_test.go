package artifact_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

func TestMirrors(t *testing.T) {
	mirrored := func(main *testenv.Registry, mirrors ...*testenv.Registry) deploy.Source {
		return source(main.URL("apps/web"), deploy.Ref{Tag: "v1"}, func(s *deploy.SourceSpec) {
			for _, m := range mirrors {
				s.Mirrors = append(s.Mirrors, m.URL("mirror/web"))
			}
		})
	}
	pair := func(t *testing.T) (main, near *testenv.Registry) {
		main, near = testenv.NewRegistry(t), testenv.NewRegistry(t)
		if main.PushFiles("apps/web", "v1", files, nil) != near.PushFiles("mirror/web", "v1", files, nil) {
			t.Fatal("the mirror holds something else")
		}
		return main, near
	}
	t.Run("contents come from the first mirror, the tag from the url", func(t *testing.T) {
		main, near := pair(t)
		fetch(t, newStore(t), mirrored(main, near))
		if main.Count("GET", "/blobs/") != 0 || main.Count("HEAD", "/manifests/v1") != 1 || near.Count("GET", "/blobs/") != 1 || near.Count("", "/manifests/v1") != 0 {
			t.Errorf("url: %v, mirror: %v", asked(main), asked(near))
		}
	})
	t.Run("a mirror that lacks it, fails or lies is passed over", func(t *testing.T) {
		for name, spoil := range map[string]func(*testenv.Registry){
			"lacks it": func(r *testenv.Registry) { r.Delete("mirror/web", "v1") },
			"fails":    func(r *testenv.Registry) { r.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 500}) },
			"is down":  func(r *testenv.Registry) { r.Close() },
			"lies":     func(r *testenv.Registry) { r.Fail(testenv.Fault{Kind: testenv.FaultCorrupt, Path: "/blobs/"}) },
			"is cut":   func(r *testenv.Registry) { r.Fail(testenv.Fault{Kind: testenv.FaultTruncate, Path: "/blobs/"}) },
		} {
			t.Run(name, func(t *testing.T) {
				main, near := pair(t)
				far := testenv.NewRegistry(t)
				far.PushFiles("mirror/web", "v1", files, nil)
				spoil(near)
				rev := fetch(t, newStore(t), mirrored(main, near, far))
				if read(t, rev.Dir, "app/web.yaml") != files["app/web.yaml"] || main.Count("GET", "/blobs/") != 0 {
					t.Errorf("revision %+v, url: %v", rev, asked(main))
				}
			})
		}
	})
	t.Run("a mirror's own tag does not count while the url answers", func(t *testing.T) {
		main, near := pair(t)
		near.PushFiles("mirror/web", "v1", map[string]string{"a.yaml": "a: stale"}, nil)
		rev := fetch(t, newStore(t), mirrored(main, near))
		if read(t, rev.Dir, "app/web.yaml") != files["app/web.yaml"] {
			t.Errorf("revision %+v", rev)
		}
	})
	t.Run("a first start without the url goes by the mirror, a later one does not go back by it", func(t *testing.T) {
		main, near := pair(t)
		dir := filepath.Join(t.TempDir(), "cache")
		s := newStore(t, func(o *artifact.Options) { o.CacheDir = dir })
		src := mirrored(main, near)
		main.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 503})
		first := fetch(t, s, src)
		near.PushFiles("mirror/web", "v1", map[string]string{"a.yaml": "a: older"}, nil)
		if _, err := s.Resolve(t.Context(), src); err == nil || reasonOf(t, err) != deploy.SourceUnavailable {
			t.Errorf("error %v", err)
		}
		if _, rev, err := cachedIn(t, dir, src); err != nil || rev.Digest != first.Digest {
			t.Errorf("%+v %v", rev, err)
		}
	})
	t.Run("where all fail, the error tells of each", func(t *testing.T) {
		main, near := pair(t)
		pin := resolve(t, newStore(t), mirrored(main, near))
		main.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 429})
		near.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 500})
		_, err := newStore(t).Fetch(t.Context(), mirrored(main, near), pin)
		if err == nil || reasonOf(t, err) != deploy.SourceRateLimited || !strings.Contains(err.Error(), "429") || !strings.Contains(err.Error(), "mirror "+near.Host()+"/mirror/web") {
			t.Errorf("error %v", err)
		}
	})
}
