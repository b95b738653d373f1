package flux_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/flux"
)

var update = flag.Bool("update", false, "write the golden files anew")

func load(t *testing.T, file string) *config.Config {
	t.Helper()
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestDocuments(t *testing.T) {
	cfg := load(t, filepath.Join("testdata", "all.yaml"))
	write := func() string {
		docs, left, err := flux.Documents(cfg.Sources, cfg.Targets)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := flux.Write(&out, docs); err != nil {
			t.Fatal(err)
		}
		out.WriteString("# Losses:\n")
		for _, l := range left {
			fmt.Fprintln(&out, "# "+l.Text(cfg.Namespace))
		}
		return out.String()
	}
	golden := filepath.Join("testdata", "all.golden")
	got := write()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("say all that Flux has words for, and what it has none for", func(t *testing.T) {
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
	t.Run("are the same every time", func(t *testing.T) {
		for range 5 {
			if d := cmp.Diff(got, write()); d != "" {
				t.Fatalf("(-first +later):\n%s", d)
			}
		}
	})
	t.Run("leave the config as it is", func(t *testing.T) {
		again := load(t, filepath.Join("testdata", "all.yaml"))
		if d := cmp.Diff(again, cfg); d != "" {
			t.Errorf("(-loaded +exported):\n%s", d)
		}
	})
}

// TestNothingIsLostInSilence fills in every field that an entry has: each is in the document or said to be left out.
func TestNothingIsLostInSilence(t *testing.T) {
	source := deploy.Source{Name: deploy.Name{Kind: deploy.KindSource, Namespace: "apps", Name: "a"}}
	fill(reflect.ValueOf(&source.Spec).Elem())
	source.Spec.URL = "oci://registry.example.com/a"
	k := deploy.Target{Name: deploy.Name{Kind: deploy.KindKustomization, Namespace: "apps", Name: "k"}, Source: source.Name, Kustomization: &deploy.KustomizationSpec{}}
	fill(reflect.ValueOf(k.Kustomization).Elem())
	k.DependsOn = []deploy.Name{{Kind: deploy.KindKustomization, Namespace: "apps", Name: "text"}}
	h := deploy.Target{Name: deploy.Name{Kind: deploy.KindHelmRelease, Namespace: "apps", Name: "h"}, Source: source.Name, HelmRelease: &deploy.HelmReleaseSpec{}}
	fill(reflect.ValueOf(h.HelmRelease).Elem())
	h.HelmRelease.Values = deploy.Values(`{"a":1}`)
	no := false // true would be the default, for what the rest says
	h.HelmRelease.Install.Remediation.IgnoreTestFailures, h.HelmRelease.Upgrade.Remediation.IgnoreTestFailures = &no, &no
	h.HelmRelease.Upgrade.Remediation.RemediateLastFailure = &no
	h.DependsOn = []deploy.Name{{Kind: deploy.KindHelmRelease, Namespace: "apps", Name: "text"}}

	docs, left, err := flux.Documents([]deploy.Source{source}, []deploy.Target{k, h})
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, l := range left {
		said[l.Entry.Name+" "+l.Field] = true
	}
	for i, spec := range []reflect.Type{reflect.TypeFor[deploy.SourceSpec](), reflect.TypeFor[deploy.HelmReleaseSpec](), reflect.TypeFor[deploy.KustomizationSpec]()} {
		doc := docs[i]
		t.Run("of "+spec.Name(), func(t *testing.T) {
			written, _ := doc.Object["spec"].(map[string]any)
			for field := range spec.Fields() {
				check(t, said, doc.Entry.Name, field, written, "")
			}
		})
	}
}

func check(t *testing.T, said map[string]bool, entry string, f reflect.StructField, written map[string]any, at string) {
	t.Helper()
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	path := strings.TrimPrefix(at+"."+name, ".")
	v, ok := written[name]
	if !ok {
		if !said[entry+" "+path] {
			t.Errorf("%s: %s is neither written nor said to be left out", entry, path)
		}
		return
	}
	typ := f.Type
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		if typ.Kind() == reflect.Slice {
			if list, ok := v.([]any); ok && len(list) > 0 {
				v, path = list[0], path+"[0]"
			}
		}
		typ = typ.Elem()
	}
	if below, ok := v.(map[string]any); ok && typ.Kind() == reflect.Struct && !strings.HasPrefix(path, "dependsOn") && !strings.HasSuffix(path, "Ref") {
		for sub := range typ.Fields() {
			if path == "kubeConfig" && sub.Name == "SecretRef" || sub.Name == "Kind" && path == "postBuild.substituteFrom[0]" || sub.Name == "ValuesKey" && path == "valuesFrom[0]" {
				continue // said otherwise where a file is given too
			}
			check(t, said, entry, sub, below, path)
		}
	}
}

// filled counts the durations: each is another, since one that equals its fallback need not be written.
var filled time.Duration

// fill sets every field below v to something that is no default.
func fill(v reflect.Value) {
	switch d := v.Addr().Interface().(type) {
	case *metav1.Duration:
		filled++
		d.Duration = filled * time.Second
		return
	case *intstr.IntOrString:
		*d = intstr.FromInt32(3)
		return
	case *deploy.Values:
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key"), reflect.ValueOf("text"))
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(3)
	}
}
