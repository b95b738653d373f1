package publish_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/artifact/publish"
	"github.com/towline/towline/internal/artifact/store"
	"github.com/towline/towline/internal/testenv"
)

func TestPull(t *testing.T) {
	files := map[string]string{"a.yaml": configMap, "sub/run.sh": "echo", "sub/b.yaml": "b", "l.yaml": "->sub/b.yaml"}

	t.Run("brings back what was pushed", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		ref, repo := repository(t, r, "apps/web")
		digest := push(t, repo, "latest", publish.Input{Path: folder(t, files), Revision: "main"})
		out := filepath.Join(t.TempDir(), "new", "folder")
		got, err := publish.Pull(t.Context(), repo, ref, out, publish.PullOptions{})
		must(t, err)
		if got.Digest != digest || got.Files != 4 || got.Annotations[publish.AnnotationRevision] != "main" {
			t.Errorf("got %+v", got)
		}
		if d := cmp.Diff(files, read(t, out)); d != "" {
			t.Error(d)
		}
		info, err := os.Stat(filepath.Join(out, "sub", "run.sh"))
		must(t, err)
		if info.Mode().Perm()&0o100 == 0 {
			t.Error("run.sh cannot be executed any more")
		}
	})

	t.Run("reads what flux, oras and helm push", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		ref, repo := repository(t, r, "apps/web")
		for name, c := range map[string]struct {
			push func()
			want map[string]string
		}{
			"flux": {func() { r.PushFiles("apps/web", "latest", map[string]string{"a.yaml": "a"}, nil) }, map[string]string{"a.yaml": "a"}},
			"helm": {func() {
				r.PushChart("apps/web", "latest", testenv.TarGz(map[string]string{"c/Chart.yaml": "name: c\nversion: 1.0.0\n"}))
			},
				map[string]string{"c/Chart.yaml": "name: c\nversion: 1.0.0\n"}},
			"oras": {func() {
				file := func(title, content string) testenv.Layer {
					return testenv.Layer{MediaType: "application/vnd.oci.image.layer.v1", Data: []byte(content), Annotations: map[string]string{"org.opencontainers.image.title": title}}
				}
				r.PushLayers("apps/web", "latest", "application/vnd.oci.empty.v1+json", []byte("{}"), nil, file("a.yaml", "a"), file("sub/b.json", "{}"))
			}, map[string]string{"a.yaml": "a", "sub/b.json": "{}"}},
			"a chart with its provenance": {func() {
				r.PushChart("apps/web", "latest", testenv.TarGz(map[string]string{"c/Chart.yaml": "name: c\nversion: 1.0.0\n"}), []byte("signature"))
			}, map[string]string{"c/Chart.yaml": "name: c\nversion: 1.0.0\n"}},
		} {
			t.Run(name, func(t *testing.T) {
				c.push()
				out := t.TempDir()
				_, err := publish.Pull(t.Context(), repo, ref, out, publish.PullOptions{})
				must(t, err)
				if d := cmp.Diff(c.want, read(t, out)); d != "" {
					t.Error(d)
				}
			})
		}
	})

	t.Run("takes the manifest of an index for this machine", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		ref, repo := repository(t, r, "apps/web")
		other := r.PushFiles("apps/web", "o", map[string]string{"a.yaml": "other"}, nil)
		r.PushIndex("apps/web", "latest", map[string]string{"linux/riscv64": other, "linux/s390x": other})
		_, err := publish.Pull(t.Context(), repo, ref, t.TempDir(), publish.PullOptions{})
		fails(t, err, "name one by its digest", "linux/s390x@"+other)
		r.PushIndex("apps/web", "latest", map[string]string{"linux/riscv64": other})
		_, err = publish.Pull(t.Context(), repo, ref, t.TempDir(), publish.PullOptions{})
		must(t, err)
		mine := r.PushFiles("apps/web", "m", map[string]string{"a.yaml": "mine"}, nil)
		r.PushIndex("apps/web", "latest", map[string]string{"linux/riscv64": other, "linux/" + runtime.GOARCH: mine, "unknown/unknown": other})
		out := t.TempDir()
		_, err = publish.Pull(t.Context(), repo, ref, out, publish.PullOptions{})
		must(t, err)
		if d := cmp.Diff(map[string]string{"a.yaml": "mine"}, read(t, out)); d != "" {
			t.Error(d)
		}
	})

	t.Run("a folder in place of a file is never replaced", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		ref, repo := repository(t, r, "apps/web")
		push(t, repo, "latest", publish.Input{Path: folder(t, map[string]string{"a.yaml": configMap, "sub/b.yaml": "b"})})
		for _, there := range []map[string]string{{"a.yaml/x": "x"}, {"sub": "x"}} {
			out := folder(t, there)
			_, err := publish.Pull(t.Context(), repo, ref, out, publish.PullOptions{Force: true})
			fails(t, err, "in the artifact and a", "in the output folder: move it away; nothing was changed")
			if d := cmp.Diff(there, read(t, out)); d != "" {
				t.Error(d)
			}
		}
	})

	t.Run("a name in the artifact writes no lines of its own", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		ref, repo := repository(t, r, "apps/web")
		const name = "a\x1b[2J\nError: all is lost.yaml"
		push(t, repo, "latest", publish.Input{Path: folder(t, map[string]string{name: "theirs"})})
		_, err := publish.Pull(t.Context(), repo, ref, folder(t, map[string]string{name: "mine"}), publish.PullOptions{})
		fails(t, err, `"a\x1b[2J\nError: all is lost.yaml"`)
		if strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q", err)
		}
	})

	t.Run("changes nothing where a file differs, unless it is forced", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		ref, repo := repository(t, r, "apps/web")
		push(t, repo, "latest", publish.Input{Path: folder(t, files)})
		there := map[string]string{"mine.txt": "mine", "sub/b.yaml": "other", "a.yaml": configMap}
		out := folder(t, there)
		_, err := publish.Pull(t.Context(), repo, ref, out, publish.PullOptions{})
		fails(t, err, "nothing was changed", "\n  sub/b.yaml")
		if strings.Contains(err.Error(), "a.yaml\n") {
			t.Errorf("a.yaml is the same: %v", err)
		}
		if d := cmp.Diff(there, read(t, out)); d != "" {
			t.Error(d)
		}
		_, err = publish.Pull(t.Context(), repo, ref, out, publish.PullOptions{Force: true})
		must(t, err)
		want := map[string]string{"mine.txt": "mine"}
		maps.Copy(want, files)
		if d := cmp.Diff(want, read(t, out)); d != "" {
			t.Error(d)
		}
	})

	t.Run("does not write through a link in the output folder", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		ref, repo := repository(t, r, "apps/web")
		push(t, repo, "latest", publish.Input{Path: folder(t, map[string]string{"sub/b.yaml": "b"})})
		elsewhere := t.TempDir()
		out := folder(t, map[string]string{"sub": "->" + elsewhere})
		_, err := publish.Pull(t.Context(), repo, ref, out, publish.PullOptions{Force: true})
		fails(t, err, "sub")
		if left := read(t, elsewhere); len(left) > 0 {
			t.Errorf("written outside: %v", left)
		}
	})

	t.Run("a failure leaves no folder and no file behind", func(t *testing.T) {
		tmp := t.TempDir()
		t.Setenv("TMPDIR", tmp)
		for name, c := range map[string]struct {
			do    func(r *testenv.Registry)
			opts  publish.PullOptions
			words string
			is    error
		}{
			"a tag that is not there":  {func(r *testenv.Registry) { r.Delete("apps/web", "latest") }, publish.PullOptions{}, "towline list artifacts", oci.ErrNotFound},
			"a corrupted layer":        {func(r *testenv.Registry) { r.Fail(testenv.Fault{Kind: testenv.FaultCorrupt, Path: "/blobs/"}) }, publish.PullOptions{}, "", nil},
			"a truncated layer":        {func(r *testenv.Registry) { r.Fail(testenv.Fault{Kind: testenv.FaultTruncate, Path: "/blobs/"}) }, publish.PullOptions{}, "try again", oci.ErrNetwork},
			"an artifact over a limit": {func(*testenv.Registry) {}, publish.PullOptions{Limits: store.Limits{Compressed: 10}}, "over a limit: the compressed size may be at most 10 bytes", nil},
			"too many files":           {func(*testenv.Registry) {}, publish.PullOptions{Limits: store.Limits{Files: 1}}, "the agent has the same limit", nil},
			"an archive that leaves":   {func(r *testenv.Registry) { r.PushFiles("apps/web", "latest", map[string]string{"../x": "x"}, nil) }, publish.PullOptions{}, "..", nil},
		} {
			t.Run(name, func(t *testing.T) {
				r := testenv.NewRegistry(t)
				ref, repo := repository(t, r, "apps/web")
				r.PushFiles("apps/web", "latest", map[string]string{"a.yaml": "a", "b.yaml": "b"}, nil)
				c.do(r)
				out := filepath.Join(tmp, "out")
				_, err := publish.Pull(t.Context(), repo, ref, out, c.opts)
				err = publish.Explain("pull "+ref.String(), ref, false, err)
				fails(t, err, c.words)
				if c.is != nil && !errors.Is(err, c.is) {
					t.Errorf("the error is no %v: %v", c.is, err)
				}
				entries, err := os.ReadDir(tmp)
				must(t, err)
				if len(entries) > 0 {
					t.Errorf("left: %v", entries)
				}
			})
		}
	})
}

