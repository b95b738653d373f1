package ignore

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// plant writes files below a new root, a path each; a line "path=text" has a text.
func plant(t testing.TB, files ...string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		write(t, filepath.Join(dir, name), text)
	}
	root, err := os.OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { must(t, root.Close()) })
	return root
}

// list is everything below root, folders with a slash.
func list(t testing.TB, root *os.Root) []string {
	t.Helper()
	var out []string
	must(t, fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if d.IsDir() {
			name += "/"
		}
		out = append(out, name)
		return err
	}))
	return out[1:]
}

func TestTrim(t *testing.T) {
	text := func(s string) *string { return &s }
	for _, c := range []struct {
		name  string
		files []string
		extra *string
		want  []string
	}{
		{
			"without patterns, Flux's defaults go",
			[]string{
				"a.yaml", "x/a.jpg", "x/a.zip", "b.tar.gz", ".git/HEAD", "x/.git/HEAD", ".gitignore", ".github/ci.yml", "x/.travis.yml", "x/.sops.yaml", ".flux.yaml",
				"keep/.gitkeep", "appveyor.yml", "cloudbuild.yaml",
			},
			nil,
			[]string{"a.yaml", "keep/", "keep/.gitkeep"},
		},
		{
			"with any pattern only those of version control stay",
			[]string{"a.jpg", "b.md", ".git/HEAD", "x/.gitignore", ".github/ci.yml"}, text("*.md"),
			[]string{".github/", ".github/ci.yml", "a.jpg"},
		},
		{"comments and blanks are no pattern", []string{"a.jpg", ".sourceignore=# a\n\n"}, text(" \n#b"), []string{".sourceignore"}},
		{"a pattern can take back what belongs to version control", []string{"a", ".gitignore"}, text("!.gitignore"), []string{".gitignore", "a"}},
		{
			"files with patterns hold for their folder and below",
			[]string{".sourceignore=/*.md", "a.md", "x/.sourceignore=*.txt", "x/a.md", "x/a.txt", "x/y/b.txt", "y/b.txt"}, nil,
			[]string{".sourceignore", "x/", "x/.sourceignore", "x/a.md", "y/", "y/b.txt"},
		},
		{"the given patterns count more than the files", []string{".sourceignore=*.md", "x/.sourceignore=!b.md", "a.md", "x/b.md"}, text("x/b.md\n!/a.md"), []string{".sourceignore", "a.md", "x/", "x/.sourceignore"}},
		{"files with patterns in ignored folders do not count", []string{"x/.sourceignore=!*", "x/a", "b"}, text("x"), []string{"b"}},
		{"they do in a folder that is taken back", []string{".sourceignore=x", "x/.sourceignore=a", "x/a", "x/b"}, text("!x"), []string{".sourceignore", "x/", "x/.sourceignore", "x/b"}},
		{"one folder out of all", []string{"deploy/a.yaml", "deploy/a.md", "src/main.go", "README"}, text("/*\n!/deploy\n/deploy/**/*.md\n"), []string{"deploy/", "deploy/a.yaml"}},
		{"folders that become empty go, up to the root", []string{"x/y/z/a.md"}, text("*.md"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := plant(t, c.files...)
			must(t, Trim(root, c.extra))
			if diff := cmp.Diff(c.want, list(t, root), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTrimWithLinks(t *testing.T) {
	outside := plant(t, "precious/a.md")
	root := plant(t, "x/a.md", "keep")
	must(t, root.Mkdir("empty", 0o755))
	must(t, os.Symlink(filepath.Join(outside.Name(), "precious"), filepath.Join(root.Name(), "out")))
	must(t, os.Symlink(filepath.Join(outside.Name(), "precious"), filepath.Join(root.Name(), "away.md")))
	extra := "*.md\nout/"
	must(t, Trim(root, &extra))
	if diff := cmp.Diff([]string{"empty/", "keep", "out"}, list(t, root)); diff != "" {
		t.Errorf("a link is a file, and a folder that was empty stays: %s", diff)
	}
	if diff := cmp.Diff([]string{"precious/", "precious/a.md"}, list(t, outside)); diff != "" {
		t.Errorf("something outside changed: %s", diff)
	}
}

func TestReadRefuses(t *testing.T) {
	long := strings.Repeat("a?\n", maxPatterns+1)
	link := plant(t, "rules=*")
	must(t, link.Symlink("rules", File))
	for _, c := range []struct {
		name string
		fsys fs.FS
		want string
	}{
		{"a file that is too large", fstest.MapFS{"x/" + File: {Data: make([]byte, maxFile+1)}}, "x/.sourceignore is larger than 1048576 bytes"},
		{"too many patterns", fstest.MapFS{File: {Data: []byte(long)}}, "more than 10000 patterns"},
		{"a link", link.FS(), ".sourceignore is no regular file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Read(c.fsys, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestSlowPatternsEnd(t *testing.T) {
	slow := fstest.MapFS{File: {Data: []byte(strings.Repeat(strings.Repeat("*a", 60)+"b\n", 100))}}
	for i := range 20 {
		slow[strings.Repeat("a", 200+i)+"/x"] = &fstest.MapFile{}
	}
	nearly := &budget{steps: maxSteps - 100_000}
	if _, err := read(slow, nil, nearly); err == nil || !strings.Contains(err.Error(), "the patterns need too long") {
		t.Errorf("got %v", err)
	}
	if _, err := Read(slow, nil); err != nil {
		t.Errorf("there is time enough for them: %v", err)
	}
}

func TestNilMatcherIgnoresNothing(t *testing.T) {
	var m *Matcher
	if m.Match(".git", true) {
		t.Error("it ignored something")
	}
}

// FuzzIgnore looks for panics, for answers that do not fit one another, and for traces outside.
func FuzzIgnore(f *testing.F) {
	for i, lines := range byHand {
		f.Add(lines, byHand[len(byHand)-1-i], "x/a/b")
	}
	f.Add("**/*[!a]**/?\\", "!**", "../../etc/passwd")
	f.Fuzz(func(t *testing.T, rules, extra, name string) {
		top := t.TempDir()
		write(t, filepath.Join(top, "beside"), "")
		dir := filepath.Join(top, "root")
		grow(t, dir)
		must(t, os.Symlink("../../beside", filepath.Join(dir, "x", "out")))
		write(t, filepath.Join(dir, "x", File), rules)
		root, err := os.OpenRoot(dir)
		must(t, err)
		defer func() { must(t, root.Close()) }()
		m, err := Read(root.FS(), &extra)
		if err != nil {
			return // refused: over a bound
		}
		if m.Match(name, true) && !m.Match(name+"/below", false) {
			t.Errorf("%q is ignored, but not what is in it", name)
		}
		var want []string
		for _, p := range append(list(t, root), "") {
			if p != "" && !strings.HasSuffix(p, "/") && !m.Match(p, false) {
				want = append(want, p)
			}
		}
		must(t, Trim(root, &extra))
		var got []string
		for _, p := range list(t, root) {
			if !strings.HasSuffix(p, "/") {
				got = append(got, p)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Trim and Match disagree: %s", diff)
		}
		if _, err := os.Lstat(filepath.Join(top, "beside")); err != nil {
			t.Error("something outside is gone")
		}
	})
}
