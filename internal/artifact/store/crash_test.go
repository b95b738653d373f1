package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// TestCacheComesBackFromEveryCut makes what a power cut can leave at each step of writing, repairing and removing, and starts again.
func TestCacheComesBackFromEveryCut(t *testing.T) {
	const dead = tempPrefix + "dead"
	in := func(steps ...func(dir, name string) error) func(dir, name string) error {
		return func(dir, name string) error {
			for _, s := range steps {
				if err := s(dir, name); err != nil {
					return err
				}
			}
			return nil
		}
	}
	move := func(from, to string) func(dir, name string) error {
		return func(dir, name string) error {
			r := strings.NewReplacer("ENTRY", name, "DEAD", dead)
			to := filepath.Join(dir, r.Replace(to))
			return errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.Rename(filepath.Join(dir, r.Replace(from)), to))
		}
	}
	cut := func(path string, size int64) func(dir, name string) error {
		return func(dir, name string) error {
			return os.Truncate(filepath.Join(dir, strings.NewReplacer("ENTRY", name, "DEAD", dead).Replace(path)), size)
		}
	}
	remove := func(path string) func(dir, name string) error {
		return func(dir, name string) error {
			return os.RemoveAll(filepath.Join(dir, strings.NewReplacer("ENTRY", name, "DEAD", dead).Replace(path)))
		}
	}
	away := move("ENTRY", "DEAD")
	cases := []struct {
		name  string
		state func(dir, name string) error
		there bool // without pulling again
	}{
		{"writing: an empty folder", in(away, remove("DEAD/tree"), remove("DEAD/layer-0"), remove("DEAD/manifest.json"), remove("DEAD/artifact.json")), false},
		{"writing: half of the blob", in(away, cut("DEAD/layer-0", 700), remove("DEAD/tree"), remove("DEAD/manifest.json"), remove("DEAD/artifact.json")), false},
		{"writing: half of the tree", in(away, remove("DEAD/tree/b"), remove("DEAD/manifest.json"), remove("DEAD/artifact.json")), false},
		{"writing: no metadata yet", in(away, remove("DEAD/artifact.json")), false},
		{"writing: half of the metadata", in(away, cut("DEAD/artifact.json", 90)), false},
		{"writing: all but the last rename", away, false},
		{"written: the unpacked files' contents never came to the disk", in(cut("ENTRY/tree/a.yaml", 0), cut("ENTRY/tree/b/c.yaml", 0)), true},
		{"written: the unpacked files' names never came to the disk", in(remove("ENTRY/tree/a.yaml"), remove("ENTRY/tree/b")), true},
		{"repairing: the old tree was moved away", move("ENTRY/tree", "DEAD/old"), true},
		{"repairing: the new tree is half done", in(move("ENTRY/tree", "DEAD/tree"), remove("DEAD/tree/b")), true},
		{"repairing: the new tree is in its place, its files are not on the disk", cut("ENTRY/tree/a.yaml", 0), true},
		{"removing: out of sight, and still there", move("ENTRY", ".tmp-old-X"), false},
		{"removing: half of it is gone", in(move("ENTRY", ".tmp-old-X"), remove(".tmp-old-X/tree")), false},
		{"evidence: half of it, not yet in its place", in(move("ENTRY/evidence.json", "DEAD/file"), cut("DEAD/file", 10)), true},
		{"a fact: half of it, not yet in its place", in(move("pins/ab.json", "DEAD/file"), cut("DEAD/file", 10)), true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			it, pulls := item(t, pack(t, file("a.yaml", "a: 1"), file("b/c.yaml", "c: 1")), "application/x.tar")
			it.Evidence = []byte("signed")
			before := open(t, dir)
			name, _ := put(t, before, it)
			if err := before.Remember("ab", []byte("x")); err != nil {
				t.Fatal(err)
			}
			if err := c.state(dir, name); err != nil {
				t.Fatal(err)
			}
			cache := open(t, dir)
			for _, n := range names(t, dir) {
				if strings.HasPrefix(n, tempPrefix) {
					t.Errorf("still there: %s", n)
				}
			}
			e, _, err := cache.Get(name)
			if err != nil || (e != nil) != c.there {
				t.Fatalf("entry %v, %v", e, err)
			}
			if e == nil {
				if e, err = cache.Put(name, it); err != nil {
					t.Fatal(err)
				}
			}
			if got := tree(t, e.Dir); len(got) != 2 || got["a.yaml"] != "a: 1" || got["b/c.yaml"] != "c: 1" {
				t.Errorf("files %v", got)
			}
			if c.there != (*pulls == 1) {
				t.Errorf("%d pulls", *pulls)
			}
			if evidence, err := e.Evidence(); err != nil || string(evidence) != "signed" && !strings.HasPrefix(c.name, "evidence") {
				t.Errorf("evidence %q, %v", evidence, err)
			}
			if got := recall(t, cache, "ab"); got != "x" && !strings.HasPrefix(c.name, "a fact") {
				t.Errorf("fact %q", got)
			}
		})
	}
}