func TestTag(t *testing.T) {
	r := testenv.NewRegistry(t)
	ref, repo := repository(t, r, "apps/web")
	digest := push(t, repo, "v1", publish.Input{Path: folder(t, map[string]string{"a.yaml": configMap})})
	push(t, repo, "stable", publish.Input{Path: folder(t, map[string]string{"b.yaml": configMap})})
	ref.Tag = "v1"
	got, err := publish.Tag(t.Context(), repo, ref, []string{"stable", "new"})
	must(t, err)
	for _, tag := range []string{"stable", "new"} {
		is, err := repo.Digest(t.Context(), tag)
		must(t, err)
		if is != digest || got != digest {
			t.Errorf("%s is %s, told %s, want %s", tag, is, got, digest)
		}
	}
	t.Run("an index is tagged as one", func(t *testing.T) {
		index := r.PushIndex("apps/web", "multi", map[string]string{"linux/amd64": digest})
		ref.Tag = "multi"
		got, err := publish.Tag(t.Context(), repo, ref, []string{"multi2"})
		must(t, err)
		if is, err := repo.Digest(t.Context(), "multi2"); err != nil || is != index || got != index {
			t.Errorf("got %s, %s, %v, want %s", got, is, err, index)
		}
	})
	t.Run("a failure names the tag", func(t *testing.T) {
		r.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 500, Method: "PUT", Path: "/manifests/x"})
		_, err := publish.Tag(t.Context(), repo, ref, []string{"x"})
		fails(t, err, "tag x", "500")
	})
}

