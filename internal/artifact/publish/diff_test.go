package publish_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/artifact/publish"
	"github.com/towline/towline/internal/testenv"
)

// compare diffs two folders, the first of which is published.
func compare(t *testing.T, before, after map[string]string) (*publish.Comparison, string) {
	t.Helper()
	r := testenv.NewRegistry(t)
	ref, repo := repository(t, r, "apps/web")
	r.PushFiles("apps/web", "latest", before, nil)
	c, err := publish.Diff(t.Context(), repo, ref, publish.Input{Path: folder(t, after)}, publish.PullOptions{})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	var b bytes.Buffer
	must(t, c.Text(&b))
	return c, b.String()
}

func TestDiff(t *testing.T) {
	t.Run("nothing differs", func(t *testing.T) {
		c, text := compare(t, map[string]string{"a.yaml": configMap, "s/b.txt": "b"}, map[string]string{"a.yaml": configMap, "s/b.txt": "b", ".git/HEAD": "x"})
		if !c.Same() || text != "" {
			t.Errorf("got %+v\n%s", c, text)
		}
	})

	t.Run("files are added, removed and changed; text is shown of YAML only", func(t *testing.T) {
		c, text := compare(t,
			map[string]string{"a.yaml": "a: 1\nb: 2\n", "old.yml": "o: 1\n", "n.txt": "1", "x-y": "same", "x/y": "same"},
			map[string]string{"a.yaml": "a: 1\nb: 3", "new.json": "{}\n", "n.txt": "2", "x-y": "same", "x/y": "same", "x/z": "z"})
		if d := cmp.Diff([][]string{{"new.json", "x/z"}, {"old.yml"}, {"a.yaml", "n.txt"}}, [][]string{c.Added, c.Removed, c.Changed}); d != "" {
			t.Error(d)
		}
		const want = "--- artifact/a.yaml\n+++ folder/a.yaml\n@@ -1,2 +1,2 @@\n a: 1\n-b: 2\n+b: 3\n\\ No newline at end of file\n" +
			"--- /dev/null\n+++ folder/new.json\n@@ -0,0 +1 @@\n+{}\n" +
			"--- artifact/old.yml\n+++ /dev/null\n@@ -1 +0,0 @@\n-o: 1\n"
		if d := cmp.Diff(want, text); d != "" {
			t.Error(d)
		}
	})

	t.Run("a folder in place of a file is no error", func(t *testing.T) {
		c, _ := compare(t, map[string]string{"a": "1"}, map[string]string{"a/b": "1"})
		if d := cmp.Diff([][]string{{"a/b"}, {"a"}, nil}, [][]string{c.Added, c.Removed, c.Changed}); d != "" {
			t.Error(d)
		}
	})

	t.Run("ends of lines as in DOS are no difference where both sides have them", func(t *testing.T) {
		_, text := compare(t, map[string]string{"a.yaml": "a: 1\r\nb: 2\r\n"}, map[string]string{"a.yaml": "a: 1\r\nb: 3\r\n"})
		if want := "--- artifact/a.yaml\n+++ folder/a.yaml\n@@ -1,2 +1,2 @@\n a: 1\n-b: 2\n+b: 3\n"; text != want {
			t.Errorf("got %q", text)
		}
		_, text = compare(t, map[string]string{"a.yaml": "a: 1\n"}, map[string]string{"a.yaml": "a: 1\r\n"})
		if want := "--- artifact/a.yaml\n+++ folder/a.yaml\n@@ -1 +1 @@\n-a: 1\n+a: 1\r\n"; text != want {
			t.Errorf("got %q", text)
		}
	})

	t.Run("a file too large is only named", func(t *testing.T) {
		_, text := compare(t, map[string]string{"a.yaml": "a: 1\n"}, map[string]string{"a.yaml": "a: " + strings.Repeat("x", 1<<20)})
		if want := "--- a.yaml: not shown, it is larger than 1048576 bytes\n"; text != want {
			t.Errorf("got %.200s", text)
		}
	})
}

