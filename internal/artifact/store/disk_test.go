package store

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the tests of this file tell the process that they start: the folder that it works in.
const (
	diskDir  = "DISK_DIR"
	filesDir = "FILES_DIR"
)

// child runs one test of this file in a process of its own, which may spoil itself.
func child(t *testing.T, test, env string, attr *syscall.SysProcAttr) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), env+"="+t.TempDir())
	cmd.SysProcAttr = attr
	return cmd.CombinedOutput()
}

// TestCacheOnAFullDisk works on a disk of its own: a small tmpfs where the system lets it mount one, else one on which files cannot become large.
func TestCacheOnAFullDisk(t *testing.T) {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	said, err := child(t, "TestFullDiskChild", diskDir, attr)
	if errors.Is(err, syscall.EPERM) { // such processes are not allowed here
		said, err = child(t, "TestFullDiskChild", diskDir, nil)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

// small is the size of the disk, in bytes.
const small = 256 << 10

// smallDisk mounts one at dir, or makes files larger than a block fail; fill and empty it as asked.
func smallDisk(t *testing.T, dir string) (mounted bool, fill, empty func()) {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	_ = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") // what is mounted here is seen nowhere else
	if unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k") == nil {
		fill = func() {
			f, err := os.Create(ballast)
			for err == nil {
				_, err = f.Write(make([]byte, block))
			}
			if !diskFull(err) {
				t.Fatal(err)
			}
			_ = f.Close() // full, as it should be
		}
		return true, fill, func() { _ = os.Remove(ballast) }
	}
	limit := func(most uint64) func() {
		return func() {
			if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: most, Max: unix.RLIM_INFINITY}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return false, limit(0), limit(unix.RLIM_INFINITY)
}

func TestFullDiskChild(t *testing.T) {
	dir := os.Getenv(diskDir)
	if dir == "" {
		return // it was not started by TestCacheOnAFullDisk
	}
	mounted, fill, empty := smallDisk(t, dir)
	c := open(t, dir)
	name, it := sized(t, 1)
	if _, err := c.Put(name, it); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.SetEvidence(name, []byte("signed")), c.Remember("ab", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Prune(dirs(dir, name)); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, small/4)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	next, _ := item(t, pack(t, file("a.yaml", string(noise))), "application/x.tar")
	later := EntryName(next.Digest, "cd")

	fill()
	_, err := c.Put(later, next)
	if err == nil || errors.Is(err, ErrInvalid) || mounted && !strings.Contains(err.Error(), "is full: make room") {
		t.Errorf("put: %v", err)
	}
	if err := c.Remember("ab", []byte("y")); err == nil {
		t.Error("a fact was written")
	}
	if err := c.SetEvidence(name, []byte("otherwise")); err == nil {
		t.Error("evidence was written")
	}
	c.Release()
	c = open(t, dir)
	e, damage, err := c.Get(name)
	if e == nil || damage != nil || err != nil {
		t.Fatalf("entry %v, damage %v, %v", e, damage, err)
	}
	if ev, err := e.Evidence(); string(ev) != "signed" || err != nil {
		t.Errorf("evidence %q, %v", ev, err)
	}
	if got := recall(t, c, "ab"); got != "x" {
		t.Errorf("fact %q", got)
	}
	for _, n := range names(t, dir) {
		if strings.HasPrefix(n, tempPrefix) {
			t.Errorf("left behind: %s", n)
		}
	}
	empty()
	if _, err := c.Put(later, next); err != nil {
		t.Error(err)
	}
	if err := c.Remember("ab", []byte("y")); err != nil {
		t.Error(err)
	}
	if mounted {
		readOnly(t, dir, name)
	}
}

// readOnly starts on a disk that was mounted read-only, as after an error of the file system.
func readOnly(t *testing.T, dir, name string) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir)
	if e, damage, err := c.Get(name); e == nil || damage != nil || err != nil {
		t.Errorf("entry %v, damage %v, %v", e, damage, err)
	}
	if got := recall(t, c, "ab"); got != "y" {
		t.Errorf("fact %q", got)
	}
	if _, err := c.Prune(dirs(dir, name)); err != nil {
		t.Errorf("prune, with nothing to remove: %v", err)
	}
	other, it := sized(t, 7)
	if _, err := c.Put(other, it); err == nil || !strings.Contains(err.Error(), "is read-only") {
		t.Errorf("put: %v", err)
	}
}

// TestCacheKeepsWhatItCannotLookAt reads an entry in a process that has ever more file handles, from none on: at each step it may fail, but not lose the entry.
func TestCacheKeepsWhatItCannotLookAt(t *testing.T) {
	if said, err := child(t, "TestFewFilesChild", filesDir, nil); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

func TestFewFilesChild(t *testing.T) {
	dir := os.Getenv(filesDir)
	if dir == "" {
		return // it was not started by TestCacheKeepsWhatItCannotLookAt
	}
	it, _ := item(t, pack(t, file("a/b/c/d.yaml", "a: 1")), "application/x.tar")
	it.Evidence = []byte("signed")
	name, _ := put(t, open(t, dir), it)
	const many = 1024
	failed := 0
	for most := range uint64(many) {
		c := open(t, dir)
		limit := func(n uint64) {
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: many}); err != nil {
				t.Fatal(err)
			}
		}
		limit(most)
		e, damage, err := c.Get(name)
		limit(many)
		if err == nil && e != nil && damage == nil {
			if failed < 3 { // metadata, blobs, tree
				t.Errorf("it failed %d times only", failed)
			}
			return
		}
		if failed++; err == nil {
			t.Fatalf("with %d handles: entry %v, damage %+v", most, e, damage)
		}
	}
	t.Error("it never worked")
}

