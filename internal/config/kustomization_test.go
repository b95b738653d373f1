package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towline/towline/internal/deploy"
)

const allFields = "testdata/all-kustomization-fields.good.yaml"

// targetOf is the target of that name in a config.
func targetOf(t *testing.T, c *Config, name string) deploy.Target {
	t.Helper()
	for _, target := range c.Targets {
		if target.Name.Name == name {
			return target
		}
	}
	t.Fatalf("there is no target %s", name)
	return deploy.Target{}
}

func TestEveryFieldOfAKustomizationIsRead(t *testing.T) {
	got := targetOf(t, must(t, allFields), "every").Kustomization
	v := reflect.ValueOf(*got)
	for f := range v.Type().Fields() {
		if v.FieldByIndex(f.Index).IsZero() {
			t.Errorf("%s sets %s, and it was not read", allFields, f.Name)
		}
	}
	share := intstr.FromString("30%")
	want := deploy.KustomizationSpec{
		PruneLimit: &share,
		HealthChecks: []deploy.HealthCheck{
			{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", Namespace: "default"}, {APIVersion: "v1", Kind: "Namespace", Name: "default"},
			{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Name: "system:Node_1"}, {APIVersion: "example.com/v1beta1", Kind: "Database", Name: "orders"},
		},
		HealthCheckExprs: []deploy.HealthCheckExpr{
			{
				APIVersion: "example.com/v1", Kind: "Database", InProgress: "status.phase in ['Creating', 'Restoring']", Failed: "has(status.error)",
				Current: "status.phase == 'Running' &&\n  status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')\n",
			},
			{APIVersion: "example.org/v1", Kind: "Database", Current: "status.ready"},
		},
		Ignore: []deploy.IgnoreRule{
			{Paths: []string{"/spec/replicas"}, Target: &deploy.Selector{
				Group: "apps", Version: "v1", Kind: "Deployment|StatefulSet", Namespace: "default", Name: "web-.*", LabelSelector: "app=web", AnnotationSelector: "a=b",
			}},
			{Paths: []string{"/metadata/annotations/example.com~1note", "/metadata/labels", "/spec/template/spec/containers/0/image", "/data/a~0b"}, Target: &deploy.Selector{}},
			{Paths: []string{"/status"}},
		},
		DriftDetection: &deploy.DriftDetection{Mode: deploy.DriftWarn, Ignore: []deploy.IgnoreRule{{Paths: []string{"/spec/paused"}}}},
		Rollback:       &deploy.RollbackPolicy{OnFailure: deploy.OnFailureLastGood, Group: "web"},
		KubeConfig:     &deploy.KubeConfig{SecretRef: &deploy.SecretKeyRef{Name: "edge", Key: "kube.config"}, Context: "edge"},
		Components:     []string{"../../components/tls", "nested/one", "../edge-extra"},
		PostBuild: &deploy.PostBuild{
			Substitute: map[string]string{"_region": "eu-west", "PORT2": "8080", "empty": ""},
			SubstituteFrom: []deploy.SubstituteFrom{
				{Kind: "ConfigMap", Name: "settings"}, {Kind: "Secret", Name: "settings", Optional: true}, {File: "/etc/towline/site.env", Optional: true}, {File: "/etc/towline/site.yaml"},
			},
			SubstituteStrategy: deploy.SubstituteAlways,
		},
		Decryption: &deploy.Decryption{Provider: deploy.DecryptionSOPS, SecretRef: &deploy.LocalRef{Name: "sops-keys"}, Keys: []string{"/etc/towline/site.agekey", "/etc/towline/team.asc"}},
	}
	w := reflect.ValueOf(want)
	for f := range w.Type().Fields() {
		field := w.FieldByIndex(f.Index)
		if field.IsZero() {
			continue
		}
		if diff := cmp.Diff(field.Interface(), v.FieldByIndex(f.Index).Interface()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.Name, diff)
		}
	}
}

func TestVariablesAreReplacedWithVariablesByDefault(t *testing.T) {
	c := must(t, allFields)
	if got := targetOf(t, c, "little").Kustomization.PostBuild.SubstituteStrategy; got != deploy.SubstituteWithVariables {
		t.Errorf("the strategy is %q", got)
	}
	if got := targetOf(t, c, "crds").Kustomization.PostBuild; got != nil {
		t.Errorf("a kustomization without postBuild got one: %+v", got)
	}
}

