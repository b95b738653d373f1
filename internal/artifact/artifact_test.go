package artifact_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"go.uber.org/goleak"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

func TestMain(m *testing.M) {
	// The second registry never ends its notifier.
	// Servers wait half a second for a client's last words after an answer that was cut.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"),
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }

func newStore(t testing.TB, change ...func(*artifact.Options)) *artifact.Store {
	t.Helper()
	o := artifact.Options{CacheDir: filepath.Join(t.TempDir(), "cache"), UserAgent: "towline/test", Keychain: authn.NewMultiKeychain()}
	for _, c := range change {
		c(&o)
	}
	s := artifact.New(o)
	t.Cleanup(s.Close)
	return s
}

func source(url string, ref deploy.Ref, change ...func(*deploy.SourceSpec)) deploy.Source {
	spec := deploy.SourceSpec{URL: url, Ref: &ref}
	for _, c := range change {
		c(&spec)
	}
	return deploy.Source{Name: deploy.Name{Kind: deploy.KindSource, Namespace: "apps", Name: "web"}, Spec: spec, Hash: deploy.HashOf(spec)}
}

func resolve(t testing.TB, s *artifact.Store, src deploy.Source) deploy.Pin {
	t.Helper()
	pin, err := s.Resolve(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	return pin
}

func fetch(t testing.TB, s *artifact.Store, src deploy.Source) deploy.Revision {
	t.Helper()
	rev, err := s.Fetch(t.Context(), src, resolve(t, s, src))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func read(t testing.TB, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// asked lists the requests as method and path.
func asked(r *testenv.Registry) []string {
	out := []string{}
	for _, q := range r.Requests() {
		out = append(out, q.Method+" "+q.Path)
	}
	return out
}

var files = map[string]string{"kustomization.yaml": "resources: [app/web.yaml]\n", "app/web.yaml": "kind: ConfigMap\n"}

func TestFetch(t *testing.T) {
	r := testenv.NewRegistry(t)
	digest := r.PushFiles("apps/web", "v1", files, map[string]string{"org.opencontainers.image.revision": "main@sha1:abc"})
	s := newStore(t)
	src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"})
	rev := fetch(t, s, src)
	if rev.Dir == "" || rev.Seen.IsZero() {
		t.Errorf("revision: %+v", rev)
	}
	if got := read(t, rev.Dir, "app/web.yaml"); got != files["app/web.yaml"] {
		t.Errorf("app/web.yaml: %q", got)
	}
	want := deploy.Revision{
		Source: src.Name, Ref: "v1", Digest: digest, Dir: rev.Dir, Seen: rev.Seen,
		Annotations: map[string]string{"org.opencontainers.image.revision": "main@sha1:abc"},
	}
	if d := cmp.Diff(want, rev); d != "" {
		t.Errorf("revision (-want +got):\n%s", d)
	}
	for _, q := range r.Requests() {
		if !strings.HasPrefix(q.UserAgent, "towline/test") {
			t.Errorf("%s %s was sent by %q", q.Method, q.Path, q.UserAgent)
		}
	}

	t.Run("an unchanged poll is exactly one HEAD", func(t *testing.T) {
		for range 10 {
			r.Reset()
			pin := resolve(t, s, src)
			if d := cmp.Diff([]string{"HEAD /v2/apps/web/manifests/v1"}, asked(r)); d != "" {
				t.Errorf("requests (-want +got):\n%s", d)
			}
			if pin.Digest != digest || pin.Ref != "v1" {
				t.Errorf("pin: %+v", pin)
			}
		}
	})
	t.Run("what is cached costs no request", func(t *testing.T) {
		r.Reset()
		again, err := s.Fetch(t.Context(), src, deploy.Pin{Ref: "v1", Digest: digest})
		if err != nil || again.Dir != rev.Dir || r.Count("", "") != 0 {
			t.Errorf("%+v %v, %v", again, err, asked(r))
		}
	})
	t.Run("a digest costs no request to resolve, one for the manifest and one for the layer", func(t *testing.T) {
		s := newStore(t)
		r.Reset()
		src := source(r.URL("apps/web"), deploy.Ref{Digest: digest, Tag: "gone", Semver: ">=9"})
		pin := resolve(t, s, src)
		if n := r.Count("", ""); n != 0 || pin.Ref != "" {
			t.Errorf("%d requests, pin %+v", n, pin)
		}
		if rev := fetch(t, s, src); rev.String() != digest {
			t.Errorf("revision %s", rev)
		}
		if r.Count("", "") != 3 || r.Count("GET", "/v2/apps/web/manifests/"+digest) != 1 || r.Count("GET", "/blobs/") != 1 {
			t.Errorf("requests: %v, want a ping, the manifest, the layer", asked(r))
		}
	})
	t.Run("a host is asked for at most 32 references at once", func(t *testing.T) {
		var running, most atomic.Int32
		s := newStore(t, func(o *artifact.Options) {
			o.Transport = roundTrip(func(q *http.Request) (*http.Response, error) {
				for n := running.Add(1); ; {
					m := most.Load()
					if n <= m || most.CompareAndSwap(m, n) {
						break
					}
				}
				defer running.Add(-1)
				return http.DefaultTransport.RoundTrip(q)
			})
		})
		t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
		r.Fail(testenv.Fault{Kind: testenv.FaultSlow, Delay: 20 * time.Millisecond})
		t.Cleanup(r.Heal)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := s.Resolve(t.Context(), src); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() > 32 {
			t.Errorf("%d at once", most.Load())
		}
	})
	t.Run("no ref is the tag latest", func(t *testing.T) {
		r.Tag("apps/web", "v1", "latest")
		src := src
		src.Spec.Ref = nil
		if pin := resolve(t, s, src); pin.Ref != "latest" || pin.Digest != digest {
			t.Errorf("pin %+v", pin)
		}
	})
	t.Run("a registry without HEAD is asked with one GET", func(t *testing.T) {
		for name, quirk := range map[string]func(bool){"405": r.RefuseHead, "no digest": r.OmitDigest} {
			quirk(true)
			s := newStore(t)
			resolve(t, s, src)
			r.Reset()
			pin := resolve(t, s, src)
			quirk(false)
			if d := cmp.Diff([]string{"GET /v2/apps/web/manifests/v1"}, asked(r)); d != "" || pin.Digest != digest {
				t.Errorf("%s: pin %v, requests (-want +got):\n%s", name, pin, d)
			}
		}
	})
	t.Run("callers share one pull", func(t *testing.T) {
		s := newStore(t)
		r.Reset()
		r.Fail(testenv.Fault{Kind: testenv.FaultSlow, Path: "/blobs/", Delay: 50 * time.Millisecond})
		defer r.Heal()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := s.Fetch(t.Context(), src, deploy.Pin{Digest: digest}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := r.Count("GET", "/blobs/"); n != 1 {
			t.Errorf("%d pulls", n)
		}
	})
	t.Run("a caller that leaves does not spoil the pull of another", func(t *testing.T) {
		s := newStore(t)
		r.Reset()
		r.Fail(testenv.Fault{Kind: testenv.FaultSlow, Path: "/blobs/", Delay: 200 * time.Millisecond})
		defer r.Heal()
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := s.Fetch(ctx, src, deploy.Pin{Digest: digest})
			left <- err
		}()
		await(t, func() bool { return r.Count("GET", "/blobs/") == 1 })
		stayed := make(chan error)
		go func() {
			_, err := s.Fetch(t.Context(), src, deploy.Pin{Digest: digest})
			stayed <- err
		}()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the one that left: %v", err)
		}
		if err := <-stayed; err != nil {
			t.Errorf("the one that stayed: %v", err)
		}
	})
	t.Run("a damaged cache is fetched again", func(t *testing.T) {
		dir := filepath.Dir(rev.Dir)
		if err := os.WriteFile(filepath.Join(dir, "layer-0"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r.Reset()
		again := fetch(t, newStore(t, func(o *artifact.Options) { o.CacheDir = filepath.Dir(dir) }), src)
		if again.Dir != rev.Dir || read(t, again.Dir, "app/web.yaml") != files["app/web.yaml"] || r.Count("GET", "/blobs/") != 1 {
			t.Errorf("revision %+v, requests %v", again, asked(r))
		}
	})
	t.Run("a cache that was deleted is filled again", func(t *testing.T) {
		if err := os.RemoveAll(filepath.Dir(filepath.Dir(rev.Dir))); err != nil {
			t.Fatal(err)
		}
		if again := fetch(t, s, src); read(t, again.Dir, "app/web.yaml") != files["app/web.yaml"] {
			t.Error("the file is not as it was")
		}
	})
}

// await waits until something is so.
func await(t testing.TB, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about in 10 s")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestFetchChoosesTheLayer(t *testing.T) {
	const chartType = testenv.MediaHelmChart
	r := testenv.NewRegistry(t)
	chart := testenv.Chart("app", "1.0.0", map[string]string{"templates/cm.yaml": "kind: ConfigMap"})
	prov := testenv.Layer{MediaType: testenv.MediaHelmProvenance, Data: []byte("signed")}
	r.PushLayers("charts/app", "prov-first", testenv.MediaHelmConfig, []byte("{}"), nil, prov, testenv.Layer{MediaType: chartType, Data: chart})
	r.PushChart("charts/app", "1.0.0", chart, prov.Data)
	r.PushLayers("charts/app", "empty", testenv.MediaHelmConfig, []byte("{}"), nil)
	s := newStore(t)
	selected := func(tag, mediaType, operation string) deploy.Source {
		return source(r.URL("charts/app"), deploy.Ref{Tag: tag}, func(s *deploy.SourceSpec) {
			s.LayerSelector = &deploy.LayerSelector{MediaType: mediaType, Operation: operation}
		})
	}
	t.Run("copies the blob as it is", func(t *testing.T) {
		for _, tag := range []string{"1.0.0", "prov-first"} {
			rev := fetch(t, s, selected(tag, chartType, deploy.OperationCopy))
			if rev.File != "layer.tgz" || read(t, rev.Dir, rev.File) != string(chart) {
				t.Errorf("%s: file %q", tag, rev.File)
			}
		}
	})
	t.Run("extracts the same layer into another folder", func(t *testing.T) {
		rev := fetch(t, s, selected("1.0.0", chartType, ""))
		if rev.File != "" || read(t, rev.Dir, "app/templates/cm.yaml") != "kind: ConfigMap" {
			t.Errorf("revision %+v", rev)
		}
	})
	t.Run("takes the first layer without a media type", func(t *testing.T) {
		if rev := fetch(t, s, selected("prov-first", "", deploy.OperationCopy)); read(t, rev.Dir, rev.File) != "signed" {
			t.Errorf("revision %+v", rev)
		}
	})
	for name, c := range map[string]struct {
		src  deploy.Source
		want string
	}{
		"says what there is instead":              {selected("1.0.0", "application/x", ""), chartType + ", " + testenv.MediaHelmProvenance},
		"does not extract what is no archive":     {selected("prov-first", "", ""), "read the archive"},
		"says that there are no layers":           {selected("empty", "", ""), "no layers"},
		"does not match a part of the media type": {selected("1.0.0", strings.TrimSuffix(chartType, "+gzip"), ""), "no layer of media type"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Fetch(t.Context(), c.src, resolve(t, s, c.src))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

func TestFetchChoosesThePlatform(t *testing.T) {
	r := testenv.NewRegistry(t)
	push := func(tag string) string { return r.PushFiles("apps/web", tag, map[string]string{"for": tag}, nil) }
	amd, arm, win, att := push("amd"), push("arm"), push("win"), push("att")
	platforms := map[string]string{"linux/amd64": amd, "linux/arm64": arm, "windows/amd64": win, "unknown/unknown": att}
	index := r.PushIndex("apps/web", "all", platforms)
	r.PushIndex("apps/web", "one", map[string]string{"plan9/386": win, "unknown/unknown": att})
	r.PushIndex("apps/web", "none", map[string]string{"plan9/386": win, "windows/amd64": amd})
	s := newStore(t)

	rev := fetch(t, s, source(r.URL("apps/web"), deploy.Ref{Tag: "all"}))
	if got := read(t, rev.Dir, "for"); got != "amd" && got != "arm" || rev.Digest != index {
		t.Errorf("got the content for %q at %s", got, rev.Digest)
	}
	if rev := fetch(t, s, source(r.URL("apps/web"), deploy.Ref{Tag: "one"})); read(t, rev.Dir, "for") != "win" {
		t.Error("the only platform was not taken")
	}
	src := source(r.URL("apps/web"), deploy.Ref{Tag: "none"})
	_, err := s.Fetch(t.Context(), src, resolve(t, s, src))
	if err == nil || !strings.Contains(err.Error(), "plan9/386, windows/amd64") {
		t.Errorf("error: %v", err)
	}
}

func TestResolveSemver(t *testing.T) {
	r := testenv.NewRegistry(t)
	tags := []string{"latest", "1.0.0", "1.2.0", "v1.10.0", "1.10.1-rc.1", "2.0.0", "2.1.0-alpha", "3.0.0_build.5", "20240131", "1.99", "main-1.50.0", "sha256-abc.sig"}
	for _, tag := range tags {
		r.PushChart("charts/app", tag, testenv.Chart("app", "1.0.0", map[string]string{"tag": tag}))
	}
	r.PageSize(3)
	s := newStore(t)
	cases := []struct{ semver, filter, want string }{
		{">=1.0.0", "", "3.0.0_build.5"},
		{"1.x", "", "v1.10.0"},
		{"~1.2", "", "1.2.0"},
		{">=1.10.0 <2.0.0", "", "v1.10.0"},
		{">=1.10.1-0 <2.0.0-0", "", "1.10.1-rc.1"},
		{"^2", "", "2.0.0"},
		{">=2.0.0-0 <3.0.0", "", "2.1.0-alpha"},
		{">=1.0.0", "^1\\.", "1.2.0"},
		{">=1.0.0-0", "rc", "1.10.1-rc.1"},
		{"3.0.0_build.5", "", "3.0.0_build.5"},
	}
	for _, c := range cases {
		t.Run(c.semver+" "+c.filter, func(t *testing.T) {
			pin := resolve(t, s, source(r.URL("charts/app"), deploy.Ref{Semver: c.semver, SemverFilter: c.filter, Tag: "latest"}))
			if pin.Ref != c.want {
				t.Errorf("chose %s, want %s", pin.Ref, c.want)
			}
		})
	}
	t.Run("an unchanged poll is the list and one HEAD", func(t *testing.T) {
		r.PageSize(0)
		r.Reset()
		resolve(t, s, source(r.URL("charts/app"), deploy.Ref{Semver: "1.x"}))
		if d := cmp.Diff([]string{"GET /v2/charts/app/tags/list?n=1000", "HEAD /v2/charts/app/manifests/v1.10.0"}, asked(r)); d != "" {
			t.Errorf("requests (-want +got):\n%s", d)
		}
	})
	t.Run("a chart's version can be written as a tag", func(t *testing.T) {
		if pin := resolve(t, s, source(r.URL("charts/app"), deploy.Ref{Tag: "3.0.0+build.5"})); pin.Ref != "3.0.0_build.5" {
			t.Errorf("pin %+v", pin)
		}
	})
	for name, c := range map[string]struct {
		ref  deploy.Ref
		want string
	}{
		"no version fits":    {deploy.Ref{Semver: ">=7"}, `none of 7 versions is within semver ">=7"; the highest is 3.0.0_build.5`},
		"no tag is filtered": {deploy.Ref{Semver: ">=1", SemverFilter: "^x"}, `none of 12 tags matches semverFilter "^x"`},
		"bad constraint":     {deploy.Ref{Semver: "newest"}, `ref.semver "newest"`},
		"bad filter":         {deploy.Ref{Semver: "1", SemverFilter: "("}, "ref.semverFilter"},
	} {
		t.Run("says so when "+name, func(t *testing.T) {
			_, err := s.Resolve(t.Context(), source(r.URL("charts/app"), c.ref))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}
