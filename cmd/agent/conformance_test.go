package main_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deploy"
)

var update = flag.Bool("update", false, "write docs/conformance-*.md anew")

// conformance is a page that is generated from the lines of the scripts that begin with its mark.
type conformance struct {
	file, mark string
	spec       reflect.Type
	// marks are what an object can say about itself, as a label or annotation.
	marks []string
	// rules are what users of Flux expect beside the fields.
	rules []string
	// deep: the fields of structs within structs have lines of their own.
	deep bool
	head string
}

var pages = []conformance{
	{
		file: "conformance-kustomization.md", mark: "# shows ", spec: reflect.TypeFor[deploy.KustomizationSpec](),
		marks: []string{
			"reconcile: disabled", "ssa: Override", "ssa: Merge", "ssa: IfNotPresent", "ssa: Ignore", "force: enabled", "prune: disabled", "prune: enabled", "substitute: disabled",
			"config.kubernetes.io/depends-on", "client.lifecycle.config.k8s.io/deletion",
		},
		rules: []string{
			"kustomization.yaml", "nothing from outside", "${variable}", "order", "kubectl before us", "labels", "dependsOn within a source",
		},
		head: `# Kustomization: what is shown by which test

Every field of a Kustomization, every mark that an object can bear, and what users of Flux expect beside these, with the script that shows it: the whole agent as a
process, against a real API server and a real registry. The scripts are in ` + "`cmd/agent/testdata/script`; `make test`" + ` runs them. What the fields mean:
[manifests.md](manifests.md) and [reference.md](reference.md).
`,
	},
	{
		file: "conformance-helmrelease.md", mark: "# shows-hr ", spec: reflect.TypeFor[deploy.HelmReleaseSpec](),
		marks: []string{"driftDetection: disabled"}, deep: true,
		head: `# HelmRelease: what is shown by which test

Every field of a HelmRelease and every mark that an object of a release can bear, with the script that shows it: the whole agent as a process, against a real API server
and a real registry, with charts that it installs. The scripts are in ` + "`cmd/agent/testdata/script`; `make test`" + ` runs them. What the fields mean: [releases.md](releases.md) and
[reference.md](reference.md).
`,
	},
}

// shown is one line of a script: what it shows of a field, against the real API server.
type shown struct{ script, text string }

// TestConformance holds the tables of docs/conformance-*.md against the scripts and against the fields that there are: each has at least one script that shows it.
// The scripts themselves are run by TestScripts.
func TestConformance(t *testing.T) {
	for _, page := range pages {
		t.Run(page.file+" is what the scripts say of every field", page.test)
	}
}

func (c conformance) test(t *testing.T) {
	fields := slices.Concat(c.fields(), c.marks, c.rules)
	found := c.showings(t)
	for _, f := range fields {
		if len(found[f]) == 0 {
			t.Errorf("no script shows %s: add a line %q to one that does", f, c.mark+f+": …")
		}
	}
	for f, by := range found {
		if !slices.Contains(fields, f) {
			t.Errorf("%s says that it shows %q, which there is not", by[0].script, f)
		}
	}
	path, want := filepath.Join("../../docs", c.file), c.table(fields, found)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the scripts say: run go test ./cmd/agent -run TestConformance -update", c.file)
	}
}

// showings are the lines of all scripts by field, in the order of the scripts' names.
func (c conformance) showings(t *testing.T) map[string][]shown {
	t.Helper()
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	found := map[string][]shown{}
	for _, path := range scripts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "-- ") {
				break // the files of the script
			}
			rest, ok := strings.CutPrefix(strings.TrimSpace(line), c.mark)
			if !ok {
				continue
			}
			field, what := c.cut(rest)
			if what == "" {
				t.Fatalf("%s: %q does not say what it shows: want %sfield: what", path, line, c.mark)
			}
			if strings.HasPrefix(what, "as above") || strings.HasPrefix(what, "and ") {
				t.Errorf("%s: %q leans on another line, which may stand elsewhere in the table", path, line)
			}
			found[field] = append(found[field], shown{filepath.Base(path), what})
		}
	}
	return found
}

// cut splits "spec.prune: what" and "ssa: Merge: what".
func (c conformance) cut(s string) (field, what string) {
	for _, m := range c.marks {
		if rest, ok := strings.CutPrefix(s, m+": "); ok {
			return m, rest
		}
	}
	field, what, _ = strings.Cut(s, ": ")
	return field, what
}

// fields are those of the spec, and those of the structs in them.
func (c conformance) fields() []string { return fieldsOf("spec", c.spec, c.deep) }

// fieldsOf are the fields below a path. Structs in them give theirs, and what is in those where that is deep; types of other packages are fields themselves, and so are those
// that Kustomizations have too.
func fieldsOf(at string, t reflect.Type, deep bool) (out []string) {
	for name, t := range jsonFields(t) {
		path := at + "." + name
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
			t, path = t.Elem(), path+"[]"
		}
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || t.PkgPath() != reflect.TypeFor[deploy.KustomizationSpec]().PkgPath() {
			out = append(out, path)
			continue
		}
		var inner []string
		switch {
		case deep && slices.Contains(elsewhere, t):
			inner = []string{path}
		case deep:
			inner = fieldsOf(path, t, true)
		default:
			for name := range jsonFields(t) {
				inner = append(inner, path+"."+name)
			}
			slices.Sort(inner)
		}
		out = append(out, inner...)
	}
	return out
}

// elsewhere are types whose fields the page of Kustomizations shows one by one: a release has them by the same code.
var elsewhere = []reflect.Type{reflect.TypeFor[deploy.Selector](), reflect.TypeFor[deploy.SecretKeyRef]()}

// jsonFields are the fields of a struct by their JSON names, in order.
func jsonFields(t reflect.Type) func(func(string, reflect.Type) bool) {
	return func(yield func(string, reflect.Type) bool) {
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name != "" && name != "-" && !yield(name, t.Field(i).Type) {
				return
			}
		}
	}
}

// table is the page.
func (c conformance) table(fields []string, found map[string][]shown) string {
	var b strings.Builder
	b.WriteString(c.head + `
This page is generated from the scripts by ` + "`go test ./cmd/agent -run TestConformance -update`" + `; a test fails where a field has no script.

| field, mark or rule | what is shown | script |
|---|---|---|
`)
	for _, f := range fields {
		for _, s := range found[f] {
			fmt.Fprintf(&b, "| `%s` | %s | `%s` |\n", f, strings.ReplaceAll(s.text, "|", `\|`), s.script)
		}
	}
	return b.String()
}
