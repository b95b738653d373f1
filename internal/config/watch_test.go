package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a test waits for a change to be noticed: far more than the settling time on a busy machine.
const patience = 10 * time.Second

// watched runs Watch on a path until the test ends.
type watched struct {
	t               *testing.T
	changed, looked chan struct{}
}

func watch(t *testing.T, path string) *watched {
	t.Helper()
	before := goleak.IgnoreCurrent()
	const plenty = 1000 // calls of a test, so that none blocks
	w := &watched{t: t, changed: make(chan struct{}, plenty), looked: make(chan struct{}, plenty)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- watchLooks(ctx, path, func() { w.changed <- struct{}{} }, func() { w.looked <- struct{}{} })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch: %v", err)
		}
		goleak.VerifyNone(t, before)
	})
	w.await(w.looked, "the beginning")
	return w
}

func (w *watched) await(c chan struct{}, what string) {
	w.t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		w.t.Fatalf("%s was not noticed", what)
	}
}

// expect waits for a change, and for the end of the look that found it.
func (w *watched) expect(what string) {
	w.t.Helper()
	w.await(w.changed, what)
	w.await(w.looked, what)
}

// expectNone waits for a look that finds no change.
func (w *watched) expectNone(what string) {
	w.t.Helper()
	w.await(w.looked, what)
	select {
	case <-w.changed:
		w.t.Errorf("%s counted as a change", what)
	default:
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatchOfAFile(t *testing.T) {
	start := func(t *testing.T) (string, *watched) {
		file := filepath.Join(t.TempDir(), "config.yaml")
		write(t, file, "a")
		return file, watch(t, file)
	}
	t.Run("notices writing in place", func(t *testing.T) {
		file, w := start(t)
		write(t, file, "b")
		w.expect("the first write")
		write(t, file, "c")
		w.expect("the second write")
	})
	t.Run("notices an atomic rename, again and again", func(t *testing.T) {
		file, w := start(t)
		for _, text := range []string{"b", "c", "d"} {
			write(t, file+".tmp", text)
			try(t, os.Rename(file+".tmp", file))
			w.expect("the rename to " + text)
		}
	})
	t.Run("notices removal and a new file", func(t *testing.T) {
		file, w := start(t)
		try(t, os.Remove(file))
		w.expect("the removal")
		write(t, file, "b")
		w.expect("the new file")
		write(t, file, "c")
		w.expect("a write to the new file")
	})
	t.Run("does not count equal content and other files", func(t *testing.T) {
		file, w := start(t)
		write(t, file, "a")
		write(t, filepath.Join(filepath.Dir(file), "other.yaml"), "x")
		w.expectNone("equal content")
		write(t, file, "b")
		w.expect("other content")
	})
	t.Run("makes few calls of many quick writes", func(t *testing.T) {
		file, w := start(t)
		const writes = 50
		for i := range writes {
			write(t, file, fmt.Sprint(i))
		}
		w.expect("the first of the writes")
		// On an idle machine there is no further call. A busy one may stretch the burst over several looks, but not over one for each write.
		if more := len(w.changed); more > writes/2 {
			t.Errorf("%d writes made more than %d calls", writes, more)
		}
	})
	t.Run("follows a link to a file elsewhere", func(t *testing.T) {
		real := filepath.Join(t.TempDir(), "real.yaml")
		write(t, real, "a")
		link := filepath.Join(t.TempDir(), "config.yaml")
		try(t, os.Symlink(real, link))
		w := watch(t, link)
		write(t, real, "b")
		w.expect("a write behind the link")
	})
	t.Run("waits for a folder that is not there yet", func(t *testing.T) {
		root := t.TempDir()
		file := filepath.Join(root, "etc", "towline", "config.yaml")
		w := watch(t, file)
		try(t, os.MkdirAll(filepath.Dir(file), 0o700))
		write(t, file, "a")
		w.expect("the first file")
		write(t, file, "b")
		w.expect("a write to it")
	})
}

func TestWatchOfAFolder(t *testing.T) {
	start := func(t *testing.T) (string, *watched) {
		folder := filepath.Join(t.TempDir(), "conf")
		try(t, os.Mkdir(folder, 0o700))
		write(t, filepath.Join(folder, "a.yaml"), "a")
		return folder, watch(t, folder)
	}
	t.Run("notices new, changed and removed files", func(t *testing.T) {
		folder, w := start(t)
		write(t, filepath.Join(folder, "b.yml"), "b")
		w.expect("a new file")
		write(t, filepath.Join(folder, "a.yaml"), "aa")
		w.expect("a changed file")
		try(t, os.Remove(filepath.Join(folder, "b.yml")))
		w.expect("a removed file")
	})
	t.Run("does not count hidden and other files", func(t *testing.T) {
		folder, w := start(t)
		write(t, filepath.Join(folder, ".a.yaml.swp"), "x")
		write(t, filepath.Join(folder, ".hidden.yaml"), "x")
		write(t, filepath.Join(folder, "README.md"), "x")
		w.expectNone("a hidden file")
		write(t, filepath.Join(folder, "a.yaml"), "b")
		w.expect("a config file")
	})
	t.Run("survives removing and making the folder again", func(t *testing.T) {
		folder, w := start(t)
		try(t, os.RemoveAll(folder))
		w.expect("the removal")
		try(t, os.Mkdir(folder, 0o700))
		write(t, filepath.Join(folder, "a.yaml"), "b")
		w.expect("the new folder")
		write(t, filepath.Join(folder, "a.yaml"), "c")
		w.expect("a write in the new folder")
	})
	t.Run("survives putting another folder in its place", func(t *testing.T) {
		folder, w := start(t)
		other := folder + ".new"
		try(t, os.Mkdir(other, 0o700))
		write(t, filepath.Join(other, "a.yaml"), "b")
		try(t, os.Rename(folder, folder+".old"))
		try(t, os.Rename(other, folder))
		w.expect("the other folder")
		write(t, filepath.Join(folder, "a.yaml"), "c")
		w.expect("a write in the other folder")
	})
}

// configMap lays a folder out as the kubelet mounts a ConfigMap: config.yaml → ..data/config.yaml, ..data → ..<version>.
func configMap(t *testing.T, folder, version, text string) {
	t.Helper()
	data := filepath.Join(folder, "..data")
	old, _ := os.Readlink(data) // none at first
	try(t, os.Mkdir(filepath.Join(folder, ".."+version), 0o700))
	write(t, filepath.Join(folder, ".."+version, "config.yaml"), text)
	try(t, os.Symlink(".."+version, data+"_tmp"))
	try(t, os.Rename(data+"_tmp", data))
	if old != "" {
		try(t, os.RemoveAll(filepath.Join(folder, old)))
		return
	}
	try(t, os.Symlink(filepath.Join("..data", "config.yaml"), filepath.Join(folder, "config.yaml")))
}

func TestWatchOfAConfigMap(t *testing.T) {
	for name, sub := range map[string]string{"mounted, by its file": "config.yaml", "mounted, by its folder": "."} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			configMap(t, folder, "1", "namespace: one\n")
			path := filepath.Join(folder, sub)
			w := watch(t, path)
			for version, text := range []string{"namespace: two\n", "namespace: three\n", "namespace: four\n"} {
				configMap(t, folder, string(rune('2'+version)), text)
				w.expect("the swap")
				if got := must(t, path).Namespace; "namespace: "+got+"\n" != text {
					t.Errorf("loaded %q after %q", got, text)
				}
			}
		})
	}
}

func TestWatchCallsOnceAtTheBeginningAndEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	if err := Watch(ctx, t.TempDir(), func() { calls++; cancel() }); err != nil {
		t.Fatal(err)
	}
	if calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}
