package publish_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"go.uber.org/goleak"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/artifact/publish"
	"github.com/towline/towline/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is a password that must not be seen anywhere.
const canary = "c4n4ry-s3cret"

// repository reaches a repository of a test registry.
func repository(t *testing.T, r *testenv.Registry, path string) (publish.Ref, *oci.Repository) {
	t.Helper()
	return repositoryAs(t, r, path, authn.Anonymous)
}

func repositoryAs(t *testing.T, r *testenv.Registry, path string, auth authn.Authenticator) (publish.Ref, *oci.Repository) {
	t.Helper()
	return at(t, r.URL(path), auth)
}

func at(t *testing.T, url string, auth authn.Authenticator) (publish.Ref, *oci.Repository) {
	t.Helper()
	ref, err := publish.ParseRef(url, false)
	must(t, err)
	transport := oci.NewTransport()
	client := oci.New(transport, "test")
	t.Cleanup(func() {
		client.Close()
		transport.CloseIdleConnections()
	})
	return ref, client.Repository(oci.Access{
		Repo: ref.Repo, Owner: "test", Login: func(context.Context) (authn.Authenticator, error) { return auth, nil },
	})
}

// push packs and pushes, and returns the digest.
func push(t *testing.T, w publish.Writer, tag string, in publish.Input) string {
	t.Helper()
	a, err := publish.Pack(t.Context(), in)
	must(t, err)
	defer a.Close()
	must(t, a.Push(t.Context(), w, tag, nil))
	return a.Digest
}

// folder writes files (path → content); a content that begins with "->" is a link, a path that ends in .sh can be executed.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		at := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		if target, ok := strings.CutPrefix(content, "->"); ok {
			must(t, os.Symlink(target, at))
			continue
		}
		mode := fs.FileMode(0o600)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o700
		}
		must(t, os.WriteFile(at, []byte(content), mode))
	}
	return dir
}

// read is the reverse of folder.
func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, at)
		must(t, err)
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(at)
			must(t, err)
			out[name] = "->" + target
			return nil
		}
		b, err := os.ReadFile(at)
		out[name] = string(b)
		return err
	}))
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails wants an error with all of the words.
func fails(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q:\n%v", w, err)
		}
	}
}

// within fails the test when something does not end.
func within(t *testing.T, d time.Duration, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		t.Fatalf("not done after %s", d)
		return nil
	}
}

// configMap is a manifest.
const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n"
