package deploy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRelease(t *testing.T) {
	for _, tc := range []struct {
		name string
		spec HelmReleaseSpec
		want ReleaseID
	}{
		{"is named like the entry", HelmReleaseSpec{}, ReleaseID{"app", "ns", "ns"}},
		{"has the target namespace before its name", HelmReleaseSpec{TargetNamespace: "prod"}, ReleaseID{"prod-app", "prod", "ns"}},
		{"has the name that it is given", HelmReleaseSpec{TargetNamespace: "prod", ReleaseName: "web", StorageNamespace: "store"}, ReleaseID{"web", "prod", "store"}},
		{"is shortened where Helm would refuse it", HelmReleaseSpec{ReleaseName: strings.Repeat("a", 54)}, ReleaseID{strings.Repeat("a", 40) + "-a3f01b693925", "ns", "ns"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Target{Name: Name{Kind: KindHelmRelease, Namespace: "ns", Name: "app"}, HelmRelease: &tc.spec}.Release()
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
