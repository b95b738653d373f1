package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

const allReleaseFields = "testdata/all-helmrelease-fields.good.yaml"

func TestEveryFieldOfAHelmReleaseIsRead(t *testing.T) {
	got := targetOf(t, must(t, allReleaseFields), "every").HelmRelease
	for _, path := range neverSet(nil, "", reflect.ValueOf(*got)) {
		t.Errorf("%s sets no %s, or it was not read", allReleaseFields, path)
	}
}

// neverSet are the fields that none of the values has, which are items of one list.
func neverSet(found []string, path string, values ...reflect.Value) []string {
	var items []reflect.Value
	for _, v := range values {
		switch {
		case v.IsZero():
		case v.Kind() == reflect.Pointer:
			items = append(items, v.Elem())
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
			for i := range v.Len() {
				items = append(items, v.Index(i))
			}
		default:
			items = append(items, v)
		}
	}
	if len(items) == 0 {
		return append(found, path)
	}
	typ := items[0].Type()
	if typ.Kind() != reflect.Struct || isScalar(typ) || inOtherTests[typ] {
		return found
	}
	for f := range typ.Fields() {
		var below []reflect.Value
		for _, v := range items {
			below = append(below, v.FieldByIndex(f.Index))
		}
		found = neverSet(found, strings.TrimPrefix(path+"."+f.Name, "."), below...)
	}
	return found
}

// inOtherTests are types that Kustomizations have too.
var inOtherTests = map[reflect.Type]bool{
	reflect.TypeFor[deploy.Selector](): true, reflect.TypeFor[deploy.KubeConfig](): true, reflect.TypeFor[deploy.Image](): true, reflect.TypeFor[deploy.DependsOn](): true,
	reflect.TypeFor[deploy.HealthCheckExpr](): true,
}

func TestDefaultsOfAHelmRelease(t *testing.T) {
	c := must(t, allReleaseFields)
	ten := &metav1.Duration{Duration: 10 * time.Minute}
	yes, no := true, false
	t.Run("name the key of objects, not of files", func(t *testing.T) {
		var keys []string
		for _, from := range targetOf(t, c, "every").HelmRelease.ValuesFrom {
			keys = append(keys, from.ValuesKey)
		}
		if diff := cmp.Diff([]string{"values.yaml", "other.yaml", "password", "password", "", ""}, keys); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("keep what was written", func(t *testing.T) {
		h := targetOf(t, c, "every").HelmRelease
		if *h.Install.Replace || *h.Upgrade.Remediation.RemediateLastFailure || *h.Upgrade.Remediation.IgnoreTestFailures || h.DriftDetection.Mode != deploy.DriftWarn {
			t.Errorf("defaults went over %+v", h)
		}
	})
	t.Run("of remediation follow the tests and the retries", func(t *testing.T) {
		h := targetOf(t, c, "remedied").HelmRelease
		if diff := cmp.Diff(&deploy.InstallRemediation{Retries: 2, IgnoreTestFailures: &yes, RemediateLastFailure: &no}, h.Install.Remediation); diff != "" {
			t.Errorf("install (-want +got):\n%s", diff)
		}
		want := &deploy.UpgradeRemediation{Retries: 2, Strategy: deploy.RemediateRollback, IgnoreTestFailures: &yes, RemediateLastFailure: &yes}
		if diff := cmp.Diff(want, h.Upgrade.Remediation); diff != "" {
			t.Errorf("upgrade (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(&deploy.Strategy{Name: deploy.StrategyRetry, RetryInterval: ten}, h.Upgrade.Strategy); diff != "" {
			t.Errorf("strategy (-want +got):\n%s", diff)
		}
		if once := targetOf(t, c, "once").HelmRelease.Upgrade.Remediation; *once.RemediateLastFailure {
			t.Error("without retries the last failure is undone")
		}
	})
	t.Run("say nothing of failures where nothing was said", func(t *testing.T) {
		h := targetOf(t, c, "crds").HelmRelease
		if h.Install.Remediation != nil || h.Install.Strategy != nil || h.Upgrade.Remediation != nil || h.Upgrade.Strategy != nil {
			t.Errorf("install %+v, upgrade %+v", h.Install, h.Upgrade)
		}
	})
}

func TestTargetPaths(t *testing.T) {
	for path, good := range map[string]bool{
		"a": true, "a.b.c": true, "a[0]": true, "a[0][1].b": true, `a\.b.c`: true, `a\\b`: true, "a/b-c_d": true, "annotations.example\\.com/x": true, "ä:b": true,
		"": false, ".": false, ".a": false, "a.": false, "a..b": false, "a[": false, "a[]": false, "a[x]": false, "a[-1]": false, "a[0]b": false, "[0]": false, "a]": false,
		"a[65536]": true, "a[65537]": false, "a[99999999999999999999]": false, `a\`: false, "a=b": false, "a,b": false, "{a}": false, "a b": false, "a\nb": false,
	} {
		if why := notTargetPath(path); (why == "") != good {
			t.Errorf("%q: %q, want it to be good: %t", path, why, good)
		}
	}
}
