package main_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deploy"
)

var update = flag.Bool("update", false, "write docs/conformance-kustomization.md anew")

// conformanceDoc is generated from the lines of the scripts that begin with shows.
const (
	conformanceDoc = "../../docs/conformance-kustomization.md"
	showsMark      = "# shows "
)

// marks are what an object can say about itself, as a label or annotation under towline.dev/ or kustomize.toolkit.fluxcd.io/, and cli-utils' annotations.
var marks = []string{
	"reconcile: disabled", "ssa: Override", "ssa: Merge", "ssa: IfNotPresent", "ssa: Ignore", "force: enabled", "prune: disabled", "substitute: disabled",
	"config.kubernetes.io/depends-on", "client.lifecycle.config.k8s.io/deletion",
}

// shown is one line of a script: what it shows of a field, against the real API server.
type shown struct{ script, text string }

// TestConformance holds the table of docs/conformance-kustomization.md against the scripts and against the fields that there are: each has at least one script that shows it.
// The scripts themselves are run by TestScripts.
func TestConformance(t *testing.T) {
	fields := append(specFields(), marks...)
	found := showings(t)
	for _, f := range fields {
		if len(found[f]) == 0 {
			t.Errorf("no script shows %s: add a line %q to one that does", f, showsMark+f+": …")
		}
	}
	for f, by := range found {
		if !slices.Contains(fields, f) {
			t.Errorf("%s says that it shows %q, which there is not", by[0].script, f)
		}
	}
	want := conformanceTable(fields, found)
	if *update {
		if err := os.WriteFile(conformanceDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(conformanceDoc)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the scripts say: run go test ./cmd/agent -run TestConformance -update", filepath.Base(conformanceDoc))
	}
}

// showings are the lines of all scripts by field, in the order of the scripts' names.
func showings(t *testing.T) map[string][]shown {
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
			rest, ok := strings.CutPrefix(strings.TrimSpace(line), showsMark)
			if !ok {
				continue
			}
			field, what := cutShown(rest)
			if what == "" {
				t.Fatalf("%s: %q does not say what it shows: want %sfield: what", path, line, showsMark)
			}
			found[field] = append(found[field], shown{filepath.Base(path), what})
		}
	}
	return found
}

// cutShown splits "spec.prune: what" and "ssa: Merge: what".
func cutShown(s string) (field, what string) {
	for _, m := range marks {
		if rest, ok := strings.CutPrefix(s, m+": "); ok {
			return m, rest
		}
	}
	field, what, _ = strings.Cut(s, ": ")
	return field, what
}

// specFields are the fields of a Kustomization's spec, and those of the structs in them.
func specFields() []string {
	var out []string
	for name, t := range jsonFields(reflect.TypeFor[deploy.KustomizationSpec]()) {
		path := "spec." + name
		list := ""
		if t.Kind() == reflect.Slice {
			t, list = t.Elem(), "[]"
		}
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		inner := map[string]reflect.Type{}
		if t.Kind() == reflect.Struct && t.PkgPath() == reflect.TypeFor[deploy.KustomizationSpec]().PkgPath() {
			inner = maps.Collect(jsonFields(t))
		}
		if len(inner) == 0 {
			out = append(out, path)
		}
		for _, name := range slices.Sorted(maps.Keys(inner)) {
			out = append(out, path+list+"."+name)
		}
	}
	return out
}

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

func conformanceTable(fields []string, found map[string][]shown) string {
	var b strings.Builder
	b.WriteString(`# Kustomization: what is shown by which test

Every field of a Kustomization and every mark that an object can bear, with the script that shows it: the whole agent as a process, against a real API server and a
real registry. The scripts are in ` + "`cmd/agent/testdata/script`" + `; ` + "`make test`" + ` runs them. What the fields mean: [manifests.md](manifests.md) and [reference.md](reference.md).

This page is generated from the scripts by ` + "`go test ./cmd/agent -run TestConformance -update`" + `; a test fails where a field has no script.

| field or mark | what is shown | script |
|---|---|---|
`)
	for _, f := range fields {
		for _, s := range found[f] {
			fmt.Fprintf(&b, "| `%s` | %s | `%s` |\n", f, strings.ReplaceAll(s.text, "|", `\|`), s.script)
		}
	}
	return b.String()
}
