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

func TestSinksAreLoadedWithDefaults(t *testing.T) {
	got := must(t, "testdata/notify.good.yaml").Sinks
	address := func(name, url string, secret *deploy.LocalRef, kind string) deploy.Sink {
		return deploy.Sink{Name: name, Namespace: "towline-system", Spec: deploy.SinkSpec{Type: kind, Address: url, SecretRef: secret, EventSeverity: "info"}}
	}
	want := []deploy.Sink{
		address("chat", "slack://hook:secret@webhook", nil, deploy.SinkShoutrrr),
		address("hook", "https://user:secret@alerts.example.com/towline?token=secret", nil, deploy.SinkGeneric),
		address("mail", "", &deploy.LocalRef{Name: "mail"}, deploy.SinkShoutrrr),
		{Name: "signed", Namespace: "towline-system", Spec: deploy.SinkSpec{
			Type: deploy.SinkGenericHMAC, AddressFile: "address", TokenFile: "hmac-key", EventSeverity: deploy.SeverityError,
			EventSources: []deploy.EventSource{
				{Name: "*", Namespace: "towline-system"}, {Name: "podinfo", Namespace: "towline-system"}, {Kind: deploy.KindSource, Name: "*", Namespace: "towline-system"},
				{Kind: deploy.KindKustomization, Name: "podinfo", Namespace: "towline-system"}, {Kind: deploy.KindSource, Name: "podinfo", Namespace: "towline-system"},
				{Name: "podinfo", Namespace: "*"}, {Kind: deploy.KindSource, Name: "*", Namespace: "*"},
			},
			InclusionList: []string{"failed$"}, ExclusionList: []string{"^waiting"},
			EventMetadata: map[string]string{"region": "eu-west", "port": "8080"}, Summary: "edge", Suspend: true,
		}},
		address("with-token", "http://alerts.example.com", &deploy.LocalRef{Name: "alerts"}, deploy.SinkGeneric),
		address("wrapped", "generic+https://alerts.example.com/towline", nil, deploy.SinkShoutrrr),
	}
	want[0].Namespace = "ops"
	for i := range want {
		want[i].Hash = deploy.HashOf(want[i].Spec)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sinks (-want +got):\n%s", diff)
	}
}

