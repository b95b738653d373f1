package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// sized is an artifact of its own that takes six blocks on disk: the folder, the tree, the file, the blob, the manifest and the metadata.
func sized(t testing.TB, i int) (string, Item) {
	t.Helper()
	it, _ := item(t, pack(t, file("a.yaml", fmt.Sprint("a: ", i))), "application/x.tar")
	it.Manifest = fmt.Appendf(nil, `{"schemaVersion":2,"layers":[],"n":%d}`, i)
	h, _, err := v1.SHA256(bytes.NewReader(it.Manifest))
	if err != nil {
		t.Fatal(err)
	}
	it.Digest, it.ManifestDigest = h.String(), h.String()
	return EntryName(it.Digest, "ab"), it
}

const sizedBytes = 6 * block

func limited(t testing.TB, dir string, entries int) *Cache {
	t.Helper()
	c, err := Open(dir, Limits{Cache: int64(entries) * sizedBytes})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fillCache puts n entries; the i-th was last used n-i days ago.
func fillCache(t testing.TB, dir string, n int) []string {
	t.Helper()
	c := open(t, dir)
	all := make([]string, n)
	for i := range all {
		name, it := sized(t, i)
		if _, err := c.Put(name, it); err != nil {
			t.Fatal(err)
		}
		all[i] = name
		usedAgo(t, dir, name, time.Duration(n-i)*24*time.Hour)
	}
	return all
}

func usedAgo(t testing.TB, dir, name string, ago time.Duration) {
	t.Helper()
	then := time.Now().Add(-ago)
	if err := os.Chtimes(filepath.Join(dir, name), then, then); err != nil {
		t.Fatal(err)
	}
}

// there is which of the names are in the cache, by their index.
func there(t testing.TB, dir string, all []string) []int {
	t.Helper()
	is := names(t, dir)
	out := []int{}
	for i, name := range all {
		if slices.Contains(is, name) {
			out = append(out, i)
		}
	}
	return out
}

func dirs(dir string, names ...string) (out []string) {
	for _, n := range names {
		out = append(out, filepath.Join(dir, n, treeDir))
	}
	return out
}

func TestVictims(t *testing.T) {
	day := func(n int) time.Time { return time.Unix(int64(n)*86400, 0) }
	cases := []struct {
		name   string
		all    []stored
		budget int64
		gone   string
		rest   int64
	}{
		{"nothing", nil, 0, "", 0},
		{"all within the budget stay", []stored{{name: "a", size: 5}, {name: "b", size: 5}}, 10, "", 10},
		{"the oldest goes first", []stored{{name: "a", size: 5, last: day(2)}, {name: "b", size: 5, last: day(1)}, {name: "c", size: 5, last: day(3)}}, 10, "b", 10},
		{"as many as it takes", []stored{{name: "a", size: 5, last: day(2)}, {name: "b", size: 5, last: day(1)}, {name: "c", size: 5, last: day(3)}}, 9, "b a", 5},
		{"what must stay stays, old as it is", []stored{{name: "a", size: 5, last: day(1), stay: true}, {name: "b", size: 5, last: day(2)}}, 5, "b", 5},
		{"what must stay may be over the budget", []stored{{name: "a", size: 5, stay: true}, {name: "b", size: 1}}, 4, "b", 5},
		{"what is useless goes in any case", []stored{{name: "a", size: 5, last: day(1)}, {name: "b", size: 5, last: day(2), useless: true}}, 100, "b", 5},
		{"what is useless goes first", []stored{{name: "a", size: 5, last: day(1)}, {name: "b", size: 5, last: day(2), useless: true}}, 5, "b", 5},
		{"what is useless and must stay stays", []stored{{name: "a", size: 5, useless: true, stay: true}}, 0, "", 5},
		{"equal times go by name", []stored{{name: "b", size: 1}, {name: "a", size: 1}}, 1, "a", 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			gone, rest := victims(c.all, c.budget)
			var got []string
			for _, s := range gone {
				got = append(got, s.name)
			}
			if strings.Join(got, " ") != c.gone || rest != c.rest {
				t.Errorf("%v go and %d bytes rest, want %q and %d", got, rest, c.gone, c.rest)
			}
		})
	}
}