func TestPruneLimitKeepsWhatWasWritten(t *testing.T) {
	c := must(t, allFields)
	zero, twenty, all := intstr.FromInt32(0), intstr.FromInt32(20), intstr.FromString("100%")
	for name, want := range map[string]*intstr.IntOrString{"little": &zero, "counted": &twenty, "quoted": &all, "crds": nil} {
		if diff := cmp.Diff(want, targetOf(t, c, name).Kustomization.PruneLimit); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestReadyExprsAreThoseOfTheResolvedNames(t *testing.T) {
	c := must(t, allFields)
	own := func(kind deploy.Kind, name string) deploy.Name {
		return deploy.Name{Kind: kind, Namespace: "towline-system", Name: name}
	}
	for name, want := range map[string]map[deploy.Name]string{
		"every":  {own(deploy.KindKustomization, "crds"): "dep.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True') && self.metadata.name != ''"},
		"little": {own(deploy.KindHelmRelease, "chart"): "dep.status.observedGeneration == dep.metadata.generation"},
		"chart":  {own(deploy.KindKustomization, "infra"): "has(dep.status.lastAppliedRevision)"},
		"infra":  nil,
	} {
		if diff := cmp.Diff(want, targetOf(t, c, name).ReadyExprs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestHashOfATargetIsThatOfItsEntry changes the entry one text at a time.
func TestHashOfATargetIsThatOfItsEntry(t *testing.T) {
	content, err := os.ReadFile(allFields)
	if err != nil {
		t.Fatal(err)
	}
	hash := func(t *testing.T, text, name string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return targetOf(t, must(t, path), name).Hash
	}
	before := hash(t, string(content), "every")
	for _, change := range []struct {
		name, from, to string
		same           bool
	}{
		{name: "changes with pruneLimit", from: "pruneLimit: 30%", to: "pruneLimit: 31%"},
		{name: "changes from a share to a count", from: "pruneLimit: 30%", to: "pruneLimit: 30"},
		{name: "changes with allowMassPrune", from: "allowMassPrune: sha256:0", to: "allowMassPrune: sha256:1"},
		{name: "changes with deletionPolicy", from: "WaitForTermination", to: "Orphan"},
		{name: "changes with healthChecks", from: "kind: Namespace, name: default", to: "kind: Namespace, name: other"},
		{name: "changes with healthCheckExprs", from: "current: status.ready}", to: "current: '!status.ready'}"},
		{name: "changes with readyExpr", from: "&& self.metadata.name != ''", to: "&& self.metadata.name == ''"},
		{name: "changes with force", from: "    force: true", to: "    force: false"},
		{name: "changes with ignore", from: "/data/a~0b", to: "/data/a~1b"},
		{name: "changes with serviceAccountName", from: "serviceAccountName: deployer", to: "serviceAccountName: other"},
		{name: "changes with kubeConfig", from: "context: edge}", to: "context: core}"},
		{name: "changes with components", from: "nested/one", to: "nested/two"},
		{name: "changes with the order of components", from: "nested/one, ../edge-extra", to: "../edge-extra, nested/one"},
		{name: "changes with ignoreMissingComponents", from: "ignoreMissingComponents: true\n    patches", to: "ignoreMissingComponents: false\n    patches"},
		{name: "changes with a variable", from: `PORT2: "8080"`, to: `PORT2: "8081"`},
		{name: "changes with a source of variables", from: "{kind: ConfigMap, name: settings}", to: "{kind: ConfigMap, name: others}"},
		{name: "changes with substituteStrategy", from: "Strategy: Always", to: "Strategy: WithVariables"},
		{name: "changes with decryption", from: "team.asc", to: "ops.asc"},
		{name: "stays with the order of the variables", from: `{_region: eu-west, PORT2: "8080", empty: ""}`, to: `{empty: "", PORT2: "8080", _region: eu-west}`, same: true},
		{name: "stays with the spelling of a dependency", from: "      - infra\n", to: "      - kustomization/towline-system/infra\n", same: true},
		{name: "stays with the spelling of a share", from: "pruneLimit: 30%", to: `pruneLimit: "30%"`, same: true},
		{name: "stays with another target", from: "name: quoted", to: "name: renamed", same: true},
	} {
		t.Run(change.name, func(t *testing.T) {
			if strings.Count(string(content), change.from) != 1 {
				t.Fatalf("%s has %q %d times", allFields, change.from, strings.Count(string(content), change.from))
			}
			after := hash(t, strings.Replace(string(content), change.from, change.to, 1), "every")
			if same := after == before; same != change.same {
				t.Errorf("the hash is the same: %t, want %t", same, change.same)
			}
		})
	}
}
