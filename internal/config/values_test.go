package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/towline/towline/internal/deploy"
)

// freeJSON reads one YAML document as Helm values are read.
func freeJSON(text string) (*value, string, error) {
	var wrong []string
	report := func(_ place, text string) { wrong = append(wrong, text) }
	c := &converter{report: report, done: map[*yaml.Node]*value{}}
	docs := c.parse([]byte(text))
	if len(wrong) > 0 {
		return nil, "", errors.New(strings.Join(wrong, "; "))
	}
	if len(docs) == 0 {
		return &value{}, "null", nil
	}
	w := &walker{report: report, places: map[string]place{}, wrong: map[string]bool{}, budget: &budget{left: maxWritten}}
	w.free(docs[0], 0)
	if len(wrong) > 0 {
		return nil, "", errors.New(strings.Join(wrong, "; "))
	}
	return docs[0], w.out.String(), nil
}

// scalars of every kind, and everything that looks like another kind than it is.
var scalars = []string{
	"yes", "Yes", "YES", "yEs", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF", "y", "Y", "n", "N", "true", "True", "TRUE", "tRUE", "false", "False",
	"null", "Null", "NULL", "nULL", "~", "", `""`, `''`, `"yes"`, `'on'`, `"1"`, `"null"`,
	"0", "-0", "+0", "1", "-1", "+1", "007", "0777", "0o777", "-0o17", "08", "09.5", "0x1F", "-0x1f", "0xZZ", "0b101", "-0b11", "0b2", "1_000", "_1", "1__0", "1_",
	"9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616",
	"123456789012345678901234567890", "1e3", "1E3", "1e+3", "1e-3", "1.", "1.0", "1.10", ".5", "-.5", "+.5", "-0.0", "1e21", "1e20", "1e400", "1.5e300", "0.1",
	"1.2.3", "1.2.3-rc1", "v1", "1a", "1 2", "+", "--", "-a", ".", "..", "./x", ".e3", "1:30", "12:30:45", "190:20:30.15",
	"2001-01-01", "2001-12-14t21:59:43.10-05:00", "2001-13-45", "2001-01-01T00:00:00Z", "100m", "128Mi", "1Gi", "0.5", "a", "a b", "é", `"\u00e9\n"`, "'it''s'", "<b>&",
	"!!str 1", "!!str yes", "!!int 7", "!!int '7'", "!!float 7", "!!float 1.5", "!!bool yes", "!!null ~", "!!binary aGVsbG8=", "!!str",
	"[]", "{}", "[1, yes, a]", "{a: {b: [1.50, ~]}}", "|\n  block\n  text\n", ">-\n  folded\n  text\n", "|+\n  keep\n\n",
}