func TestCacheTakesNoLinksAndPipesForFiles(t *testing.T) {
	link := func(path string) error {
		return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path))
	}
	pipe := func(path string) error { return errors.Join(os.RemoveAll(path), syscall.Mkfifo(path, 0o600)) }
	for what, spoil := range map[string]func(string) error{"a link": link, "a pipe": pipe} {
		for _, part := range []string{"", metaFile, manifestFile, layerFile + "0", treeDir, treeDir + "/a.yaml", evidenceFile} {
			t.Run(what+" in place of "+part, func(t *testing.T) {
				dir := t.TempDir()
				it, _ := item(t, pack(t, file("a.yaml", "a: 1")), "application/x.tar")
				it.Evidence = []byte("signed")
				name, _ := put(t, open(t, dir), it)
				if err := spoil(filepath.Join(dir, name, part)); err != nil {
					t.Fatal(err)
				}
				c := open(t, dir)
				if _, damage, err := c.Get(name); damage == nil || err != nil {
					t.Errorf("damage %v, %v", damage, err)
				}
				e, err := c.Put(name, it)
				if err != nil {
					t.Fatal(err)
				}
				if info, err := os.Lstat(filepath.Join(e.Dir, "a.yaml")); err != nil || !info.Mode().IsRegular() {
					t.Errorf("%v, %v", info, err)
				}
			})
		}
	}
	t.Run("a pipe and a link with temporary names hold nobody up", func(t *testing.T) {
		dir := t.TempDir()
		elsewhere := t.TempDir()
		if err := errors.Join(syscall.Mkfifo(filepath.Join(dir, tempPrefix+"pipe"), 0o600), os.Symlink(elsewhere, filepath.Join(dir, tempPrefix+"link"))); err != nil {
			t.Fatal(err)
		}
		open(t, dir)
		if _, err := os.Stat(elsewhere); err != nil {
			t.Error(err)
		}
	})
}

func TestOnlyOwnersCanRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "cache")
	c := open(t, dir)
	it, _ := item(t, pack(t, file("a.yaml", "a: 1")), "application/x.tar")
	it.Evidence = []byte("signed")
	name, _ := put(t, c, it)
	if err := c.Remember("ab", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{
		"": modeCache, "..": modeCache, name: modeCache, name + "/" + metaFile: modeMeta, name + "/" + evidenceFile: modeMeta, name + "/" + manifestFile: modeMeta,
		name + "/" + layerFile + "0": modeMeta, factsDir: modeCache, factsDir + "/ab.json": modeMeta,
	} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q has mode %v, want %v, %v", path, info.Mode().Perm(), want, err)
		}
	}
}

func TestClaim(t *testing.T) {
	dir := t.TempDir()
	all := fillCache(t, dir, 2)
	one, two := limited(t, dir, 1), limited(t, dir, 1)
	if err := errors.Join(one.Claim(), one.Claim(), one.Remember("ab", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	t.Run("another process removes nothing", func(t *testing.T) {
		if n, err := two.Prune(nil); n != 0 || !errors.Is(err, ErrClaimed) {
			t.Errorf("removed %d, %v", n, err)
		}
		if err := two.Forget(nil); !errors.Is(err, ErrClaimed) {
			t.Error(err)
		}
		if e, _, err := two.Get(all[0]); e == nil || err != nil {
			t.Errorf("entry %v, %v", e, err)
		}
		if got := recall(t, two, "ab"); got != "x" {
			t.Errorf("fact %q", got)
		}
	})
	t.Run("it is free when the first one has ended", func(t *testing.T) {
		one.Release()
		if err := two.Claim(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a folder that was deleted and made again is claimed again", func(t *testing.T) {
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, modeCache)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(two.Claim(), two.Claim()); err != nil {
			t.Error(err)
		}
		if err := one.Claim(); !errors.Is(err, ErrClaimed) {
			t.Error(err)
		}
	})
}

// BenchmarkManyEntries is a cache of ten thousand artifacts, which only a budget that somebody set high lets come about.
func BenchmarkManyEntries(b *testing.B) {
	const many = 10_000
	dir := b.TempDir()
	raw, it := sized(b, 0)
	e, err := open(b, dir).Put(raw, it)
	if err != nil {
		b.Fatal(err)
	}
	meta, err := os.ReadFile(e.path(metaFile))
	if err != nil {
		b.Fatal(err)
	}
	for i := range many {
		name, _ := sized(b, i+1)
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, name, treeDir), modeDir), os.WriteFile(filepath.Join(dir, name, metaFile), meta, modeMeta)); err != nil {
			b.Fatal(err)
		}
		usedAgo(b, dir, name, time.Hour)
	}
	next, fresh := sized(b, many+1)
	for name, do := range map[string]func() error{
		"open":  func() error { _, err := Open(dir, Limits{}); return err },
		"prune": func() error { c := open(b, dir); defer c.Release(); _, err := c.Prune(nil); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("put", func(b *testing.B) {
		b.ReportAllocs()
		c := open(b, dir)
		defer c.Release()
		if _, err := c.Prune(nil); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			_, err := c.Put(next, fresh)
			if err := errors.Join(err, c.remove(next)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
