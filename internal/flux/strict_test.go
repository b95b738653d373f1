package flux_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/flux"
)

// What Flux's CustomResourceDefinition of a Kustomization (v1, kustomize-controller 1.9) takes, written down apart from the shape that the export goes by: an API server prunes
// what it does not name, in silence, so these documents are read strictly.
type (
	fluxKustomization struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Metadata   fluxMeta `json:"metadata"`
		Spec       fluxSpec `json:"spec"`
	}
	fluxMeta struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	}
	fluxSpec struct {
		CommonMetadata *struct {
			Annotations map[string]string `json:"annotations,omitempty"`
			Labels      map[string]string `json:"labels,omitempty"`
		} `json:"commonMetadata,omitempty"`
		DependsOn []struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace,omitempty"`
			ReadyExpr string `json:"readyExpr,omitempty"`
		} `json:"dependsOn,omitempty"`
		Decryption *struct {
			Provider           string    `json:"provider"`
			ServiceAccountName string    `json:"serviceAccountName,omitempty"`
			SecretRef          *fluxName `json:"secretRef,omitempty"`
		} `json:"decryption,omitempty"`
		Interval      metav1.Duration  `json:"interval"`
		RetryInterval *metav1.Duration `json:"retryInterval,omitempty"`
		KubeConfig    *struct {
			ConfigMapRef *fluxName `json:"configMapRef,omitempty"`
			SecretRef    *struct {
				Name string `json:"name"`
				Key  string `json:"key,omitempty"`
			} `json:"secretRef,omitempty"`
		} `json:"kubeConfig,omitempty"`
		Path      string `json:"path,omitempty"`
		PostBuild *struct {
			Substitute     map[string]string `json:"substitute,omitempty"`
			SubstituteFrom []struct {
				Kind     string `json:"kind"`
				Name     string `json:"name"`
				Optional bool   `json:"optional,omitempty"`
			} `json:"substituteFrom,omitempty"`
			SubstituteStrategy string `json:"substituteStrategy,omitempty"`
		} `json:"postBuild,omitempty"`
		Prune          bool   `json:"prune"`
		DeletionPolicy string `json:"deletionPolicy,omitempty"`
		HealthChecks   []struct {
			APIVersion string `json:"apiVersion,omitempty"`
			Kind       string `json:"kind"`
			Name       string `json:"name"`
			Namespace  string `json:"namespace,omitempty"`
		} `json:"healthChecks,omitempty"`
		NamePrefix string `json:"namePrefix,omitempty"`
		NameSuffix string `json:"nameSuffix,omitempty"`
		Patches    []struct {
			Patch  string        `json:"patch"`
			Target *fluxSelector `json:"target,omitempty"`
		} `json:"patches,omitempty"`
		Images []struct {
			Name    string `json:"name"`
			NewName string `json:"newName,omitempty"`
			NewTag  string `json:"newTag,omitempty"`
			Digest  string `json:"digest,omitempty"`
		} `json:"images,omitempty"`
		ServiceAccountName string `json:"serviceAccountName,omitempty"`
		SourceRef          struct {
			APIVersion string `json:"apiVersion,omitempty"`
			Kind       string `json:"kind"`
			Name       string `json:"name"`
			Namespace  string `json:"namespace,omitempty"`
		} `json:"sourceRef"`
		Suspend                 bool             `json:"suspend,omitempty"`
		TargetNamespace         string           `json:"targetNamespace,omitempty"`
		Timeout                 *metav1.Duration `json:"timeout,omitempty"`
		Force                   bool             `json:"force,omitempty"`
		Wait                    bool             `json:"wait,omitempty"`
		Components              []string         `json:"components,omitempty"`
		IgnoreMissingComponents bool             `json:"ignoreMissingComponents,omitempty"`
		HealthCheckExprs        []struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Current    string `json:"current"`
			InProgress string `json:"inProgress,omitempty"`
			Failed     string `json:"failed,omitempty"`
		} `json:"healthCheckExprs,omitempty"`
		Ignore []struct {
			Paths  []string      `json:"paths"`
			Target *fluxSelector `json:"target,omitempty"`
		} `json:"ignore,omitempty"`
	}
	fluxName struct {
		Name string `json:"name"`
	}
	fluxSelector struct {
		Group              string `json:"group,omitempty"`
		Version            string `json:"version,omitempty"`
		Kind               string `json:"kind,omitempty"`
		Namespace          string `json:"namespace,omitempty"`
		Name               string `json:"name,omitempty"`
		AnnotationSelector string `json:"annotationSelector,omitempty"`
		LabelSelector      string `json:"labelSelector,omitempty"`
	}
)

// oursOnly are the fields of a Kustomization that Flux has none for. What is neither here nor in Flux's schema fails the test below: a new field is either exported or put here,
// and said to be left out.
var oursOnly = []string{
	"pruneLimit", "allowMassPrune", "kubeConfig.file", "kubeConfig.context", "postBuild.substituteFrom.file", "decryption.keys", "dependsOn.kind", "driftDetection", "rollback",
}

// without takes the fields of a list out of a document.
func without(v any, list []string, at string) {
	switch v := v.(type) {
	case map[string]any:
		for name, below := range v {
			path := strings.TrimPrefix(at+"."+name, ".")
			if slices.Contains(list, path) {
				delete(v, name)
				continue
			}
			without(below, list, path)
		}
	case []any:
		for _, item := range v {
			without(item, list, at)
		}
	}
}

