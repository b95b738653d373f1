package deploy_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
)

func TestSelector(t *testing.T) {
	t.Parallel()
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": "web-1", "namespace": "shop", "labels": map[string]any{"app": "web"}, "annotations": map[string]any{"team": "a"}},
	}}
	for name, c := range map[string]struct {
		s    *deploy.Selector
		want bool
	}{
		"none chooses everything":                   {nil, true},
		"an empty one chooses everything":           {&deploy.Selector{}, true},
		"all that is said has to be so":             {&deploy.Selector{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "shop", Name: "web-1"}, true},
		"an expression matches":                     {&deploy.Selector{Name: "web-.*", Kind: "Deployment|StatefulSet"}, true},
		"an expression has to match the whole text": {&deploy.Selector{Name: "web"}, false},
		"an alternative does so too":                {&deploy.Selector{Kind: "Dep|Service"}, false},
		"labels match":                              {&deploy.Selector{LabelSelector: "app=web,tier!=cache"}, true},
		"labels do not match":                       {&deploy.Selector{LabelSelector: "app=db"}, false},
		"annotations match":                         {&deploy.Selector{AnnotationSelector: "team in (a, b)"}, true},
		"annotations do not match":                  {&deploy.Selector{AnnotationSelector: "team=c"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := c.s.Matcher()
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Matches(u); got != c.want {
				t.Fatalf("got %v, want %v", got, c.want)
			}
		})
	}
	for field, s := range map[string]*deploy.Selector{"kind": {Kind: "("}, "labelSelector": {LabelSelector: "a in"}, "annotationSelector": {AnnotationSelector: "a in"}} {
		t.Run("a mistake is named: "+field, func(t *testing.T) {
			t.Parallel()
			if _, err := s.Matcher(); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
				t.Fatalf("got %v", err)
			}
		})
	}
}
