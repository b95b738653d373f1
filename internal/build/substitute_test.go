package build_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/deploy"
)

// holders are ConfigMaps and Secrets by kind/namespace/name.
type holders map[string]map[string][]byte

func (h holders) read(_ context.Context, kind, namespace, name string) (map[string][]byte, error) {
	data, ok := h[kind+"/"+namespace+"/"+name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: strings.ToLower(kind) + "s"}, name)
	}
	return data, nil
}

// built is the one object that a manifest becomes.
func built(t *testing.T, b *build.Builder, manifest string, p *deploy.PostBuild) (map[string]any, error) {
	t.Helper()
	objects, err := b.Build(t.Context(), target(deploy.KustomizationSpec{PostBuild: p}), write(t, files{"a.yaml": manifest}))
	if err != nil {
		return nil, err
	}
	if len(objects) != 1 {
		t.Fatalf("%d objects", len(objects))
	}
	return objects[0].Object, nil
}

// A field of a manifest and what it becomes: the expectations are what YAML text gives when the variables are replaced in it, as Flux does.
func TestSubstituteGivesTypes(t *testing.T) {
	for _, tc := range []struct {
		name, field, value string
		want               any
	}{
		{"a number where the variable is all there is", "${v}", "3", int64(3)},
		{"a number though the manifest has quotes, as Flux", `"${v}"`, "3", int64(3)},
		{"a text of a number with a variable of quotes", "${q}${v}${q}", "3", "3"},
		{"a text of a number among other text", "n-${v}", "3", "n-3"},
		{"a boolean", "${v}", "true", true},
		{"a boolean of YAML 1.1, as Flux", "${v}", "yes", true},
		{"a float", "${v}", "1.5", 1.5},
		{"nothing for an empty value", "${v}", "", nil},
		{"a text", "${v}", "some text", "some text"},
		{"a text of an address with a port", "http://${v}", "example.com:80/x?a=b&c=d", "http://example.com:80/x?a=b&c=d"},
		{"a list", "${v}", "[a, b]", []any{"a", "b"}},
		{"a map", "${v}", "{a: 1}", map[string]any{"a": int64(1)}},
		{"a text without the line break that ends it", "${v}", "x\n", "x"},
		{"a text whose lines are put together, as Flux", "${v}", "a\r\nb", "ab"},
		{"a text of many lines", `"a: ${v}\n# c\n"`, "x: y # z", "a: x: y # z\n# c\n"},
		{"a default", "${none:=5}", "", int64(5)},
		{"an escape", "$${v}", "3", "${v}"},
		{"a password with a hash inside", "${v}", "a#b&c*d", "a#b&c*d"},
		{"a long text", "${v} " + strings.Repeat("word ", 40) + "end", "x", "x " + strings.Repeat("word ", 40) + "end"},
		{"items of a list", "[x, '${v}']", "3", []any{"x", int64(3)}},
		{"items of a list that look like a map, as Flux", "['${v}']", "a: b", []any{map[string]any{"a": "b"}}},
		{"keys", "{'${v}': 1}", "key", map[string]any{"key": int64(1)}},
		{"what has no variable as it is", "{big: 9007199254740993, s: '1.10', y: 'yes', l: [1, 'a']}", "", map[string]any{"big": int64(9007199254740993), "s": "1.10", "y": "yes", "l": []any{int64(1), "a"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			manifest := "apiVersion: v1\nkind: Thing\nmetadata: {name: t}\nspec:\n  before: 1\n  field: " + tc.field + "\n  other: ${other}\n"
			o, err := built(t, build.New(build.Options{}), manifest, &deploy.PostBuild{Substitute: map[string]string{"v": tc.value, "q": `"`, "other": "o"}})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(map[string]any{"before": int64(1), "field": tc.want, "other": "o"}, o["spec"]); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSubstituteRefuses(t *testing.T) {
	const fits = "a value does not fit where the variable stands"
	for _, tc := range []struct{ name, manifest, value, want string }{
		{"a value that is a map where a text goes on", "spec: {x: '${v}'}", "canary: 4711", "substitute in Thing/t: spec.x: " + fits},
		{"a value that opens a quote", "spec: {x: '${v}', y: '${v}'}", `"canary`, "substitute in Thing/t: spec.x: " + fits},
		{"a value that opens a list", "spec: {x: '${v}', y: '${w}'}", "[canary", "spec.x: " + fits},
		{"a value that closes the quotes around it", `spec: {x: 'a: ${v}'}`, "canary' \"b", "spec.x: " + fits},
		{"a value that would add a field", "spec: {x: '${v}'}", "a\n  canary: b", "spec.x: " + fits},
		{"a value that would add a field behind a carriage return", "spec: {x: '${v}'}", "a\r  canary: b", "spec.x: " + fits},
		{"a value that would add a field behind a separator of lines", "spec: {x: '${v}'}", "a\u2028  canary: b", "spec.x: " + fits},
		{"a value that refers to an anchor", "spec: {x: '${v}'}", "*canary", "spec.x: " + fits},
		{"a value that is an anchor", "spec: {x: '${v}'}", "&canary x", "spec.x: a part of a value would be taken for a comment or an anchor"},
		{"a value that is a comment", "spec: {x: '${v}'}", "#canary", "spec.x: a part of a value would be taken for a comment"},
		{"a value whose end is a comment", "spec: {l: ['${v}']}", "pass #canary", "spec.l[0]: a part of a value would be taken for a comment"},
		{"a key that breaks out", "spec: {'${v}': 1}", "a: 1, canary", "spec.${v}: " + fits},
		{"keys that become one", "spec: {'${v}': 1, canary: 2}", "canary", "spec: two of its keys are the same afterwards"},
		{"a name that is a number", "metadata: {name: '${v}'}", "4711", "substitute in Thing/${v}: metadata.name is no text afterwards"},
		{"a name that is empty", "metadata: {name: '${v}'}", "", "metadata.name is no text afterwards"},
		{"a namespace that is a list", "metadata: {name: t, namespace: '${v}'}", "[canary]", "metadata.namespace is no text afterwards"},
		{"a kind that is empty", "kind: ${v}", "", "substitute in ${v}/t: kind is no text afterwards"},
		{"a label that is a number", "metadata: {name: t, labels: {x: '${v}'}}", "4711", "metadata.labels has a value that is no text afterwards: use ${q}${name}${q}"},
		{"an annotation that is a boolean", "metadata: {name: t, annotations: {x: '${v}'}}", "true", "metadata.annotations has a value that is no text afterwards"},
		{"an undefined variable", "spec: {x: '${nope} ${v}', y: ['${none^^}'], z: '${ok:-x}', '${key}': 1}", "canary", "substitute in Thing/t: no value and no default for key, none, nope"},
		{"a variable that cannot be read", "spec: {a: ['x', '${v'], z: '${v}'}", "canary", "spec.a[1]: a ${…} in it cannot be read: to keep it as it is, write $${…}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			manifest := tc.manifest + "\n"
			for key, line := range map[string]string{"metadata:": "metadata: {name: t}\n", "kind:": "kind: Thing\n", "apiVersion:": "apiVersion: v1\n"} {
				if !strings.HasPrefix(manifest, key) && !strings.Contains(manifest, "\n"+key) {
					manifest = line + manifest
				}
			}
			p := &deploy.PostBuild{SubstituteFrom: []deploy.SubstituteFrom{{Kind: "Secret", Name: "s"}}}
			b := build.New(build.Options{Read: holders{"Secret/ns/s": {"v": []byte(tc.value), "w": []byte("canary]")}}.read})
			o, err := built(t, b, manifest, p)
			if err == nil {
				t.Fatalf("got %v", o)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
			if text := strings.ReplaceAll(err.Error(), "spec.canary", ""); strings.Contains(text, "canary") || strings.Contains(text, "4711") {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}

func TestSubstituteNamesAllThatIsUndefined(t *testing.T) {
	dir := write(t, files{"a.yaml": configMap("a") + "data: {x: '${one}'}\n---\n" + configMap("b") + "data: {x: '${two}', y: '${three}'}\n"})
	_, err := build.New(build.Options{}).Build(t.Context(), target(deploy.KustomizationSpec{PostBuild: &deploy.PostBuild{Substitute: map[string]string{"v": "x"}}}), dir)
	want := "substitute in ConfigMap/a: no value and no default for one\nsubstitute in ConfigMap/b: no value and no default for three, two"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestSubstituteTakesVariables(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	env := file("v.env", "# comment\n\n  A=env\nB=x=y z \r\nC=\"q\"\n")
	yamlFile := file("v.yaml", "A: 1.10\nB: \"text\"\nC:\nD: true\nE: 0x10\n")
	h := holders{
		"ConfigMap/ns/c": {"A": []byte("c"), "B": []byte("c")}, "Secret/ns/s": {"A": []byte("s\n")},
		"ConfigMap/other/c": {"A": []byte("other")}, "ConfigMap/ns/bad": {"ca.crt": []byte("canary"), "OK": nil}, "Secret/ns/1": {"1a": []byte("canary")},
	}
	for _, tc := range []struct {
		name   string
		inline map[string]string
		from   []deploy.SubstituteFrom
		text   string
		want   any
		err    string
	}{
		{name: "of the spec", inline: map[string]string{"A": "i"}, text: "-${A}-", want: "-i-"},
		{name: "of a ConfigMap in the target's namespace", from: []deploy.SubstituteFrom{{Kind: "ConfigMap", Name: "c"}}, text: "-${A}${B}-", want: "-cc-"},
		{name: "of later holders before earlier ones", from: []deploy.SubstituteFrom{{Kind: "ConfigMap", Name: "c"}, {Kind: "Secret", Name: "s"}}, text: "-${A}${B}-", want: "-sc-"},
		{name: "of the spec before all holders", inline: map[string]string{"A": "i"}, from: []deploy.SubstituteFrom{{Kind: "Secret", Name: "s"}}, text: "-${A}-", want: "-i-"},
		{name: "of a file of lines", from: []deploy.SubstituteFrom{{File: env}}, text: "-${A}|${B}|${C}-", want: `-env|x=y z |"q"-`},
		{name: "of a YAML file, as they are written there", from: []deploy.SubstituteFrom{{File: yamlFile}}, text: "-${A}|${B}|${C}|${D}|${E}-", want: "-1.10|text||true|0x10-"},
		{name: "without what is optional and not there", inline: map[string]string{"A": "i"}, text: "${A}", want: "i",
			from: []deploy.SubstituteFrom{{Kind: "Secret", Name: "no", Optional: true}, {Kind: "ConfigMap", Name: "no", Optional: true}, {File: filepath.Join(dir, "no"), Optional: true}}},
		{name: "not of what is not there", from: []deploy.SubstituteFrom{{Kind: "ConfigMap", Name: "c"}, {Kind: "Secret", Name: "no"}},
			err: `postBuild.substituteFrom[1]: Secret/ns/no: secrets "no" not found`},
		{name: "not of a file that is not there", from: []deploy.SubstituteFrom{{File: filepath.Join(dir, "no")}}, err: "no such file or directory"},
		{name: "not of a folder", from: []deploy.SubstituteFrom{{File: dir}}, err: "it is not a file of at most"},
		{name: "not under names that are none", from: []deploy.SubstituteFrom{{Kind: "ConfigMap", Name: "bad"}}, err: `ConfigMap/ns/bad: the key "ca.crt" is not the name of a variable`},
		{name: "not under names that begin with a digit", from: []deploy.SubstituteFrom{{Kind: "Secret", Name: "1"}}, err: `Secret/ns/1: the key "1a" is not the name`},
		{name: "not under such names in the spec", inline: map[string]string{"a-b": "x"}, err: `postBuild.substitute: the key "a-b" is not the name`},
		{name: "not of lines without =", from: []deploy.SubstituteFrom{{File: file("bad.env", "A=1\ncanary\n")}}, err: "bad.env: line 2 is not KEY=VALUE"},
		{name: "not of a YAML list", from: []deploy.SubstituteFrom{{File: file("list.yaml", "[canary]")}}, err: "list.yaml: it is not a YAML map of names to values"},
		{name: "not of nested maps", from: []deploy.SubstituteFrom{{File: file("deep.yaml", "A: {b: canary}")}}, err: `deep.yaml: the value of "A" is a map or a list`},
		{name: "not of text in another encoding", from: []deploy.SubstituteFrom{{File: file("latin.yaml", "A: \xe9")}}, err: "latin.yaml: it is not text in UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &deploy.PostBuild{Substitute: tc.inline, SubstituteFrom: tc.from}
			o, err := built(t, build.New(build.Options{Read: h.read}), configMap("x")+"data: {x: '"+tc.text+"'}\n", p)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "canary") {
					t.Errorf("got  %v\nwant %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(map[string]any{"x": tc.want}, o["data"]); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSubstituteReader(t *testing.T) {
	from := func(optional bool) *deploy.PostBuild {
		return &deploy.PostBuild{SubstituteFrom: []deploy.SubstituteFrom{{Kind: "Secret", Name: "s", Optional: optional}}}
	}
	t.Run("is needed for objects of the cluster", func(t *testing.T) {
		_, err := built(t, &build.Builder{}, configMap("x"), from(true))
		if err == nil || !strings.Contains(err.Error(), "Secret/ns/s: there is no cluster here to read it from") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("may fail, also for what is optional", func(t *testing.T) {
		down := errors.New("the server is down")
		b := build.New(build.Options{Read: func(context.Context, string, string, string) (map[string][]byte, error) { return nil, down }})
		if _, err := built(t, b, configMap("x"), from(true)); !errors.Is(err, down) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSubstituteHappens(t *testing.T) {
	const text = "-${A:=d}-"
	always := &deploy.PostBuild{SubstituteStrategy: deploy.SubstituteAlways}
	with := &deploy.PostBuild{Substitute: map[string]string{"A": "v"}}
	for _, tc := range []struct {
		name, metadata string
		p              *deploy.PostBuild
		want           string
	}{
		{"never without postBuild", "", nil, text},
		{"not without a variable", "", &deploy.PostBuild{}, text},
		{"not without a variable, said so", "", &deploy.PostBuild{SubstituteStrategy: deploy.SubstituteWithVariables}, text},
		{"without a variable where it always does", "", always, "-d-"},
		{"with variables", "", with, "-v-"},
		{"not where an annotation disables it", "annotations: {towline.dev/substitute: disabled}", with, text},
		{"not where a label disables it", "labels: {towline.dev/substitute: disabled}", with, text},
		{"not where an annotation of Flux disables it", "annotations: {kustomize.toolkit.fluxcd.io/substitute: disabled}", with, text},
		{"not where a label of Flux disables it", "labels: {kustomize.toolkit.fluxcd.io/substitute: disabled}", always, text},
		{"where an annotation says something else", "annotations: {towline.dev/substitute: enabled}", with, "-v-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, err := built(t, build.New(build.Options{}), fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, %s}\ndata: {x: '%s'}\n", tc.metadata, text), tc.p)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(map[string]any{"x": tc.want}, o["data"]); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSubstituteComes(t *testing.T) {
	t.Run("after kustomize and before the common metadata", func(t *testing.T) {
		spec := deploy.KustomizationSpec{
			NamePrefix: "${p}-", PostBuild: &deploy.PostBuild{Substitute: map[string]string{"p": "prod", "n": "5"}},
			Patches:        []deploy.Patch{{Patch: `[{"op": "replace", "path": "/spec/replicas", "value": "${n}"}]`, Target: &deploy.Selector{Kind: "Deployment"}}},
			CommonMetadata: &deploy.CommonMetadata{Annotations: map[string]string{"a": "${p}"}},
		}
		objects, err := build.New(build.Options{}).Build(t.Context(), target(spec), write(t, files{"a.yaml": deployment}))
		if err != nil {
			t.Fatal(err)
		}
		o := objects[0]
		got := []any{o.GetName(), o.Object["spec"].(map[string]any)["replicas"], o.GetAnnotations()["a"]}
		if d := cmp.Diff([]any{"prod-web", int64(5), "${p}"}, got); d != "" {
			t.Error(d)
		}
	})
	t.Run("before two objects of one name are refused", func(t *testing.T) {
		dir := write(t, files{"a.yaml": configMap("${x}") + "---\n" + configMap("b")})
		_, err := build.New(build.Options{}).Build(t.Context(), target(deploy.KustomizationSpec{PostBuild: &deploy.PostBuild{Substitute: map[string]string{"x": "b"}}}), dir)
		if err == nil || !strings.Contains(err.Error(), "as ConfigMap/${x} (v1) and as ConfigMap/b (v1)") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not inside of the data of a Secret", func(t *testing.T) {
		o, err := built(t, build.New(build.Options{}), "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {x: JHt2fQ==}\nstringData: {y: 'a${v}'}\n", &deploy.PostBuild{Substitute: map[string]string{"v": "x"}})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]any{map[string]any{"x": "JHt2fQ=="}, map[string]any{"y": "ax"}}, []any{o["data"], o["stringData"]}); d != "" {
			t.Error(d)
		}
	})
}