func TestScalarsAreReadAsHelmReadsThem(t *testing.T) {
	for _, s := range scalars {
		t.Run(fmt.Sprintf("%q", s), func(t *testing.T) {
			text := "key: " + s + "\n"
			want, err := sigsyaml.YAMLToJSONStrict([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			_, got, err := freeJSON(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("JSON (-sigs.k8s.io/yaml +ours):\n%s", diff)
			}
		})
	}
}

func TestDocumentsAreReadAsHelmReadsThem(t *testing.T) {
	for name, text := range map[string]string{
		"key case and dots":      "replicaCount: 1\nReplicaCount: 2\nexample.com/Team.a: A\nenv: {HTTP_PROXY: x, http_proxy: y}\n",
		"aliases":                "a: &a {x: [1, 2]}\nb: *a\nc: [*a, *a]\n",
		"a merge":                "base: &base {a: 1, b: 2}\nc:\n  <<: *base\n  d: 3\n",
		"a merge of several":     "a: &a {x: 1, w: 1}\nb: &b {x: 2, z: 2}\nc:\n  <<: [*a, *b]\n",
		"a merge within a merge": "a: &a {x: 1}\nb: &b {<<: *a, w: 2}\nc: {<<: *b}\n",
		"a quoted merge key":     "a: {\"<<\": 1}\n",
		"comments":               "# head\na: 1 # line\n# foot\nb: [1, # in\n 2]\n",
		"JSON":                   `{"a": [1, 2.5, "x", true, null, {"b": "\u00e9"}]}`,
		"a list":                 "- 1\n- a: b\n",
		"a long text":            "a: |\n  #!/bin/sh\n  echo 'yes' # no\n  exit 0\n",
	} {
		t.Run(name, func(t *testing.T) {
			want, err := sigsyaml.YAMLToJSON([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			_, got, err := freeJSON(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("JSON (-sigs.k8s.io/yaml +ours):\n%s", diff)
			}
		})
	}
}

func TestKeysStayAsTheyWereWritten(t *testing.T) {
	_, got, err := freeJSON("on: 1\nNo: 2\n0x10: 3\n1.50: 4\ntrue: 5\ny: 6\n8080: 7\n2001-01-01: 8\n'~': 9\n")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"0x10":3,"1.50":4,"2001-01-01":8,"8080":7,"No":2,"on":1,"true":5,"y":6,"~":9}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

func TestKeysOfAMapBeatMergedOnesWhereverTheyStand(t *testing.T) {
	_, got, err := freeJSON("a: &a {x: 1, y: 1}\nb: {x: 2, <<: *a}\nc: {<<: *a, x: 2}\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"a":{"x":1,"y":1},"b":{"x":2,"y":1},"c":{"x":2,"y":1}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHashIsThatOfTheMeaning(t *testing.T) {
	const text = `
sources:
  - {name: app, url: oci://r.example.com/app, interval: 1m}
helmReleases:
  - name: app
    chartRef: app
    values: {b: 1, a: {d: [1, 2], c: yes}}
`
	load := func(text string) *Config {
		t.Helper()
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return must(t, file)
	}
	base := load(text)
	same := map[string]string{
		"other order of values":  strings.Replace(text, "{b: 1, a: {d: [1, 2], c: yes}}", "{a: {c: true, d: [1, 2]}, b: 1}", 1),
		"comments":               "# hello\n" + text,
		"a default written out":  strings.Replace(text, "    chartRef: app\n", "    chartRef: {kind: OCIRepository, name: app}\n    maxHistory: 5\n    releaseName: app\n", 1),
		"other way to say times": strings.Replace(text, "1m", "60s", 1),
	}
	for name, other := range same {
		t.Run("stays with "+name, func(t *testing.T) {
			if got := load(other); got.Hash != base.Hash || got.Targets[0].Hash != base.Targets[0].Hash {
				t.Error("the hash changed")
			}
		})
	}
	t.Run("changes with an alert, and no entry's does", func(t *testing.T) {
		one := load(text + "notify: [{name: a, type: generic, address: https://r.io}]\n")
		two := load(text + "notify: [{name: a, type: generic, address: https://r.io/2}]\n")
		if one.Hash == base.Hash || one.Hash == two.Hash || one.Sinks[0].Hash == two.Sinks[0].Hash {
			t.Error("the hash stayed")
		}
		if one.Targets[0].Hash != base.Targets[0].Hash || one.Sources[0].Hash != base.Sources[0].Hash {
			t.Error("an entry's hash changed")
		}
	})
	for name, other := range map[string]string{
		"a value":     strings.Replace(text, "b: 1", "b: 2", 1),
		"list order":  strings.Replace(text, "[1, 2]", "[2, 1]", 1),
		"the timeout": text + "    timeout: 1m\n",
	} {
		t.Run("changes with "+name, func(t *testing.T) {
			got := load(other)
			if got.Hash == base.Hash || got.Targets[0].Hash == base.Targets[0].Hash {
				t.Error("the hash stayed")
			}
			if got.Sources[0].Hash != base.Sources[0].Hash {
				t.Error("the source's hash changed too")
			}
		})
	}
}

func FuzzValuesLikeHelm(f *testing.F) {
	for _, s := range scalars {
		f.Add("key: " + s + "\n")
	}
	f.Add("a: &a {x: [1, 2]}\nb: *a\n")
	f.Fuzz(func(t *testing.T, text string) {
		// Known differences, all on purpose or in the parser below: tags of one's own, merges behind keys, signs behind 0b.
		for _, s := range []string{"!", "<<", "0b-", "0b+", "0b_"} {
			if strings.Contains(text, s) {
				return
			}
		}
		want, err := sigsyaml.YAMLToJSON([]byte(text))
		if err != nil {
			return
		}
		v, got, err := freeJSON(text)
		if err != nil || !textKeys(v, 0) {
			return
		}
		if string(want) != got {
			t.Errorf("%q: sigs.k8s.io/yaml reads %s, we read %s", text, want, got)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("%q: not JSON: %s", text, got)
		}
	})
}

// textKeys reports whether all keys are text by the rules for values. Others are kept as written here, and rewritten by sigs.k8s.io/yaml.
func textKeys(v *value, depth int) bool {
	if depth > maxDepth {
		return false
	}
	for _, item := range v.list {
		if !textKeys(item, depth+1) {
			return false
		}
	}
	for _, f := range v.fields {
		if s, ok := resolvePlain(f.key); !ok || s.kind != kindText || !textKeys(f.value, depth+1) {
			return false
		}
	}
	return true
}

func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, examplePath) {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if !strings.Contains(file, "alias-bomb") { // half a second a run
			f.Add(content)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		l := newLoader()
		l.read(l.parse("config.yaml", content))
		l.finish()
		if len(l.problems) > 0 {
			lines := 1 // as YAML 1.1 counts them, at least
			for _, r := range string(content) {
				if strings.ContainsRune("\n\r\u0085\u2028\u2029", r) {
					lines++
				}
			}
			for _, p := range newError(l.problems).Problems {
				if p.Message == "" || p.File != "config.yaml" || p.Line > lines {
					t.Errorf("bad problem %+v in %d lines", p, lines)
				}
			}
			return
		}
		c := l.config()
		for _, target := range c.Targets {
			if target.Name.Name == "" || target.Source.Name == "" || target.Interval <= 0 || target.Timeout <= 0 || target.RetryInterval <= 0 {
				t.Errorf("incomplete target %+v", target)
			}
			if h := target.HelmRelease; h != nil && h.Values != nil && !json.Valid(json.RawMessage(h.Values)) {
				t.Errorf("values are not JSON: %s", json.RawMessage(h.Values))
			}
		}
		for _, sink := range c.Sinks {
			if sink.Name == "" || sink.Namespace == "" || sink.Spec.Type == "" || sink.Spec.EventSeverity == "" || sink.Hash == "" {
				t.Errorf("incomplete sink %+v", sink)
			}
		}
		for _, source := range c.Sources {
			if source.Interval < minInterval || source.Spec.Ref == nil || *source.Spec.Ref == (deploy.Ref{}) {
				t.Errorf("incomplete source %+v", source)
			}
		}
	})
}
