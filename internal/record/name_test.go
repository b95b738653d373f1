package record

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
)

func TestObjectName(t *testing.T) {
	long := strings.Repeat("x", 63)
	names := []deploy.Name{
		{Kind: deploy.KindKustomization, Namespace: "a", Name: "b"},
		{Kind: deploy.KindHelmRelease, Namespace: "a", Name: "b"},
		{Kind: deploy.KindKustomization, Namespace: "a-b", Name: "c"},
		{Kind: deploy.KindKustomization, Namespace: "a", Name: "b-c"},
		{Kind: deploy.KindKustomization, Namespace: "a.b", Name: "c"},
		{Kind: deploy.KindKustomization, Namespace: "a", Name: "b.c"},
		{Kind: deploy.KindKustomization, Namespace: "a", Name: "B"},
		{Kind: deploy.KindKustomization, Namespace: "a", Name: "b_"},
		{Kind: deploy.KindKustomization, Namespace: "", Name: "b"},
		{Kind: deploy.KindKustomization, Namespace: long, Name: long},
		{Kind: deploy.KindKustomization, Namespace: long, Name: long + "y"},
		{Kind: deploy.KindKustomization, Namespace: long, Name: strings.Repeat("z", 300)},
	}
	seen := map[string]deploy.Name{}
	for _, n := range names {
		got := objectName(n)
		t.Run("is valid for "+n.Name, func(t *testing.T) {
			if wrong := validation.IsDNS1123Subdomain(got); len(wrong) > 0 {
				t.Errorf("%s: %v", got, wrong)
			}
		})
		if before, ok := seen[got]; ok {
			t.Errorf("%s and %s are both %s", before, n, got)
		}
		seen[got] = n
	}
}
