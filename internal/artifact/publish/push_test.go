package publish_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/towline/towline/internal/artifact/layout"
	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/artifact/publish"
	"github.com/towline/towline/internal/testenv"
)

func TestPush(t *testing.T) {
	t.Run("makes the manifest that flux makes", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		_, repo := repository(t, r, "apps/web")
		a, err := publish.Pack(t.Context(), publish.Input{
			Path: folder(t, map[string]string{"a.yaml": configMap}), Source: "https://git.example.org/web", Revision: "main@sha1:0123abc",
			Annotations: map[string]string{"org.opencontainers.image.licenses": "Apache-2.0"}, Created: time.Date(2024, 2, 3, 4, 5, 6, 7, time.FixedZone("", 3600)),
		})
		must(t, err)
		defer a.Close()
		must(t, a.Push(t.Context(), repo, "v1", nil))
		var got any
		must(t, json.Unmarshal(r.Manifest("apps/web", "v1"), &got))
		want := map[string]any{
			"schemaVersion": 2.0,
			"mediaType":     "application/vnd.oci.image.manifest.v1+json",
			"config": map[string]any{
				"mediaType": "application/vnd.cncf.flux.config.v1+json", "size": 2.0,
				"digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
			},
			"layers": []any{map[string]any{
				"mediaType": "application/vnd.cncf.flux.content.v1.tar+gzip", "size": float64(a.Layer.Size), "digest": a.Layer.Digest.String(),
			}},
			"annotations": map[string]any{
				"org.opencontainers.image.created":  "2024-02-03T03:05:06Z",
				"org.opencontainers.image.source":   "https://git.example.org/web",
				"org.opencontainers.image.revision": "main@sha1:0123abc",
				"org.opencontainers.image.licenses": "Apache-2.0",
			},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})

	t.Run("equal content has an equal digest, whatever its times, and is not sent twice", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		_, repo := repository(t, r, "apps/web")
		files := map[string]string{"a.yaml": configMap, "sub/run.sh": "echo", "sub/b.yaml": configMap, "l.yaml": "->sub/b.yaml"}
		first := folder(t, files)
		was := push(t, repo, "v1", publish.Input{Path: first})
		r.Reset()
		second := folder(t, files)
		must(t, os.Chtimes(filepath.Join(second, "a.yaml"), time.Unix(1, 0), time.Unix(1, 0)))
		must(t, os.Chmod(filepath.Join(second, "a.yaml"), 0o666))
		if is := push(t, repo, "v2", publish.Input{Path: second}); is != was {
			t.Errorf("digest %s, then %s", was, is)
		}
		for _, method := range []string{http.MethodPost, http.MethodPatch} {
			if n := r.Count(method, ""); n > 0 {
				t.Errorf("%d %s although the blobs were there", n, method)
			}
		}
		if n := r.Count(http.MethodPut, ""); n != 1 {
			t.Errorf("%d PUTs, want the manifest's only", n)
		}
	})

	t.Run("a folder read in place has the digest that it has when it is pushed reproducibly", func(t *testing.T) {
		dir := folder(t, map[string]string{"a.yaml": configMap, ".git/config": "x", ".sourceignore": "b.yaml\n", "b.yaml": configMap})
		for name, path := range map[string]string{"a folder": dir, "a file": filepath.Join(dir, "a.yaml")} {
			a, err := publish.Pack(t.Context(), publish.Input{Path: path})
			must(t, err)
			defer a.Close()
			l, err := layout.OpenFiles(path, nil)
			must(t, err)
			digest, err := l.Digest(t.Context(), "latest")
			must(t, err)
			if digest != a.Digest {
				t.Errorf("%s: pushed %s, in place %s", name, a.Digest, digest)
			}
		}
	})

	t.Run("the bytes of a large layer are counted as they go", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		_, repo := repository(t, r, "apps/web")
		noise := make([]byte, 3<<20)
		rnd := rand.NewChaCha8([32]byte{})
		_, _ = rnd.Read(noise)
		a, err := publish.Pack(t.Context(), publish.Input{Path: folder(t, map[string]string{"a.bin": string(noise)})})
		must(t, err)
		defer a.Close()
		var told []int64
		must(t, a.Push(t.Context(), repo, "v1", func(done, total int64) {
			if total != a.Layer.Size {
				t.Errorf("total %d, want %d", total, a.Layer.Size)
			}
			told = append(told, done)
		}))
		if len(told) < 3 || told[len(told)-1] != a.Layer.Size {
			t.Errorf("told %d times, at last %v", len(told), told)
		}
	})
}