// The words that begin with "hide" in these files must not be printed; those that begin with "show" must.
func TestDiffHidesSecrets(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"changed, added and removed values": {
			"apiVersion: v1\nkind: Secret\nmetadata: {name: show-s}\ndata: {a: hide1, b: hide2}\nstringData: {c: hide3}\n",
			"apiVersion: v1\nkind: Secret\nmetadata: {name: show-s}\ndata: {a: hide4, show-d: hide5}\nstringData: {c: hide3}\n",
		},
		"a new Secret":                  {"show: 1\n", "show: 1\n---\nkind: Secret\nstringData:\n  show-key: |\n    hide1\n    hide2\n"},
		"comments":                      {"kind: Secret\ndata: {a: hide1}\n", "# hide2\nkind: Secret\ndata: # hide3\n  # hide4\n  show: hide5 # hide6\n"},
		"a list":                        {"a: 1", "kind: List\nitems:\n- kind: ConfigMap\n  data: {show: show}\n- kind: Secret\n  data: {a: hide1}\n"},
		"a list of Secrets":             {"a: 1", "kind: SecretList\nmetadata: {name: show}\nitems:\n- data: {a: hide1}\n"},
		"JSON":                          {`{"show": 1}`, `{"show": 2, "kind": "Secret", "data": {"a": "hide1"}}`},
		"an alias":                      {"a: 1", "kind: Secret\nmetadata: {name: show, x: &x hide1}\ndata: {a: *x}\n"},
		"an alias of the whole":         {"a: 1", "x: &x {a: hide1}\ns:\n  kind: Secret\n  metadata: {name: show}\n  data: *x\n"},
		"a merge key":                   {"a: 1", "x: &x {data: {a: hide1}}\ns:\n  <<: *x\n  kind: Secret\n  metadata: {name: show}\n"},
		"a kind by merge key":           {"a: 1", "x: &x {kind: Secret}\nshow:\n  <<: *x\n  data: {a: hide1}\n"},
		"a field that is there twice":   {"a: 1", "kind: Secret\nmetadata: {name: show}\ndata: {a: hide1}\ndata: {a: hide2}\n"},
		"a kind that is there twice":    {"a: 1", "kind: Show\nkind: Secret\ndata: {a: hide1}\n"},
		"a copy in an annotation":       {"a: 1", "kind: Secret\nmetadata:\n  name: show\n  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{hide1}'}\n"},
		"a value in a ring":             {"a: 1", "kind: Secret\nmetadata: {name: show}\ndata: &d {a: hide1, b: *d}\n"},
		"a merge key in a ring":         {"show: 1", "kind: Secret\n<<: &d {<<: *d, a: hide1}\n"},
		"what generators make":          {"a: 1", "secretGenerator:\n- name: show\n  literals: [a=hide1]\n"},
		"a template":                    {"show: 1", "kind: Secret\n{{ if .x }}\ndata: {a: hide1}\n"},
		"the same Secret twice":         {"kind: Secret\ndata: {a: hide1}\n---\nkind: Secret\ndata: {a: hide2}\n", "kind: Secret\ndata: {show: hide3}\n"},
		"a Secret that becomes another": {"kind: Secret\ndata: {a: hide1}\n", "kind: ShowMap\ndata: {a: show}\n"},
		"a value that is no text":       {"kind: Secret\ndata: {show: 1}\n", "kind: Secret\ndata: [hide1]\nstringData: hide2\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, text := compare(t, map[string]string{"x.yaml": c.before}, map[string]string{"x.yaml": c.after})
			if strings.Contains(text, "hide") {
				t.Errorf("printed:\n%s", text)
			}
			if !strings.Contains(strings.ToLower(text), "show") {
				t.Errorf("nothing is printed:\n%s", text)
			}
		})
	}

	t.Run("and says which values changed", func(t *testing.T) {
		_, text := compare(t,
			map[string]string{"s.yaml": "kind: Secret\nmetadata: {name: s}\ndata:\n  a: hide1\n  b: hide2\n"},
			map[string]string{"s.yaml": "kind: Secret\nmetadata: {name: s}\ndata:\n  a: hide1\n  b: hide3\n"})
		const want = "--- artifact/s.yaml\n+++ folder/s.yaml\n@@ -2,4 +2,4 @@\n metadata: {name: s}\n data:\n   a: '***'\n-  b: '*** (before)'\n+  b: '*** (after)'\n"
		if d := cmp.Diff(want, text); d != "" {
			t.Error(d)
		}
	})

	t.Run("a Secret that is only written otherwise", func(t *testing.T) {
		_, text := compare(t, map[string]string{"s.yaml": "kind: Secret\ndata: {a: hide}\n"}, map[string]string{"s.yaml": "kind:   Secret\ndata: {a: 'hide'} # hide\n"})
		if want := "--- s.yaml: only what is not shown differs\n"; text != want {
			t.Errorf("got %s", text)
		}
	})
}
