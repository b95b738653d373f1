package applier

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
)

// TestJudgeElsewhere is about another cluster than the one that the agent's state is in.
func TestJudgeElsewhere(t *testing.T) {
	i := infoOf("towline-system", deploy.Name{Kind: deploy.KindKustomization, Namespace: "apps", Name: "web"})
	i.cluster = "file /remote"
	object := func(kind, namespace, name, prune string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind}}
		u.SetNamespace(namespace)
		u.SetName(name)
		u.SetAnnotations(map[string]string{"config.k8s.io/owning-inventory": i.id, annotationPrune: prune})
		return u
	}
	for _, c := range []struct {
		name string
		live *unstructured.Unstructured
		want fate
	}{
		{"a namespace of the name of the agent's may go where it says so", object("Namespace", "", "towline-system", pruneEnabled), fateDelete},
		{"and stays where it does not", object("Namespace", "", "towline-system", ""), fateKeep},
		{"what has the name of an inventory is none there", object("ConfigMap", "towline-system", namePrefix+"x", ""), fateDelete},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, why := judge(c.live, i, "1", true); got != c.want {
				t.Fatalf("want %d, got %d: %s", c.want, got, why)
			}
		})
	}
}