// everyField is a Kustomization with a value in every field of its own that Flux has too, and only there.
func everyField(t *testing.T) deploy.Target {
	t.Helper()
	full := deploy.KustomizationSpec{}
	fill(reflect.ValueOf(&full).Elem())
	full.SourceRef = deploy.SourceRef{Kind: deploy.KindSource, Name: "manifests", Namespace: "shared"}
	full.DependsOn[0].Namespace = "platform"
	var body any
	b, err := json.Marshal(full)
	if err == nil {
		err = json.Unmarshal(b, &body)
	}
	if err != nil {
		t.Fatal(err)
	}
	without(body, oursOnly, "")
	if b, err = json.Marshal(body); err != nil {
		t.Fatal(err)
	}
	spec := &deploy.KustomizationSpec{}
	if err := json.Unmarshal(b, spec); err != nil {
		t.Fatal(err)
	}
	dependency := deploy.Name{Kind: deploy.KindKustomization, Namespace: "platform", Name: spec.DependsOn[0].Name}
	return deploy.Target{
		Name:      deploy.Name{Kind: deploy.KindKustomization, Namespace: "apps", Name: "all"},
		Source:    deploy.Name{Kind: deploy.KindSource, Namespace: "shared", Name: "manifests"},
		DependsOn: []deploy.Name{dependency}, ReadyExprs: map[deploy.Name]string{dependency: spec.DependsOn[0].ReadyExpr},
		Kustomization: spec,
	}
}

func TestEveryFieldOfAKustomizationUnderFluxsName(t *testing.T) {
	target := everyField(t)
	read := documents(t, written(t, target))
	if len(read) != 1 {
		t.Fatalf("%d documents", len(read))
	}
	got, want := asMap(t, read[0].Spec), asMap(t, target.Kustomization)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("what Flux would read is not what the entry says; a new field of deploy.KustomizationSpec belongs into shape.go, or into oursOnly (-entry +Flux):\n%s", d)
	}
	t.Run("and every field of the schema has one of ours", func(t *testing.T) {
		// What an entry cannot say: Flux's other sources, key services of clouds, clusters by workload identity.
		others := []string{"sourceRef.apiVersion", "decryption.serviceAccountName", "kubeConfig.configMapRef", "kubeConfig.configMapRef.name"}
		for _, path := range paths(reflect.TypeFor[fluxSpec](), "") {
			if !slices.Contains(paths(reflect.TypeFor[deploy.KustomizationSpec](), ""), path) && !slices.Contains(others, path) {
				t.Errorf("%s is Flux's and not ours", path)
			}
		}
	})
	t.Run("and the list of our own names fields that there are", func(t *testing.T) {
		for _, path := range oursOnly {
			if !slices.Contains(paths(reflect.TypeFor[deploy.KustomizationSpec](), ""), path) {
				t.Errorf("%s is no field", path)
			}
			if slices.Contains(paths(reflect.TypeFor[fluxSpec](), ""), path) {
				t.Errorf("%s is Flux's too", path)
			}
		}
	})
}

func TestDocumentsOfTwoTargets(t *testing.T) {
	one, two := everyField(t), everyField(t)
	two.Name.Name = "also"
	text := written(t, one, two)
	if again := written(t, two, one); text != again {
		t.Errorf("the order of the entries matters (-first +second):\n%s", cmp.Diff(text, again))
	}
	var names []string
	for _, d := range documents(t, text) {
		names = append(names, d.Metadata.Namespace+"/"+d.Metadata.Name+" "+d.APIVersion+" "+d.Kind)
	}
	if d := cmp.Diff([]string{"apps/all kustomize.toolkit.fluxcd.io/v1 Kustomization", "apps/also kustomize.toolkit.fluxcd.io/v1 Kustomization"}, names); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// written are targets as the command prints them. Nothing of them may be lost.
func written(t *testing.T, targets ...deploy.Target) string {
	t.Helper()
	docs, left, err := flux.Documents(nil, targets)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		if l.Field != "healthChecks" { // written, but of no effect beside wait
			t.Errorf("lost: %s", l.Text("apps"))
		}
	}
	var out bytes.Buffer
	if err := flux.Write(&out, docs); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// documents reads a stream of YAML documents as an API server with strict validation would: unknown and doubled fields are errors.
func documents(t *testing.T, text string) (out []fluxKustomization) {
	t.Helper()
	stream := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		b, err := stream.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		var k fluxKustomization
		if err := yaml.UnmarshalStrict(b, &k, yaml.DisallowUnknownFields); err != nil {
			t.Fatalf("%v in:\n%s", err, b)
		}
		out = append(out, k)
	}
}

func asMap(t *testing.T, v any) (out map[string]any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// paths are the fields of a struct by their JSON names, with those of the structs in them and in its lists.
func paths(t reflect.Type, at string) (out []string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[metav1.Duration]() || strings.HasSuffix(t.PkgPath(), "intstr") {
		return nil
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		path := strings.TrimPrefix(at+"."+name, ".")
		out = append(append(out, path), paths(f.Type, path)...)
	}
	return out
}
