package helm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// held is a Reader over what the test holds: kind/name and keys.
func held(objects map[string]map[string]string) Reader {
	return func(_ context.Context, kind, _, name string) (map[string][]byte, error) {
		o, ok := objects[kind+"/"+name]
		if !ok {
			return nil, apierrors.NewNotFound(corev1.Resource(strings.ToLower(kind)), name)
		}
		out := map[string][]byte{}
		for k, v := range o {
			out[k] = []byte(v)
		}
		return out, nil
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	read := held(map[string]map[string]string{
		"ConfigMap/base":  {"values.yaml": "a: {b: 1, c: [1, 2], big: 12345678901234567890, f: 1.5}\nKeep.Case/Key: x\n", "empty": "", "list": "[1]", "text": "hello"},
		"Secret/more":     {"values.yaml": "a: {b: 2, d: hunter2hunter2}", "password": "p,a=s{s", "pin": "0042", "comma": "p,admin=true", "set": "{x,2}", "hidden": "p{x,admin=true", "lists": "{{x},admin=true}", "after": "{x}admin=true", "number": "42", "quoted": `"42"`, "broken": "a: [hunter2", "twice": "a: 1\na: 2\n"},
		"ConfigMap/nulls": {"values.yaml": "a: {b: null}\n"},
	})
	cm, secret := deploy.ValuesFrom{Kind: "ConfigMap", Name: "base"}, deploy.ValuesFrom{Kind: "Secret", Name: "more"}
	with := func(f deploy.ValuesFrom, edit func(*deploy.ValuesFrom)) deploy.ValuesFrom { edit(&f); return f }
	at := func(key, path string, literal bool) deploy.ValuesFrom {
		return with(secret, func(f *deploy.ValuesFrom) { f.ValuesKey, f.TargetPath, f.Literal = key, path, literal })
	}
	for _, tc := range []struct {
		name, inline string
		from         []deploy.ValuesFrom
		want, err    string
	}{
		{"later ones go before earlier ones, maps are merged, lists replaced", "", []deploy.ValuesFrom{cm, secret},
			`{"Keep.Case/Key":"x","a":{"b":2,"big":12345678901234567890,"c":[1,2],"d":"hunter2hunter2","f":1.5}}`, ""},
		{"inline values go before all", `{"a":{"b":3,"c":[9]}}`, []deploy.ValuesFrom{secret, cm},
			`{"Keep.Case/Key":"x","a":{"b":3,"big":12345678901234567890,"c":[9],"d":"hunter2hunter2","f":1.5}}`, ""},
		{"null takes away", "", []deploy.ValuesFrom{{Kind: "ConfigMap", Name: "nulls"}}, `{"a":{"b":null}}`, ""},
		{"an empty text has no values", "", []deploy.ValuesFrom{with(cm, func(f *deploy.ValuesFrom) { f.ValuesKey = "empty" })}, `{}`, ""},
		{"a path, as helm --set has it", `{"x":1}`, []deploy.ValuesFrom{at("number", "db.ports[0].number", false)}, `{"db":{"ports":[{"number":42}]},"x":1}`, ""},
		{"a path with dots in a key", "", []deploy.ValuesFrom{at("number", `labels.example\.org/a`, false)}, `{"labels":{"example.org/a":42}}`, ""},
		{"in quotes it is text", "", []deploy.ValuesFrom{at("quoted", "a", false)}, `{"a":"42"}`, ""},
		{"literally it is text, whatever it holds", "", []deploy.ValuesFrom{at("password", "a.b", true)}, `{"a":{"b":"p,a=s{s"}}`, ""},
		{"a path into what was merged before", "", []deploy.ValuesFrom{cm, at("number", "a.c[1]", false)},
			`{"Keep.Case/Key":"x","a":{"b":1,"big":12345678901234567890,"c":[1,42],"f":1.5}}`, ""},
		{"a file", "", []deploy.ValuesFrom{{File: file("v.yaml", "a: 1\n")}}, `{"a":1}`, ""},
		{"a file at a path, without its last line break", "", []deploy.ValuesFrom{{File: file("v.txt", "text\n"), TargetPath: "a", Literal: true}}, `{"a":"text"}`, ""},
		{"optional ones need not be there", `{"x":1}`, []deploy.ValuesFrom{{Kind: "Secret", Name: "none", Optional: true}, {File: filepath.Join(dir, "none"), Optional: true}}, `{"x":1}`, ""},

		{"one that is not there", "", []deploy.ValuesFrom{cm, {Kind: "Secret", Name: "none"}}, "", "valuesFrom[1]: Secret apps/none does not exist"},
		{"a file that is not there", "", []deploy.ValuesFrom{{File: filepath.Join(dir, "none")}}, "", "valuesFrom[0]: read the values: open " + filepath.Join(dir, "none")},
		{"a key that is not there, though optional", "", []deploy.ValuesFrom{with(cm, func(f *deploy.ValuesFrom) { f.ValuesKey, f.Optional = "no", true })}, "", "ConfigMap apps/base has no key no"},
		{"what is no map", "", []deploy.ValuesFrom{with(cm, func(f *deploy.ValuesFrom) { f.ValuesKey = "list" })}, "", "something else than a map"},
		{"a text that is no map", "", []deploy.ValuesFrom{with(cm, func(f *deploy.ValuesFrom) { f.ValuesKey = "text" })}, "", "targetPath"},
		{"broken YAML", "", []deploy.ValuesFrom{with(secret, func(f *deploy.ValuesFrom) { f.ValuesKey = "broken" })}, "", "Secret apps/more is not valid YAML, or has a key twice: line 1"},
		{"a key twice", "", []deploy.ValuesFrom{with(secret, func(f *deploy.ValuesFrom) { f.ValuesKey = "twice" })}, "", "has a key twice: line 2"},
		{"what --set does not take", "", []deploy.ValuesFrom{at("password", "a", false)}, "", "with literal: true"},
		{"a comma that would set something else", "", []deploy.ValuesFrom{at("comma", "a", false)}, "", `a comma is written \,`},
		{"a comma behind a brace that begins no list", "", []deploy.ValuesFrom{at("hidden", "a", false)}, "", `a comma is written \,`},
		{"a list that ends early", "", []deploy.ValuesFrom{at("lists", "a", false)}, "", `a comma is written \,`},
		{"something behind a list", "", []deploy.ValuesFrom{at("after", "a", false)}, "", `cannot be set at targetPath a`},
		{"a list, as --set has it", "", []deploy.ValuesFrom{at("set", "a", false)}, `{"a":["x",2]}`, ""},
		{"a path that does not fit", `{}`, []deploy.ValuesFrom{secret, at("number", "a.d.e", false)}, "", "valuesFrom[1]: Secret apps/more cannot be set at targetPath a.d.e"},
		{"a huge file", "", []deploy.ValuesFrom{{File: file("huge", strings.Repeat("#", 4<<20+1))}}, "", "is bigger than 4 MiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			target := deploy.Target{Name: deploy.Name{Namespace: "apps"}, HelmRelease: &deploy.HelmReleaseSpec{Values: deploy.Values(tc.inline), ValuesFrom: tc.from}}
			got, _, err := resolve(t.Context(), read, target)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "hunter2") {
					t.Fatalf("error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, string(got.HelmRelease.Values)); d != "" {
				t.Errorf("values (-want +got):\n%s", d)
			}
			if target.HelmRelease.ValuesFrom == nil || string(target.HelmRelease.Values) != tc.inline {
				t.Error("the target itself was changed")
			}
		})
	}
	t.Run("says what is secret", func(t *testing.T) {
		t.Parallel()
		target := deploy.Target{HelmRelease: &deploy.HelmReleaseSpec{ValuesFrom: []deploy.ValuesFrom{cm, secret, at("pin", "pin", true)}}}
		_, got, err := resolve(t.Context(), read, target)
		if err != nil {
			t.Fatal(err)
		}
		texts := newSecretTexts(got)
		for text, want := range map[string]bool{"hunter2hunter2": true, "user:hunter2hunter2@db": true, "0042": true, "x0042": false, "x": false, "": false} {
			wantEqual(t, text, texts.in(text), want)
		}
	})
	t.Run("a target without valuesFrom stays as it is", func(t *testing.T) {
		t.Parallel()
		target := deploy.Target{HelmRelease: &deploy.HelmReleaseSpec{Values: deploy.Values(`{"a":1}`)}}
		got, _, err := resolve(t.Context(), nil, target)
		if err != nil || got.HelmRelease != target.HelmRelease {
			t.Errorf("%v", err)
		}
	})
}