func TestList(t *testing.T) {
	r := testenv.NewRegistry(t)
	ref, repo := repository(t, r, "apps/web")
	digest := r.PushFiles("apps/web", "latest", map[string]string{"a.yaml": "a"}, map[string]string{
		publish.AnnotationSource: "https://git.example.org/web", publish.AnnotationRevision: "main@sha1:1",
	})
	for _, tag := range []string{"v1.10.0", "v1.9.0", "1.10.1-rc.1", "1.9.0_build", "20240131", "main", "sha256-" + strings.TrimPrefix(digest, "sha256:") + ".sig",
		"sha256-" + strings.TrimPrefix(digest, "sha256:")} {
		r.Tag("apps/web", "latest", tag)
	}
	r.PageSize(3)
	for _, c := range []struct {
		name, semver, regex string
		want                []string
	}{
		{"versions first, no signatures", "", "", []string{"1.10.1-rc.1", "v1.10.0", "v1.9.0", "1.9.0_build", "20240131", "latest", "main"}},
		{"a range", ">=1.10.0", "", []string{"v1.10.0"}},
		{"a range with pre-releases", ">=1.10.0-0", "", []string{"1.10.1-rc.1", "v1.10.0"}},
		{"an expression", "", "^[lm]", []string{"latest", "main"}},
		{"both", "1.x", "^v", []string{"v1.10.0", "v1.9.0"}},
		{"none", "", "^x", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := publish.NewFilter(c.semver, c.regex)
			must(t, err)
			r.Reset()
			got, err := publish.List(t.Context(), repo, ref, f)
			must(t, err)
			var tags []string
			for _, l := range got {
				tags = append(tags, strings.TrimPrefix(l.Artifact, r.URL("apps/web")+":"))
				if l.Digest != digest || l.Revision != "main@sha1:1" || l.Source != "https://git.example.org/web" {
					t.Errorf("got %+v", l)
				}
			}
			if d := cmp.Diff(c.want, tags); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("a tag that goes away meanwhile is left out", func(t *testing.T) {
		r.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 404, Path: "/manifests/main"})
		defer r.Heal()
		got, err := publish.List(t.Context(), repo, ref, publish.Filter{})
		must(t, err)
		if slices.ContainsFunc(got, func(l publish.Listed) bool { return strings.HasSuffix(l.Artifact, ":main") || l.Digest == "" }) || len(got) != 6 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("a registry that fails is an error", func(t *testing.T) {
		r.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 429, Path: "/manifests/main"})
		defer r.Heal()
		_, err := publish.List(t.Context(), repo, ref, publish.Filter{})
		if !errors.Is(err, oci.ErrRateLimited) {
			t.Errorf("got %v", err)
		}
	})
}

func TestParseRef(t *testing.T) {
	const hex = "sha256:0123456789012345678901234567890123456789012345678901234567890123"
	for url, want := range map[string]string{
		"oci://localhost:5000/a":                                   "oci://localhost:5000/a",
		"oci://registry.example.org/a/b:v1":                        "oci://registry.example.org/a/b:v1",
		"oci://registry.example.org/a@" + hex:                      "oci://registry.example.org/a@" + hex,
		"oci://registry.example.org/a:v1@" + hex:                   "oci://registry.example.org/a:v1@" + hex,
		"registry.example.org/a:v1":                                "must begin with oci://",
		"oci://registry.example.org":                               "oci://host/repository",
		"oci://registry/a":                                         "with a dot or a port",
		"oci://registry.example.org/a@v1":                          "must be a digest",
		"oci://registry.example.org/a:":                            "is no tag",
		"oci://registry.example.org/a:v 1":                         "is no tag",
		"oci://registry.example.org/a:1.0.0+b":                     `write "1.0.0_b"`,
		"oci://registry.example.org/A:v1":                          "names no repository",
		"oci://u:p@registry.example.org/a":                         "must not hold credentials",
		"oci://registry.example.org/a:" + strings.Repeat("x", 129): "is no tag",
	} {
		got, err := publish.ParseRef(url, false)
		if strings.HasPrefix(want, "oci://") && !strings.HasPrefix(want, "oci://host") {
			must(t, err)
			if got.String() != want {
				t.Errorf("%s: got %s", url, got)
			}
			continue
		}
		fails(t, err, want)
	}
}