func TestSourcesAreLoadedWithDefaults(t *testing.T) {
	got := map[string]deploy.SourceSpec{}
	for _, file := range []string{"testdata/every-access.good.yaml", "testdata/local-sources.good.yaml"} {
		for _, s := range must(t, file).Sources {
			got[s.Name.Name] = s.Spec
		}
	}
	minute, empty := metav1.Duration{Duration: time.Minute}, ""
	patterns := "# documents\n*.md\n!README.md\n[!a-z]*\n[]x]\na\\[b\n\\#not a comment\n"
	secret := func(name string) *deploy.LocalRef { return &deploy.LocalRef{Name: name} }
	latest, extract := &deploy.Ref{Tag: "latest"}, &deploy.LayerSelector{Operation: deploy.OperationExtract}
	want := map[string]deploy.SourceSpec{
		"files": {
			URL: "file:///srv/manifests/", Interval: metav1.Duration{Duration: 10 * time.Second}, Timeout: &minute, Ref: latest, LayerSelector: extract,
			Provider: deploy.ProviderGeneric, Ignore: &patterns,
		},
		"stick": {
			URL: "oci-layout:///media/usb/podinfo.tar", Interval: minute, Timeout: &minute, Ref: &deploy.Ref{Semver: ">=6.0.0"}, LayerSelector: extract,
			AllowDowngrade: true, Platform: "linux/arm64", Provider: deploy.ProviderGeneric,
			Verify: &deploy.Verify{Provider: deploy.VerifyCosign, Keys: []string{"/etc/towline/cosign.pub"}},
		},
		"every": {
			URL: "oci://registry.example.com/app", Interval: minute, Timeout: &minute, Ref: latest, LayerSelector: extract,
			Mirrors: []string{"oci://mirror.example.com/app", "oci://127.0.0.1:5000/app"}, Platform: "linux/arm/v7", Provider: deploy.ProviderAWS,
			SecretRef: secret("pull"), ServiceAccountName: "puller", ProxySecretRef: secret("proxy"),
			CredentialFiles: &deploy.CredentialFiles{Username: "user", Password: "/run/secrets/password"},
			CertFiles:       &deploy.CertFiles{CA: "ca.pem", Cert: "client.pem", Key: "client.key"},
			Verify: &deploy.Verify{
				Provider: deploy.VerifyCosign, SecretRef: secret("keys"), Keys: []string{"/etc/towline/a.pub", "b.pub"},
				MatchOIDCIdentity: []deploy.OIDCIdentity{
					{Issuer: `^https://issuer\.example\.com$`, Subject: `^ops@example\.com$`}, {Issuer: `^https://other\.example\.com$`, Subject: ".*"},
				},
				TrustedRootSecretRef: secret("root"),
			},
		},
		"token": {
			URL: "oci://registry.example.com/app", Interval: minute, Timeout: &minute, Ref: latest, LayerSelector: extract, Provider: deploy.ProviderGeneric,
			CredentialFiles: &deploy.CredentialFiles{Token: "token"}, CertSecretRef: secret("tls"),
			Verify: &deploy.Verify{Provider: deploy.VerifyNotation, SecretRef: secret("notation")},
		},
		"docker": {
			URL: "oci://registry.example.com/app", Interval: minute, Timeout: &minute, Ref: latest, LayerSelector: extract, Provider: deploy.ProviderGeneric,
			Platform: "wasi/wasm", Ignore: &empty,
			CredentialFiles: &deploy.CredentialFiles{DockerConfig: "/etc/towline/docker.json"}, CertFiles: &deploy.CertFiles{CA: "ca.pem"},
			Verify: &deploy.Verify{Provider: deploy.VerifyNotation, TrustPolicy: "trustpolicy.json", Certificates: []string{"ca.crt", "other.crt"}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

func TestExampleIsLoadedWithDefaults(t *testing.T) {
	got := must(t, examplePath)
	source := func(name string) deploy.Name {
		return deploy.Name{Kind: deploy.KindSource, Namespace: "towline-system", Name: name}
	}
	app := deploy.Name{Kind: deploy.KindKustomization, Namespace: "towline-system", Name: "podinfo"}
	ten, five, one := metav1.Duration{Duration: 10 * time.Minute}, metav1.Duration{Duration: 5 * time.Minute}, metav1.Duration{Duration: time.Minute}
	history, yes := 5, true
	want := &Config{
		Namespace: "towline-system",
		Sources: []deploy.Source{
			{Name: source("podinfo"), Interval: 10 * time.Minute, Timeout: time.Minute, Spec: deploy.SourceSpec{
				URL: "oci://ghcr.io/stefanprodan/manifests/podinfo", Ref: &deploy.Ref{Tag: "latest"}, Interval: ten, Timeout: &one,
				LayerSelector: &deploy.LayerSelector{Operation: deploy.OperationExtract}, Provider: deploy.ProviderGeneric,
			}},
			{Name: source("podinfo-chart"), Interval: 10 * time.Minute, Timeout: time.Minute, Spec: deploy.SourceSpec{
				URL: "oci://ghcr.io/stefanprodan/charts/podinfo", Ref: &deploy.Ref{Semver: ">=6.9.0"}, Interval: ten, Timeout: &one,
				LayerSelector: &deploy.LayerSelector{MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Operation: deploy.OperationCopy},
				Provider:      deploy.ProviderGeneric,
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
					Values:  deploy.Values(`{"replicaCount":2}`),
					Install: &deploy.Install{Timeout: &five, CreateNamespace: true, CRDs: deploy.CRDsCreate, Replace: &yes},
					Upgrade: &deploy.Upgrade{Timeout: &five, CRDs: deploy.CRDsSkip}, Rollback: &deploy.Rollback{Timeout: &five},
					Uninstall: &deploy.Uninstall{Timeout: &five, DeletionPropagation: deploy.PropagationBackground},
					Test:      &deploy.Test{Timeout: &five}, DriftDetection: &deploy.DriftDetection{Mode: deploy.DriftDisabled},
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