func TestPrune(t *testing.T) {
	t.Run("removes what was used least recently, also before a restart", func(t *testing.T) {
		dir := t.TempDir()
		all := fillCache(t, dir, 5)
		if _, _, err := open(t, dir).Get(all[1]); err != nil { // another process uses one
			t.Fatal(err)
		}
		if n, err := limited(t, dir, 3).Prune(nil); n != 2 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
		if d := cmp.Diff([]int{1, 3, 4}, there(t, dir, all)); d != "" {
			t.Errorf("entries (-want +got):\n%s", d)
		}
	})
	t.Run("leaves everything that is within the budget", func(t *testing.T) {
		dir := t.TempDir()
		fillCache(t, dir, 5)
		if n, err := limited(t, dir, 5).Prune(nil); n != 0 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
	})
	t.Run("never removes what is kept, and says nothing when that alone is over the budget", func(t *testing.T) {
		dir := t.TempDir()
		all := fillCache(t, dir, 5)
		if n, err := limited(t, dir, 1).Prune(dirs(dir, all[0], all[2])); n != 3 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
		if d := cmp.Diff([]int{0, 2}, there(t, dir, all)); d != "" {
			t.Errorf("entries (-want +got):\n%s", d)
		}
	})
	t.Run("never removes what was used a moment ago", func(t *testing.T) {
		dir := t.TempDir()
		all := fillCache(t, dir, 2)
		c := limited(t, dir, 1)
		for _, name := range all {
			if _, _, err := c.Get(name); err != nil {
				t.Fatal(err)
			}
			usedAgo(t, dir, name, time.Hour)
		}
		if n, err := c.Prune(nil); n != 0 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
	})
	t.Run("removes what cannot be used any more, and nothing that is not an entry", func(t *testing.T) {
		dir := t.TempDir()
		all := fillCache(t, dir, 3)
		if err := os.Truncate(filepath.Join(dir, all[0], metaFile), 10); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, all[1], metaFile), []byte(`{"version":1,"layer":{}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			usedAgo(t, dir, name, time.Hour)
		}
		c := open(t, dir)
		if err := c.Remember("ab", []byte("x")); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{"photos", tempPrefix + "dead"} {
			if err := os.MkdirAll(filepath.Join(dir, d, "x"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := c.Prune(nil); n != 2 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
		if d := cmp.Diff([]string{"photos", "pins", all[2]}, names(t, dir)); d != "" {
			t.Errorf("the cache (-want +got):\n%s", d)
		}
	})
}

func TestUsageIsWhatIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	all := fillCache(t, dir, 3)
	c := open(t, dir)
	if err := c.SetEvidence(all[0], make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, all[1], metaFile)); err != nil { // broken ones take room too
		t.Fatal(err)
	}
	bytes, entries, err := c.Usage()
	if err != nil {
		t.Fatal(err)
	}
	walked := int64(-block) // the cache's own folder
	size, err := walkedSize(dir)
	if walked += size; err != nil || bytes != walked || entries != 3 {
		t.Errorf("%d bytes in %d entries, and %d on disk, %v", bytes, entries, walked, err)
	}
}

func TestPutMakesRoom(t *testing.T) {
	t.Run("evicts the oldest of what is not needed", func(t *testing.T) {
		dir := t.TempDir()
		all := fillCache(t, dir, 3)
		c := limited(t, dir, 3)
		if _, err := c.Prune(dirs(dir, all[0])); err != nil {
			t.Fatal(err)
		}
		name, it := sized(t, 9)
		if _, err := c.Put(name, it); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]int{0, 2, 3}, there(t, dir, append(all, name))); d != "" {
			t.Errorf("entries (-want +got):\n%s", d)
		}
	})
	t.Run("fails where what must stay leaves no room, pulls nothing and removes nothing", func(t *testing.T) {
		dir := t.TempDir()
		all := fillCache(t, dir, 3)
		c := limited(t, dir, 3)
		if _, err := c.Prune(dirs(dir, all...)); err != nil {
			t.Fatal(err)
		}
		name, it := sized(t, 9)
		_, err := c.Put(name, it)
		var limit *LimitError
		if !errors.As(err, &limit) || limit.Max != 3*sizedBytes {
			t.Errorf("error %v", err)
		}
		if d := cmp.Diff([]int{0, 1, 2}, there(t, dir, append(all, name))); d != "" || len(names(t, dir)) != 3 {
			t.Errorf("entries (-want +got):\n%s", d)
		}
	})
	t.Run("fails for what is larger than the whole budget", func(t *testing.T) {
		dir := t.TempDir()
		c, err := Open(dir, Limits{Cache: sizedBytes - 1})
		if err != nil {
			t.Fatal(err)
		}
		name, it := sized(t, 1)
		var limit *LimitError
		if _, err := c.Put(name, it); !errors.As(err, &limit) {
			t.Errorf("error %v", err)
		}
		if n := names(t, dir); len(n) != 0 {
			t.Errorf("left behind: %v", n)
		}
	})
	t.Run("evicts nothing before anybody has said what is needed", func(t *testing.T) {
		dir := t.TempDir()
		all := fillCache(t, dir, 3)
		name, it := sized(t, 9)
		if _, err := limited(t, dir, 1).Put(name, it); err != nil {
			t.Fatal(err)
		}
		if got := there(t, dir, append(all, name)); len(got) != 4 {
			t.Errorf("left: %v", got)
		}
	})
	t.Run("gives up what is not needed when the disk is full, and tries once more", func(t *testing.T) {
		dir := t.TempDir()
		all := fillCache(t, dir, 3)
		c := open(t, dir)
		if _, err := c.Prune(dirs(dir, all[1])); err != nil {
			t.Fatal(err)
		}
		name, it := sized(t, 9)
		pull, full := it.Pull, true
		it.Pull = func(l v1.Descriptor, w io.Writer) error {
			if full {
				full = false
				return os.WriteFile("/dev/full", []byte("x"), 0o600)
			}
			return pull(l, w)
		}
		if _, err := c.Put(name, it); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]int{1, 3}, there(t, dir, append(all, name))); d != "" {
			t.Errorf("entries (-want +got):\n%s", d)
		}
		full = true
		it.Manifest, it.ManifestDigest = nil, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		if _, err := c.Put(EntryName(it.ManifestDigest, "cd"), it); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("error %v", err)
		}
	})
}
