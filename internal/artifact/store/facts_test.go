package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func recall(t testing.TB, c *Cache, key string) string {
	t.Helper()
	value, err := c.Recall(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}

func TestFacts(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	remember := func(key, value string) {
		t.Helper()
		if err := c.Remember(key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, factsDir, "ab"+factEnding)
	t.Run("what was never remembered is nothing", func(t *testing.T) {
		if value, err := c.Recall("ab"); value != nil || err != nil {
			t.Errorf("%q, %v", value, err)
		}
		if err := c.Forget(nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("survive a restart", func(t *testing.T) {
		remember("ab", `{"digest":"x"}`)
		remember("ab", `{"digest":"y"}`)
		if got := recall(t, open(t, dir), "ab"); got != `{"digest":"y"}` {
			t.Errorf("got %q", got)
		}
		if n := names(t, dir); len(n) != 1 {
			t.Errorf("the cache holds %v", n)
		}
	})
	t.Run("are not written again when they have not changed", func(t *testing.T) {
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		remember("ab", `{"digest":"y"}`)
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("it was written again, %v", err)
		}
	})
	for name, damage := range map[string]func() error{
		"was cut":  func() error { return os.Truncate(path, 20) },
		"is empty": func() error { return os.Truncate(path, 0) },
		"was changed": func() error {
			return os.WriteFile(path, bytes.Replace([]byte(read(t, path)), []byte(`"y"`), []byte(`"z"`), 1), 0o600)
		},
		"is huge":     func() error { return os.Truncate(path, 1<<40) },
		"is a folder": func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		t.Run("one whose file "+name+" is nothing, and can be remembered again", func(t *testing.T) {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			remember("ab", `{"digest":"y"}`)
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			if got := recall(t, c, "ab"); got != "" {
				t.Errorf("got %q", got)
			}
			if name == "is a folder" {
				return // nobody but a person makes one, and nothing of a person's is removed
			}
			remember("ab", "new")
			if got := recall(t, c, "ab"); got != "new" {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("are forgotten but for those that are kept", func(t *testing.T) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		foreign := filepath.Join(dir, factsDir, "photo.jpg")
		if err := os.WriteFile(foreign, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		remember("01", "a")
		remember("02", "b")
		if err := c.Forget([]string{"02", "03"}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"02.json", "photo.jpg"}, names(t, filepath.Join(dir, factsDir))); d != "" {
			t.Errorf("facts (-want +got):\n%s", d)
		}
	})
	t.Run("a key is never a path, and a value is bounded", func(t *testing.T) {
		for _, key := range []string{"", "../ab", "a/b", "AB", "x", strings.Repeat("a", 200)} {
			if err := c.Remember(key, nil); err == nil {
				t.Errorf("key %q: no error", key)
			}
			if _, err := c.Recall(key); err == nil {
				t.Errorf("key %q: no error", key)
			}
		}
		var limit *LimitError
		if err := c.Remember("ab", make([]byte, maxFact+1)); !errors.As(err, &limit) {
			t.Errorf("error %v", err)
		}
	})
}

func TestEvidence(t *testing.T) {
	fresh := func(t *testing.T) (dir, name string) {
		dir = t.TempDir()
		it, _ := item(t, pack(t, file("a.yaml", "a: 1")), "application/x.tar")
		name, _ = put(t, open(t, dir), it)
		return dir, name
	}
	get := func(t *testing.T, dir, name string) (*Entry, *Damage) {
		t.Helper()
		e, damage, err := open(t, dir).Get(name)
		if err != nil || e == nil {
			t.Fatalf("entry %v, %v", e, err)
		}
		return e, damage
	}
	evidence := func(t *testing.T, e *Entry) string {
		t.Helper()
		got, err := e.Evidence()
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	t.Run("is none at first, then the last that was set, then none again", func(t *testing.T) {
		dir, name := fresh(t)
		e, _ := get(t, dir, name)
		for _, want := range []string{"", "one", "two", "two", ""} {
			if err := open(t, dir).SetEvidence(name, []byte(want)); err != nil {
				t.Fatal(err)
			}
			if got := evidence(t, e); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
	t.Run("can come with the entry, and does not get lost when it is put again without", func(t *testing.T) {
		dir := t.TempDir()
		it, _ := item(t, pack(t, file("a.yaml", "a: 1")), "application/x.tar")
		it.Evidence = []byte("signed")
		name, e := put(t, open(t, dir), it)
		if got := evidence(t, e); got != "signed" {
			t.Errorf("got %q", got)
		}
		for _, c := range []struct{ more, want string }{{"", "signed"}, {"better", "better"}} {
			it.Evidence = []byte(c.more)
			put(t, open(t, dir), it)
			if e, _ := get(t, dir, name); evidence(t, e) != c.want {
				t.Errorf("got %q, want %q", evidence(t, e), c.want)
			}
		}
	})
	t.Run("survives a repair", func(t *testing.T) {
		dir, name := fresh(t)
		if err := open(t, dir).SetEvidence(name, []byte("signed")); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, name, treeDir)); err != nil {
			t.Fatal(err)
		}
		e, damage := get(t, dir, name)
		if damage == nil || !damage.Repaired || evidence(t, e) != "signed" {
			t.Errorf("damage %+v, evidence %q", damage, evidence(t, e))
		}
	})
	t.Run("that is damaged is told, and is none; the artifact is served", func(t *testing.T) {
		dir, name := fresh(t)
		if err := open(t, dir).SetEvidence(name, []byte("signed")); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name, evidenceFile)
		if err := os.WriteFile(path, []byte(strings.Replace(read(t, path), "signed", "forged", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		e, damage := get(t, dir, name)
		if damage == nil || damage.Repaired || evidence(t, e) != "" {
			t.Errorf("damage %+v, evidence %q", damage, evidence(t, e))
		}
		if _, damage := get(t, dir, name); damage != nil {
			t.Errorf("told again: %+v", damage)
		}
	})
	t.Run("needs an entry, and is bounded", func(t *testing.T) {
		dir, name := fresh(t)
		c := open(t, dir)
		for _, bad := range []string{"../x", EntryName("sha256:"+strings.Repeat("0", 64), "ab")} {
			if err := c.SetEvidence(bad, []byte("x")); err == nil {
				t.Errorf("%s: no error", bad)
			}
		}
		var limit *LimitError
		if err := c.SetEvidence(name, make([]byte, maxEvidence+1)); !errors.As(err, &limit) {
			t.Errorf("error %v", err)
		}
	})
}