func FuzzResolve(f *testing.F) {
	f.Add("a: 1", "a.b[0]", "x", `{"a":{"b":[1]}}`)
	f.Add("a: {b: [1]}", `a\.b`, "{x,y}", `{}`)
	f.Fuzz(func(t *testing.T, text, path, value, inline string) {
		read := held(map[string]map[string]string{"Secret/s": {"values.yaml": text, "v": value}})
		_, _, _ = resolve(t.Context(), read, deploy.Target{HelmRelease: &deploy.HelmReleaseSpec{
			Values: deploy.Values(inline), ValuesFrom: []deploy.ValuesFrom{{Kind: "Secret", Name: "s"}, {Kind: "Secret", Name: "s", ValuesKey: "v", TargetPath: path}},
		}})
	})
}

func TestValuesFrom(t *testing.T) {
	e := newEnv(t)
	e.engine.read = func(ctx context.Context, kind, namespace, name string) (map[string][]byte, error) {
		if kind != "Secret" {
			t.Fatalf("asked for a %s", kind)
		}
		s, err := e.set.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return s.Data, nil
	}
	put := func(data map[string]string) {
		t.Helper()
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "values"}, StringData: data}
		if _, err := e.set.CoreV1().Secrets(e.ns).Update(t.Context(), s, metav1.UpdateOptions{}); apierrors.IsNotFound(err) {
			_, err = e.set.CoreV1().Secrets(e.ns).Create(t.Context(), s, metav1.CreateOptions{})
			e.must(err)
		}
	}
	target := e.target(`{"x":1}`, func(s *deploy.HelmReleaseSpec) { s.ValuesFrom = []deploy.ValuesFrom{{Kind: "Secret", Name: "values"}} })
	r := e.revision(plain("1.0.0", map[string]string{
		"m": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {token: {{ .Values.token | quote }}, url: \"https://{{ .Values.token }}@x\", x: {{ .Values.x | quote }}}\n",
	}))
	full := func() string {
		t.Helper()
		_, err := e.run(t.Context(), target, r, true)
		e.must(err)
		cm, err := e.set.CoreV1().ConfigMaps(e.ns).Get(t.Context(), "m", metav1.GetOptions{})
		e.must(err)
		return cm.Data["token"] + " " + cm.Annotations[deploy.AnnotationSecretFields]
	}
	put(map[string]string{"values.yaml": "token: canary-1\nother: {a: 1, b: 2}\n"})
	wantEqual(t, "object", full(), "canary-1 /data/token,/data/url")
	put(map[string]string{"values.yaml": "other: {b: 2, a: 1}\ntoken: 'canary-1'\n", "unrelated": "x"})
	full()
	wantEqual(t, "history after the same values in another order", e.history(e.ns, "web"), "1:deployed")
	put(map[string]string{"values.yaml": "token: canary-2\n"})
	if got := e.bring(target, r); len(got) > 0 {
		t.Errorf("without a full run: %v", got)
	}
	d, err := e.engine.Diff(t.Context(), deploy.Work{Target: target, Revision: r})
	e.must(err)
	for _, o := range d {
		if o.Object.Kind == "ConfigMap" && (!deploy.HoldsSecrets(o.Before) || !deploy.HoldsSecrets(o.After)) {
			t.Error("whoever shows the difference does not know what is secret")
		}
	}
	wantEqual(t, "object", full(), "canary-2 /data/token,/data/url")
	wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:deployed")
}