func TestPushFailures(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": configMap})
	for _, c := range []struct {
		name  string
		fault testenv.Fault
		is    error
		words []string
	}{
		{"a refusal without credentials says where to put them", testenv.Fault{Kind: testenv.FaultStatus, Status: 401}, oci.ErrUnauthorized, []string{"401", "docker login", "TOWLINE_REGISTRY_CREDS"}},
		{"a prohibition", testenv.Fault{Kind: testenv.FaultStatus, Status: 403, Path: "/blobs/"}, oci.ErrUnauthorized, []string{"403", "credentials"}},
		{"a host that is no registry", testenv.Fault{Kind: testenv.FaultStatus, Status: 404, Method: http.MethodPost}, oci.ErrNotFound, []string{"404", "is no registry, or wants the repository apps/web to be made first"}},
		{"a layer that is too large for a proxy", testenv.Fault{Kind: testenv.FaultStatus, Status: 413, Method: http.MethodPut, Path: "/blobs/"}, nil, []string{"413", "client_max_body_size"}},
		{"too many requests", testenv.Fault{Kind: testenv.FaultStatus, Status: 429, RetryAfter: 7 * time.Second}, oci.ErrRateLimited, []string{"429", "7s"}},
		{"a registry that is down", testenv.Fault{Kind: testenv.FaultStatus, Status: 503}, oci.ErrUnavailable, []string{"503", "nothing was tagged"}},
		{"a connection that is cut", testenv.Fault{Kind: testenv.FaultReset, Path: "/blobs/"}, oci.ErrNetwork, []string{"nothing was tagged"}},
		{"a failure at the last step", testenv.Fault{Kind: testenv.FaultStatus, Status: 500, Method: http.MethodPut, Path: "/manifests/"}, oci.ErrUnavailable, []string{"500"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := testenv.NewRegistry(t)
			ref, repo := repository(t, r, "apps/web")
			was := push(t, repo, "v1", publish.Input{Path: dir})
			r.Fail(c.fault)
			a, err := publish.Pack(t.Context(), publish.Input{Path: folder(t, map[string]string{"b.yaml": configMap + "# " + c.name})})
			must(t, err)
			defer a.Close()
			err = publish.Explain("push "+ref.String(), ref, true, a.Push(t.Context(), repo, "v1", nil))
			fails(t, err, append(c.words, "push oci://")...)
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("the error is no %v: %v", c.is, err)
			}
			r.Heal()
			if is, err := repo.Digest(t.Context(), "v1"); err != nil || is != was {
				t.Errorf("v1 is %s, %v; want %s still", is, err, was)
			}
		})
	}

	t.Run("a page of HTML is named and not shown", func(t *testing.T) {
		for status, words := range map[int][]string{
			http.StatusNotFound:              {"404", "is no registry, or wants the repository apps/web to be made first"},
			http.StatusRequestEntityTooLarge: {"413", "client_max_body_size"},
			http.StatusBadGateway:            {"502", "nothing was tagged"},
		} {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v2/" { // a registry, behind a proxy that refuses the rest
					return
				}
				w.Header().Set("Content-Type", "text/html")
				w.WriteHeader(status)
				_, _ = io.WriteString(w, "<html>\r\n<head><title>Nope</title></head>\r\n"+strings.Repeat("<p>sorry</p>\r\n", 500)+"</html>")
			}))
			defer s.Close()
			ref, repo := at(t, "oci://"+s.Listener.Addr().String()+"/apps/web", authn.Anonymous)
			a, err := publish.Pack(t.Context(), publish.Input{Path: dir})
			must(t, err)
			defer a.Close()
			err = publish.Explain("push "+ref.String(), ref, true, a.Push(t.Context(), repo, "v1", nil))
			fails(t, err, words...)
			if text := err.Error(); strings.Contains(text, "sorry") || strings.Contains(text, "<") || strings.Count(text, "\n") != 1 || len(text) > 700 {
				t.Errorf("%d: %s", status, text)
			}
		}
	})

	t.Run("an interruption changes no tag", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		_, repo := repository(t, r, "apps/web")
		was := push(t, repo, "v1", publish.Input{Path: dir})
		ctx, cancel := context.WithCancel(t.Context())
		a, err := publish.Pack(ctx, publish.Input{Path: folder(t, map[string]string{"b.yaml": configMap})})
		must(t, err)
		defer a.Close()
		done := make(chan error, 1)
		go func() { done <- a.Push(ctx, repo, "v1", func(int64, int64) { cancel() }) }()
		if err := within(t, 10*time.Second, done); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if is, err := repo.Digest(t.Context(), "v1"); err != nil || is != was {
			t.Errorf("v1 is %s, %v; want %s still", is, err, was)
		}
	})

	t.Run("no error holds the password", func(t *testing.T) {
		for name, require := range map[string]func(*testenv.Registry){
			"basic": func(r *testenv.Registry) { r.RequireAuth("robot", "another") },
			"token": func(r *testenv.Registry) { r.RequireToken("robot", "another") },
		} {
			r := testenv.NewRegistry(t)
			require(r)
			ref, repo := repositoryAs(t, r, "apps/web", &authn.Basic{Username: "robot", Password: canary})
			a, err := publish.Pack(t.Context(), publish.Input{Path: dir})
			must(t, err)
			defer a.Close()
			err = publish.Explain("push", ref, true, a.Push(t.Context(), repo, "v1", nil))
			fails(t, err, "the credentials for", "are wrong, or may not write to apps/web")
			if strings.Contains(err.Error(), canary) {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err := publish.ParseRef("oci://robot:"+canary+"@registry.example.org/web:v1", false)
		fails(t, err, "credentials")
		if strings.Contains(err.Error(), canary) {
			t.Error(err)
		}
	})
}

func TestPack(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		path  string
		stdin string
		with  func(*publish.Input)
		want  map[string]string
		words []string
	}{
		{name: "a folder without what Flux leaves out", files: map[string]string{"a.yaml": configMap, ".git/HEAD": "x", "logo.png": "x", "s/b.yml": configMap},
			want: map[string]string{"a.yaml": configMap, "s/b.yml": configMap}},
		{name: "with ignore rules of its own", files: map[string]string{"a.yaml": configMap, "b.yaml": configMap, "logo.png": "x"},
			with: func(in *publish.Input) { p := "b.yaml\n"; in.Ignore = &p }, want: map[string]string{"a.yaml": configMap, "logo.png": "x"}},
		{name: "a single file", files: map[string]string{"a.yaml": configMap, "b.yaml": "x"}, path: "a.yaml", want: map[string]string{"a.yaml": configMap}},
		{name: "an archive as it is", files: map[string]string{"a.tgz": string(testenv.TarGz(map[string]string{"x/a.yaml": configMap}))}, path: "a.tgz",
			want: map[string]string{"x/a.yaml": configMap}},
		{name: "several YAML documents from standard input", path: "-", stdin: "# all\n---\n" + configMap + "---\n" + configMap,
			want: map[string]string{"manifests.yaml": "# all\n---\n" + configMap + "---\n" + configMap}},
		{name: "a JSON document from standard input", path: "-", stdin: ` {"kind":"List"} `, want: map[string]string{"manifests.yaml": "{\"kind\":\"List\"}\n"}},
		{name: "several JSON documents become YAML documents", path: "-", stdin: "{\"a\":1}\n{\"b\":2}", want: map[string]string{"manifests.yaml": "{\"a\":1}\n---\n{\"b\":2}\n"}},
		{name: "YAML that looks like JSON", path: "-", stdin: "{a: 1}\n", want: map[string]string{"manifests.yaml": "{a: 1}\n"}},

		{name: "an empty folder is an error", words: []string{"the folder is empty"}},
		{name: "a folder of which nothing is left is an error", files: map[string]string{".git/HEAD": "x"}, words: []string{"ignore rules"}},
		{name: "so is one that its own rules empty", files: map[string]string{"a.yaml": "x"}, with: func(in *publish.Input) { p := "*"; in.Ignore = &p }, words: []string{"ignore rules"}},
		{name: "an empty file is an error", files: map[string]string{"a.yaml": ""}, path: "a.yaml", words: []string{"a.yaml: it is empty"}},
		{name: "a file that is not there is an error", path: "nobody.yaml", words: []string{"nobody.yaml", "no such file"}},
		{name: "a file of another kind is an error", files: map[string]string{"a.txt": "x"}, path: "a.txt", words: []string{"neither a folder nor"}},
		{name: "an archive that leaves its folder is an error", files: map[string]string{"a.tgz": string(testenv.TarGz(map[string]string{"../a": "x"}))}, path: "a.tgz", words: []string{`".."`}},
		{name: "an archive that is none is an error", files: map[string]string{"a.tgz": "hello, hello"}, path: "a.tgz", words: []string{"a.tgz"}},
		{name: "a link that leads outside is an error", files: map[string]string{"a.yaml": configMap, "l": "->/etc/passwd"}, words: []string{"l", "/etc/passwd"}},
		{name: "nothing on standard input is an error", path: "-", stdin: " \n", words: []string{"standard input", "no manifest"}},
		{name: "only comments on standard input is an error", path: "-", stdin: "# nothing\n---\n", words: []string{"no manifest"}},
		{name: "text on standard input is an error that does not quote it", path: "-", stdin: "hello " + canary + "\n", words: []string{"document 1 is no object"}},
		{name: "broken YAML on standard input is an error that does not quote it", path: "-", stdin: "a: 1\n---\na: [" + canary, words: []string{"document 2 is neither YAML nor JSON"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := publish.Input{Path: folder(t, c.files), Stdin: strings.NewReader(c.stdin)}
			switch c.path {
			case "":
			case "-":
				in.Path = "-"
			default:
				in.Path = filepath.Join(in.Path, c.path)
			}
			if c.with != nil {
				c.with(&in)
			}
			a, err := publish.Pack(t.Context(), in)
			if c.words != nil {
				fails(t, err, c.words...)
				if strings.Contains(err.Error(), canary) {
					t.Error(err)
				}
				return
			}
			must(t, err)
			defer a.Close()
			r := testenv.NewRegistry(t)
			ref, repo := repository(t, r, "apps/web")
			must(t, a.Push(t.Context(), repo, "latest", nil))
			out := t.TempDir()
			_, err = publish.Pull(t.Context(), repo, ref, out, publish.PullOptions{})
			must(t, err)
			if d := cmp.Diff(c.want, read(t, out)); d != "" {
				t.Error(d)
			}
		})
	}

	t.Run("leaves nothing behind", func(t *testing.T) {
		tmp := t.TempDir()
		t.Setenv("TMPDIR", tmp)
		a, err := publish.Pack(t.Context(), publish.Input{Path: "-", Stdin: bytes.NewBufferString(configMap)})
		must(t, err)
		must(t, a.Close())
		_, err = publish.Pack(t.Context(), publish.Input{Path: "-", Stdin: strings.NewReader("")})
		fails(t, err, "no manifest")
		if left := read(t, tmp); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}
