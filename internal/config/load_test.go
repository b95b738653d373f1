package config

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

const examplePath = "../../configs/example.yaml"

// must loads a config that has to be good.
func must(t *testing.T, path string) *Config {
	t.Helper()
	c, err := Load(path)
	if err != nil {
		t.Fatalf("load %s:\n%v", path, err)
	}
	return c
}

func TestExampleIsLoadedWithDefaults(t *testing.T) {
	got := must(t, examplePath)
	source := func(name string) deploy.Name {
		return deploy.Name{Kind: deploy.KindSource, Namespace: "towline-system", Name: name}
	}
	app := deploy.Name{Kind: deploy.KindKustomization, Namespace: "towline-system", Name: "podinfo"}
	ten, five, one := metav1.Duration{Duration: 10 * time.Minute}, metav1.Duration{Duration: 5 * time.Minute}, metav1.Duration{Duration: time.Minute}
	history := 5
	want := &Config{
		Namespace: "towline-system",
		Sources: []deploy.Source{
			{Name: source("podinfo"), Interval: 10 * time.Minute, Timeout: time.Minute, Spec: deploy.SourceSpec{
				URL: "oci://ghcr.io/stefanprodan/manifests/podinfo", Ref: &deploy.Ref{Tag: "latest"}, Interval: ten, Timeout: &one,
				LayerSelector: &deploy.LayerSelector{Operation: deploy.OperationExtract},
			}},
			{Name: source("podinfo-chart"), Interval: 10 * time.Minute, Timeout: time.Minute, Spec: deploy.SourceSpec{
				URL: "oci://ghcr.io/stefanprodan/charts/podinfo", Ref: &deploy.Ref{Semver: ">=6.9.0"}, Interval: ten, Timeout: &one,
				LayerSelector: &deploy.LayerSelector{MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Operation: deploy.OperationCopy},
			}},
		},
		Targets: []deploy.Target{
			{
				Name: deploy.Name{Kind: deploy.KindHelmRelease, Namespace: "towline-system", Name: "podinfo"}, Source: source("podinfo-chart"),
				DependsOn: []deploy.Name{app}, Interval: 10 * time.Minute, RetryInterval: 10 * time.Minute, Timeout: 5 * time.Minute,
				HelmRelease: &deploy.HelmReleaseSpec{
					ChartRef: deploy.SourceRef{Kind: deploy.KindSource, Name: "podinfo-chart", Namespace: "towline-system"},
					Interval: &ten, RetryInterval: &ten, Timeout: &five,
					ReleaseName: "podinfo-podinfo", TargetNamespace: "podinfo", StorageNamespace: "towline-system", MaxHistory: &history,
					Values:    deploy.Values(`{"replicaCount":2}`),
					Install:   &deploy.Install{Timeout: &five, CreateNamespace: true, CRDs: deploy.CRDsCreate},
					Upgrade:   &deploy.Upgrade{Timeout: &five, CRDs: deploy.CRDsSkip},
					Uninstall: &deploy.Uninstall{Timeout: &five},
					DependsOn: []deploy.DependsOn{{Kind: deploy.KindKustomization, Name: "podinfo", Namespace: "towline-system"}},
				},
			},
			{
				Name: app, Source: source("podinfo"), Interval: 10 * time.Minute, RetryInterval: 10 * time.Minute, Timeout: 5 * time.Minute,
				Kustomization: &deploy.KustomizationSpec{
					SourceRef: deploy.SourceRef{Kind: deploy.KindSource, Name: "podinfo", Namespace: "towline-system"},
					Path:      ".", Interval: &ten, RetryInterval: &ten, Timeout: &five, Prune: true,
					DeletionPolicy: deploy.DeletionMirrorPrune, TargetNamespace: "default",
				},
			},
		},
	}
	want.Hash = got.Hash
	for i := range want.Sources {
		want.Sources[i].Hash = deploy.HashOf(want.Sources[i].Spec)
	}
	want.Targets[0].Hash = deploy.HashOf(want.Targets[0].HelmRelease)
	want.Targets[1].Hash = deploy.HashOf(want.Targets[1].Kustomization)
	asText := cmp.Transformer("text", func(v deploy.Values) string { return string(json.RawMessage(v)) })
	if diff := cmp.Diff(want, got, asText); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}
