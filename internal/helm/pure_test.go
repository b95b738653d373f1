package helm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart"
	"sigs.k8s.io/yaml"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

func TestPlace(t *testing.T) {
	target := deploy.Target{Name: deploy.Name{Kind: deploy.KindHelmRelease, Namespace: "apps", Name: "web"}, HelmRelease: &deploy.HelmReleaseSpec{}}
	if got, want := placeOf(target), (place{name: "web", storage: "apps", namespace: "apps"}); got != want {
		t.Errorf("without settings: %+v, want %+v", got, want)
	}
	target.HelmRelease = &deploy.HelmReleaseSpec{TargetNamespace: "prod", StorageNamespace: "store", ReleaseName: "shop"}
	if got, want := placeOf(target), (place{name: "shop", storage: "store", namespace: "prod"}); got != want {
		t.Errorf("with settings: %+v, want %+v", got, want)
	}
}

func TestParseValuesKeepsCaseDotsAndNumbers(t *testing.T) {
	got, err := parseValues(deploy.Values(`{"replicaCount":2,"big":9007199254740993,"ratio":0.5,"node.kubernetes.io/role":"edge","nested":{"camelCase":[1,"a",null]}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"replicaCount": int64(2), "big": int64(9007199254740993), "ratio": 0.5, "node.kubernetes.io/role": "edge",
		"nested": map[string]any{"camelCase": []any{int64(1), "a", nil}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	for _, empty := range []string{"", "null", "{}"} {
		if got, err := parseValues(deploy.Values(empty)); err != nil || got == nil || len(got) != 0 {
			t.Errorf("values %q: %v, %v; want an empty map", empty, got, err)
		}
	}
}

func TestValuesErrorsDoNotQuote(t *testing.T) {
	for _, bad := range []string{`{"password":"hunter2"`, `["hunter2"]`, `"hunter2"`, `{"a":hunter2}`} {
		_, err := parseValues(deploy.Values(bad))
		_, err2 := canonicalValues(deploy.Values(bad))
		if err == nil || err2 == nil {
			t.Fatalf("values %s: no error", bad)
		}
		if strings.Contains(err.Error()+err2.Error(), "hunter2") {
			t.Errorf("the error quotes the values: %v, %v", err, err2)
		}
	}
}

func TestFingerprint(t *testing.T) {
	at := place{name: "web", storage: "apps", namespace: "apps"}
	of := func(digest, values string, at place) fingerprint {
		t.Helper()
		f, err := fingerprintOf(digest, &deploy.HelmReleaseSpec{Values: deploy.Values(values), Timeout: &metav1.Duration{Duration: 1}}, at)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	base := of("sha256:1", `{"a":1,"b":{"c":true,"d":[1,2]}}`, at)
	t.Run("stays the same for ever", func(t *testing.T) {
		// A change here would upgrade every release of every user: raise fingerprintVersion only for a very good reason.
		if want := fingerprint("v1.51ae7fa00c9252.39f4545629facb.d56f6359d240f6.e3b0c44298fc1c"); base != want {
			t.Errorf("got %s, want %s", base, want)
		}
		if len(base) > 63 {
			t.Errorf("%d bytes do not fit a label", len(base))
		}
	})
	t.Run("ignores order and spaces", func(t *testing.T) {
		if got := of("sha256:1", "{ \"b\": {\"d\":[1, 2],\n\"c\":true}, \"a\":1}", at); got != base {
			t.Errorf("got %s, want %s", got, base)
		}
	})
	t.Run("takes no values and empty values for the same", func(t *testing.T) {
		if a, b := of("sha256:1", "", at), of("sha256:1", "{}", at); a != b {
			t.Errorf("%s and %s differ", a, b)
		}
	})
	t.Run("says that it is the postRenderers", func(t *testing.T) {
		for _, h := range []deploy.HelmReleaseSpec{
			{PostRenderers: []deploy.PostRenderer{{Kustomize: &deploy.KustomizeRenderer{Images: []deploy.Image{{Name: "a", NewTag: "1"}}}}}},
			{CommonMetadata: &deploy.CommonMetadata{Labels: map[string]string{"a": "b"}}},
		} {
			h.Values = deploy.Values(`{"a":1,"b":{"c":true,"d":[1,2]}}`)
			f, err := fingerprintOf("sha256:1", &h, at)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"postRenderers"}, f.differences(base)); diff != "" {
				t.Errorf("differences (-want +got):\n%s", diff)
			}
		}
	})
	t.Run("does not trip over labels that somebody edited", func(t *testing.T) {
		for _, f := range []fingerprint{"", "v1", "v1.a", "v1.a.b.c.d.e", "v2.a.b.c.d"} {
			_ = f.differences(base)
			_ = base.differences(f)
			_ = f.differences(f + "x")
		}
	})
	for _, tc := range []struct {
		what, digest, values string
		at                   place
	}{
		{"chart", "sha256:2", `{"a":1,"b":{"c":true,"d":[1,2]}}`, at},
		{"values", "sha256:1", `{"a":1,"b":{"c":true,"d":[2,1]}}`, at},
		{"values", "sha256:1", `{"A":1,"b":{"c":true,"d":[1,2]}}`, at},
		{"targetNamespace", "sha256:1", `{"a":1,"b":{"c":true,"d":[1,2]}}`, place{name: "web", storage: "apps", namespace: "prod"}},
	} {
		t.Run("says that it is the "+tc.what, func(t *testing.T) {
			if diff := cmp.Diff([]string{tc.what}, of(tc.digest, tc.values, tc.at).differences(base)); diff != "" {
				t.Errorf("differences (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLabeller(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"adds the label and keeps comments, quotes and numbers",
			"---\n# Source: c/templates/a.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a # the name\n  labels:\n    app: \"on\"\ndata:\n  mode: \"0644\"\n  flag: yes\n  n: 12345678901234567890\n",
			"---\n# Source: c/templates/a.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a # the name\n  labels:\n    app: \"on\"\n    towline.dev/target: helmrelease.apps.web\ndata:\n  mode: \"0644\"\n  flag: yes\n  n: 12345678901234567890\n"},
		{"makes labels where there are none",
			"---\nkind: A\nmetadata:\n  name: a\n---\nkind: B\nmetadata:\n  name: b\n  labels:\n",
			"---\nkind: A\nmetadata:\n  name: a\n  labels:\n    towline.dev/target: helmrelease.apps.web\n---\nkind: B\nmetadata:\n  name: b\n  labels:\n    towline.dev/target: helmrelease.apps.web\n"},
		{"replaces another target's label",
			"kind: A\nmetadata:\n  labels: {towline.dev/target: old}\n",
			"---\nkind: A\nmetadata:\n  labels: {towline.dev/target: helmrelease.apps.web}\n"},
		{"labels the items of a list",
			"kind: List\nitems:\n  - kind: A\n    metadata:\n      name: a\n",
			"---\nkind: List\nitems:\n  - kind: A\n    metadata:\n      name: a\n      labels:\n        towline.dev/target: helmrelease.apps.web\n"},
		{"does not reach a selector through an alias",
			"kind: A\nmetadata:\n  labels: &l\n    app: a\nspec:\n  selector: *l\n",
			"---\n{\"kind\": \"A\", \"metadata\": {\"labels\": {\"app\": \"a\", towline.dev/target: helmrelease.apps.web}}, \"spec\": {\"selector\": {\"app\": \"a\"}}}\n"},
		{"keeps what a merge key brings",
			"base: &b\n  labels:\n    app: \"on\"\n  name: a\nkind: A\nmetadata:\n  <<: *b\n  namespace: x\n",
			"---\n{\"base\": {\"labels\": {\"app\": \"on\"}, \"name\": \"a\"}, \"kind\": \"A\", \"metadata\": {\"labels\": {\"app\": \"on\", towline.dev/target: helmrelease.apps.web}, \"name\": \"a\", \"namespace\": \"x\"}}\n"},
		{"skips empty documents and leaves what is no object",
			"---\n# nothing\n---\nkind: A\n",
			"---\nkind: A\n"},
		{"keeps a separator inside of a text",
			"kind: A\nmetadata:\n  name: a\ndata: |\n  one\n  ---\n  two\n",
			"---\nkind: A\nmetadata:\n  name: a\n  labels:\n    towline.dev/target: helmrelease.apps.web\ndata: |\n  one\n  ---\n  two\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			out, err := labeller{value: "helmrelease.apps.web"}.Run(bytes.NewBufferString(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("manifests (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("refuses aliases that grow without end", func(t *testing.T) {
		bomb := "kind: A\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
		for i := '1'; i < '8'; i++ {
			prev := "*a" + string(i-1)
			bomb += "a" + string(i) + ": &a" + string(i) + " [" + strings.Repeat(prev+",", 9) + prev + "]\n"
		}
		if _, err := (labeller{}).Run(bytes.NewBufferString(bomb)); err == nil || !strings.Contains(err.Error(), "excessive aliasing") {
			t.Errorf("error %v", err)
		}
	})
}

func FuzzLabellerKeepsBlocks(f *testing.F) {
	for _, style := range []string{"|", "|-", "|+", ">", ">-", ">+", "|2", ">2"} {
		for _, text := range []string{"a\n  more\nb", "a\n\n\n", "\ttab", "  two", "# no comment\n- no list", "a: 'b'\n---\nc", "a \nb", "\n\n\ta\n\n\tb\n", "line one\nline two\n\n    indented\n\nend"} {
			f.Add(style, text)
		}
	}
	f.Fuzz(func(t *testing.T, style, text string) {
		if strings.ContainsAny(style+text, "\u0085\u2028\u2029\ufeff") {
			return // the two readers of YAML do not agree on whether these end a line
		}
		in := "kind: A\nmetadata: {name: a}\nx: " + style + "\n  " + strings.ReplaceAll(text, "\n", "\n  ") + "\nlast: 1\n"
		var before, after map[string]any
		if yaml.Unmarshal([]byte(in), &before) != nil || len(before) != 4 {
			return
		}
		out, err := labeller{value: "v"}.Run(bytes.NewBufferString(in))
		if err != nil {
			return
		}
		if err := yaml.Unmarshal(out.Bytes(), &after); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before["x"], after["x"]); d != "" {
			t.Errorf("%q became %q (-want +got):\n%s", in, out.String(), d)
		}
	})
}

func TestLabellerWritesTextsAsTexts(t *testing.T) {
	odd := map[string]string{"yes": "on", "n": "1:30", "0777": "2024-01-01", "true": "~", "e": "1e3", "empty": "", "lines": "a\nb"}
	l := labeller{value: "v", common: &deploy.CommonMetadata{Annotations: odd}}
	out, err := l.Run(bytes.NewBufferString("kind: A\nmetadata: {name: a}\n"))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := parseObjects(out.String())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(odd, objects[0].GetAnnotations()); d != "" {
		t.Errorf("annotations (-want +got):\n%s", d)
	}
}

func TestLabellerMarksSecretFields(t *testing.T) {
	const secret = "line-one-of-it\nand \"two\"\n"
	for name, tc := range map[string]struct{ in, want string }{
		"a kind of somebody else that is called Secret": {"apiVersion: example.org/v1\nkind: Secret\nmetadata: {name: a}\nspec: {a: swordfish}\n", "/spec/a"},
		"the data of a Secret needs no mark":            {"apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: swordfish}\n", ""},
		"what else a Secret has does":                   {"apiVersion: v1\nkind: Secret\nmetadata: {name: a, annotations: {hint: swordfish}}\nstringData: {a: swordfish}\n", "/metadata/annotations/hint"},
		"fields that the chart names stay named": {
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {towline.dev/secret-fields: /data/b}}\ndata: {a: swordfish, b: x}\n", "/data/a,/data/b",
		},
		"in base64":                      {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: c3dvcmRmaXNo}\n", "/data/a"},
		"a text of lines, indented":      {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: |\n    x:\n      line-one-of-it\n      and \"two\"\n", "/data/a"},
		"a text in quotes":               {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: 'x: \"say \\\"two\\\"\"', b: y}\n", "/data/a"},
		"what only looks alike does not": {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: sword}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := labeller{value: "v", secret: newSecretTexts([]string{"swordfish", secret, `say "two"`})}.Run(bytes.NewBufferString(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			objects, err := parseObjects(out.String())
			if err != nil {
				t.Fatal(err)
			}
			wantEqual(t, "marked", objects[0].GetAnnotations()[deploy.AnnotationSecretFields], tc.want)
		})
	}
}

func TestLabellerChangesNothingElse(t *testing.T) {
	in := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: x}\nspec:\n  replicas: 2\n  template:\n    spec:\n      containers:\n      - {name: a, image: \"a:1\", args: [\"--a=1\", '012', 0x10, ~, 1e3]}\n"
	out, err := labeller{value: "v"}.Run(bytes.NewBufferString(in))
	if err != nil {
		t.Fatal(err)
	}
	var before, after map[string]any
	if err := yaml.Unmarshal([]byte(in), &before); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(out.Bytes(), &after); err != nil {
		t.Fatal(err)
	}
	before["metadata"].(map[string]any)["labels"] = map[string]any{deploy.LabelTarget: "v"}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("object (-want +got):\n%s", diff)
	}
}

func TestCheckSchemas(t *testing.T) {
	schema := `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","required":["image"],"additionalProperties":false,
		"properties":{"image":{"type":"string","pattern":"^[a-z/]+$"},"replicaCount":{"type":"integer"},"mode":{"enum":["a","b"]},"sub":{"type":"object"},"global":{}}}`
	tests := []struct {
		name, schema string
		values       map[string]any
		want         string // empty: valid
	}{
		{"accepts what fits", schema, map[string]any{"image": "a/b", "replicaCount": int64(2)}, ""},
		{"names the path of a wrong type", schema, map[string]any{"image": "a", "replicaCount": "two"}, "values of chart web: /replicaCount must be integer, is string"},
		{"names what lacks", schema, map[string]any{}, "values of chart web: / lacks image"},
		{"names what is too much", schema, map[string]any{"image": "a", "replicacount": 1}, "values of chart web: / must not have replicacount"},
		{"does not quote a value", schema, map[string]any{"image": "HUNTER2"}, "values of chart web: /image must match ^[a-z/]+$"},
		{"lists every fault", schema, map[string]any{"mode": "c", "replicaCount": 1.5}, "values of chart web: / lacks image; /mode must be one of the 2 values that the schema allows; /replicaCount must be integer, is number"},
		{"follows no http reference", `{"properties":{"a":{"$ref":"http://127.0.0.1:1/schema.json"}}}`, map[string]any{}, "a $ref to another document is not followed"},
		{"follows no https reference that an $id makes", `{"$id":"https://example.org/x/","properties":{"a":{"$ref":"defs.json"}}}`, map[string]any{}, "a $ref to another document is not followed"},
		{"follows no file reference", `{"properties":{"a":{"$ref":"file:///etc/hostname"}}}`, map[string]any{}, "a $ref to another document is not followed"},
		{"follows a reference within", `{"$defs":{"n":{"type":"integer"}},"properties":{"a":{"$ref":"#/$defs/n"}}}`, map[string]any{"a": "x"}, "/a must be integer, is string"},
		{"says when the schema is broken", `{`, map[string]any{}, "values.schema.json is not JSON"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := &chart.Chart{Metadata: &chart.Metadata{Name: "web"}, Schema: []byte(tc.schema)}
			err := checkSchemas(c, tc.values)
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "HUNTER2") {
				t.Error("the error quotes a value")
			}
		})
	}
	t.Run("looks into subcharts", func(t *testing.T) {
		c := &chart.Chart{Metadata: &chart.Metadata{Name: "web"}}
		c.AddDependency(&chart.Chart{Metadata: &chart.Metadata{Name: "db"}, Schema: []byte(`{"properties":{"port":{"type":"integer"}}}`)})
		err := checkSchemas(c, map[string]any{"db": map[string]any{"port": "x"}})
		if err == nil || !strings.Contains(err.Error(), "values of chart db: /port must be integer") {
			t.Errorf("error %v", err)
		}
	})
}

func TestLoadChartFinds(t *testing.T) {
	chartYAML := "apiVersion: v2\nname: web\nversion: 1.2.3\n"
	tests := []struct {
		name  string
		files map[string]string
		want  string // of the error; empty: found
	}{
		{"a chart at the root", map[string]string{"Chart.yaml": chartYAML}, ""},
		{"a chart one folder deep", map[string]string{"web/Chart.yaml": chartYAML, "README.md": "x"}, ""},
		{"the outer chart, not its subcharts", map[string]string{"Chart.yaml": chartYAML, "charts/db/Chart.yaml": "apiVersion: v2\nname: db\nversion: 1.0.0\n"}, ""},
		{"no chart two folders deep", map[string]string{"a/b/Chart.yaml": chartYAML}, "is no chart"},
		{"no chart in plain manifests", map[string]string{"deploy.yaml": "kind: A"}, "is no chart"},
		{"two charts", map[string]string{"a/Chart.yaml": chartYAML, "b/Chart.yaml": chartYAML}, "holds 2 charts (a, b)"},
		{"a broken Chart.yaml", map[string]string{"Chart.yaml": "name: [\n"}, "cannot load Chart.yaml"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range tc.files {
				p := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, err := loadChart(deploy.Revision{Dir: dir, Digest: "sha256:1"})
			if tc.want == "" {
				if err != nil || c.Metadata.Version != "1.2.3" {
					t.Fatalf("chart %v, error %v", c, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), dir) {
				t.Errorf("the error shows the cache's path: %v", err)
			}
		})
	}
	t.Run("a missing archive without its path", func(t *testing.T) {
		dir := t.TempDir()
		_, err := loadChart(deploy.Revision{Dir: dir, File: "chart.tgz", Digest: "sha256:1"})
		if err == nil || strings.Contains(err.Error(), dir) {
			t.Errorf("error %v", err)
		}
	})
}

func TestVersionWith(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for in, want := range map[string]string{
		"1.2.3": "1.2.3+0123456789ab", "1.2.3-rc.1": "1.2.3-rc.1+0123456789ab", "1.2.3+build.7": "1.2.3+0123456789ab", "no version": "no version",
	} {
		if got := versionWith(in, digest); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	if got := versionWith("1.2.3", ""); got != "1.2.3" {
		t.Errorf("without a digest: %s", got)
	}
}