// asNobody runs a function with a file system that it may read and not write: the folder belongs to another user and has no write bits. What the kernel says to
// that (EACCES) is as final as a disk that is read-only.
func asNobody(t *testing.T, dir string, f func()) {
	t.Helper()
	chmod := func(file, folder fs.FileMode) error {
		return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Type()&fs.ModeSymlink != 0 {
				return err
			}
			if d.IsDir() {
				return os.Chmod(path, folder)
			}
			return os.Chmod(path, file)
		})
	}
	if err := chmod(0o444, 0o555); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with its changed user
		if os.Geteuid() == 0 { // for whom modes mean nothing
			_ = unix.Setfsuid(65534)
		}
		f()
	}()
	<-done
	if err := chmod(0o644, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestCacheOnADiskThatCannotBeWritten(t *testing.T) {
	top := t.TempDir()
	for d := top; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // nobody has to get there
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(top, "cache")
	it, _ := item(t, pack(t, file("a.yaml", "a: 1")), "application/x.tar")
	it.Evidence = []byte("signed")
	c := open(t, dir)
	name, e := put(t, c, it)
	other, it2 := sized(t, 2)
	if err := c.Remember("ab", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, tempPrefix+"dead"), 0o700); err != nil {
		t.Fatal(err)
	}
	usedAgo(t, dir, name, 30*24*time.Hour)
	t.Run("serves what is there, and says why nothing can be written", func(t *testing.T) {
		asNobody(t, dir, func() {
			if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err == nil {
				t.Error("the test's own folder can be written")
			}
			c, err := Open(dir, Limits{})
			if err != nil {
				t.Error(err)
				return
			}
			got, damage, err := c.Get(name)
			if err != nil || damage != nil || got == nil || read(t, filepath.Join(got.Dir, "a.yaml")) != "a: 1" {
				t.Errorf("entry %v, damage %v, %v", got, damage, err)
			}
			if evidence, err := got.Evidence(); err != nil || string(evidence) != "signed" {
				t.Errorf("evidence %q, %v", evidence, err)
			}
			if value, err := c.Recall("ab"); err != nil || string(value) != "x" {
				t.Errorf("fact %q, %v", value, err)
			}
			if err := c.Remember("ab", []byte("x")); err != nil {
				t.Errorf("a fact that has not changed: %v", err)
			}
			if err := c.Remember("ab", []byte("y")); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("a fact that has changed: %v", err)
			}
			if _, err := c.Put(other, it2); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("put: %v", err)
			}
			if n, err := c.Prune(nil); n != 0 || !errors.Is(err, fs.ErrPermission) {
				t.Errorf("prune: %d, %v", n, err)
			}
		})
	})
	t.Run("keeps an entry that it cannot repair now", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(e.Dir, "a.yaml"), []byte("a: 2"), 0o644); err != nil {
			t.Fatal(err)
		}
		asNobody(t, dir, func() {
			c, err := Open(dir, Limits{})
			if err != nil {
				t.Error(err)
				return
			}
			if got, damage, err := c.Get(name); got != nil || damage == nil || err == nil {
				t.Errorf("entry %v, damage %v, %v", got, damage, err)
			}
		})
		if got, damage, err := open(t, dir).Get(name); got == nil || damage == nil || !damage.Repaired || err != nil {
			t.Errorf("entry %v, damage %v, %v", got, damage, err)
		}
	})
}

func TestPutSaysThatTheDiskIsFull(t *testing.T) {
	dir := t.TempDir()
	it, _ := item(t, pack(t, file("a", "b")), "application/x.tar")
	it.Pull = func(v1.Descriptor, io.Writer) error { return os.WriteFile("/dev/full", []byte("x"), 0o600) }
	_, err := open(t, dir).Put(EntryName(it.Digest, "ab"), it)
	if err == nil || !strings.Contains(err.Error(), "is full: make room") || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
	if n := names(t, dir); len(n) != 0 {
		t.Errorf("left behind: %v", n)
	}
}

// TestCacheIsSafeForManyAtOnce lets two caches, as two processes would have them, put, get and prune in one folder whose budget is too small for all.
func TestCacheIsSafeForManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	const entries, budget, rounds = 6, 4, 30
	var wg sync.WaitGroup
	for range 2 {
		c := limited(t, dir, budget)
		for i := range entries {
			name, it := sized(t, i)
			wg.Go(func() {
				for range rounds {
					e, _, err := c.Get(name)
					if err == nil && e == nil {
						_, err = c.Put(name, it)
					}
					var limit *LimitError
					if err != nil && !errors.As(err, &limit) {
						t.Error(err)
					}
					if err := c.Remember("ab", []byte(name)); err != nil {
						t.Error(err)
					}
					_ = os.Chtimes(filepath.Join(dir, name), time.Time{}, time.Now().Add(-time.Hour)) // it may be gone
					c.mu.Lock()
					delete(c.used, name) // as if long ago
					c.mu.Unlock()
				}
			})
		}
		wg.Go(func() {
			for range rounds {
				if _, err := c.Prune(nil); err != nil && !errors.Is(err, ErrClaimed) {
					t.Error(err)
				}
				c.Release() // so that each comes to prune
				if _, _, err := c.Usage(); err != nil {
					t.Error(err)
				}
				if _, err := c.Recall("ab"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c := limited(t, dir, budget)
	for i := range entries {
		name, _ := sized(t, i)
		if e, damage, err := c.Get(name); err != nil || damage != nil {
			t.Errorf("entry %v, damage %+v, %v", e, damage, err)
		}
	}
	for _, n := range names(t, dir) {
		if strings.HasPrefix(n, tempPrefix) {
			t.Errorf("left behind: %s", n)
		}
	}
}
