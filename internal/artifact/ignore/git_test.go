package ignore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The tree that every ignore file is tried on: folders end with a slash. Names are such that the pieces of patterns can mean them.
var tree = []string{
	"a", "b", "ab", "a.txt", "#a", "!a", "a ", "a b", "[a", "]", "-", `a\b`, "*", "A", "ä", ".a", "a1", "x/", "x/a", "x/b", "x/a.txt", "x/ab/", "x/ab/a", "x/ab/b",
	"x/x/", "x/x/a", "x/x/x/", "x/x/x/a", "y/", "y/a/", "y/a/b", "y/a/x/", "y/a/x/b", "y/b/", "y/b/a/", "y/b/a/b", "ay/", "ay/b", "link",
}

// Ignore files by hand: what the manual promises, and what its small print makes of odd patterns.
var byHand = []string{
	"a", "/a", "a/", "/a/", "x", "x/", "/x", "x/a", "/x/a", "x/x", "y/a/", "a/b", "*", "/*", "*/", "*/*", "*/a", "x/*", "x/*/", "x/*/a", "**", "/**", "**/", "**/**",
	"**/a", "/**/a", "**/a/b", "**/x/a", "x/**", "x/**/", "x/**/a", "x/**/x/a", "y/**/b", "y/**/a/b", "**/a/**", "**/x/**/a", "x/**a", "x/a**", "x**/a", "**x/a", "x**", "**b", "a**b",
	"x/***", "***/a", "x/***/a", "/***", "x/**/**/a", "**/**/a", "?", "??", "x?a", "x/?", "?/a", "*.txt", "a*", "*a", "*a*", "*b", "a.*", ".*", "*\\", "a\\", "\\a", "\\*", "\\**", "a\\b", "a\\\\b",
	"[ab]", "[!a]", "[^a]", "[!ab]*", "[a-z]", "[!a-z]", "[a-]", "[-a]", "[]a]", "[]]", "[!]]", "[]-a]", "[[a]", "[[]a", "[a", "[", "[]", "[!]", "[^]", "[\\]]", "[\\a]", "[a\\-z]", "[a-\\z]", "[z-a]",
	"[[:alpha:]]", "[[:digit:]]", "a[[:digit:]]", "[![:alnum:]]", "[[:upper:]]", "[[:nope:]]", "[[:alpha:]b-]", "[[:space:]a]", "a[[:space:]]b", "a[[:blank:]]*", "[[:alpha:", "[[:alpha]", "[[:]a]", "[:alpha:]",
	"[[:punct:]]", "[[:graph:]]", "[[:print:]]*", "[[:cntrl:]]", "[[:lower:]]", "[[:xdigit:]]", "[a-c-z]", "x[/]a", "x[!b]a", "x/[ab]", "[x]/a", "[!a]*/b", "?[!x]/b", "#a", "\\#a", "!a", "\\!a", "a ", "a\\ ", "a\\  ",
	"a  ", "a b", "a b ", " a", "a\t", "a\r", "a\r\nb\r\n", "/", "//", "//a", "x//a", "x/a//", "!", "!/", "", " ", "\\", "\\ ", "ä", "?\xa4", "[ä]", "A", "a/..", "./a", "x/./a", "link", "link/", "**/link/", "]", "-", "[a", "\ufeffa", "\ufeff#a",
	"*\n!a", "*\n!x\n!x/a", "*\n!*/\n!a", "/*\n!/x", "/*\n!/x\n/x/**/a", "x/*\n!x/a", "x/**\n!x/a", "x\n!x/a", "x/\n!x/a", "x\n!x", "*.txt\n!x/", "a\n!a\na", "!a\na", "**\n!**/", "**\n!**/\n!a.txt", "y/**\n!y/**/b", "*\n!/y/\n!/y/b/\n!/y/b/**",
}

// generated makes further ones from pieces; always the same.
func generated(n int) []string {
	pieces := []string{"a", "b", "x", "y", "ab", "/", "/", "/", "*", "*", "**", "**/", "/**", "?", "[ab]", "[!a]", "[^b]", "[x-y]", "\\a", "\\", "[", "]", "-", ".", "!", " ", "\\ ", "\n", "\n!"}
	r := rand.New(rand.NewPCG(3, 17)) //nolint:gosec // the same every time
	var out []string
	for range n {
		var s strings.Builder
		for range 1 + r.IntN(7) {
			s.WriteString(pieces[r.IntN(len(pieces))])
		}
		out = append(out, s.String())
	}
	return out
}

func TestMatchAgreesWithGit(t *testing.T) {
	root := t.TempDir()
	git(t, root, "", "init", "-q")
	cases := append(slices.Clone(byHand), generated(400)...)
	var asked strings.Builder
	for i, lines := range cases {
		dir := filepath.Join(root, fmt.Sprintf("case%d", i))
		grow(t, dir)
		for _, name := range []string{".gitignore", File} {
			write(t, filepath.Join(dir, name), lines)
		}
		for _, p := range tree {
			fmt.Fprintf(&asked, "case%d/%s\x00", i, strings.TrimSuffix(p, "/"))
		}
	}
	ignored := map[string]bool{}
	for p := range strings.SplitSeq(git(t, root, asked.String(), "check-ignore", "--no-index", "--stdin", "-z"), "\x00") {
		ignored[p] = true
	}
	r, err := os.OpenRoot(root)
	must(t, err)
	defer func() { must(t, r.Close()) }()
	for i, lines := range cases {
		var got, want []string
		sub, err := r.OpenRoot(fmt.Sprintf("case%d", i))
		must(t, err)
		m, err := Read(sub.FS(), nil)
		must(t, err)
		must(t, sub.Close())
		if len(m.patterns) == len(alwaysIgnored)+len(defaultIgnored) {
			m = &Matcher{} // Flux's defaults are not git's
		}
		for _, p := range tree {
			name, dir := strings.CutSuffix(p, "/")
			if m.Match(name, dir) {
				got = append(got, p)
			}
			if ignored[fmt.Sprintf("case%d/%s", i, name)] {
				want = append(want, p)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: ours differs from git's (-git +ours):\n%s", lines, diff)
		}
	}
}

// grow makes the tree below dir.
func grow(t testing.TB, dir string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	for _, p := range tree {
		switch name := filepath.Join(dir, p); {
		case strings.HasSuffix(p, "/"):
			must(t, os.Mkdir(name, 0o755))
		case p == "link":
			must(t, os.Symlink("x", name))
		default:
			write(t, name, "")
		}
	}
}

// git runs git without anybody's configuration. That nothing is ignored is exit code 1, and fine.
func git(t *testing.T, dir, in string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(in)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "HOME="+dir)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("git %s: %v: %s (this test compares with the real git, which must be installed)", args[0], err, errs.String())
	}
	return string(out)
}

func write(t testing.TB, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(text), 0o644))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
