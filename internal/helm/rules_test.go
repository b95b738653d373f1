package helm

import (
	"context"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/towline/towline/internal/deploy"
)

func TestRules(t *testing.T) {
	t.Parallel()
	target := deploy.Target{HelmRelease: &deploy.HelmReleaseSpec{HealthCheckExprs: []deploy.HealthCheckExpr{
		{APIVersion: "example.org/v1", Kind: "Ship", Current: "status.phase == 'Afloat'", Failed: "status.phase == 'Sunk'", InProgress: "status.phase == 'Building'"},
		{APIVersion: "v1", Kind: "ConfigMap", Current: "has(data.done)"},
	}}}
	r, err := rulesOf(target)
	if err != nil {
		t.Fatal(err)
	}
	ship := func(rest string) string {
		return "{apiVersion: example.org/v1, kind: Ship, metadata: {name: a}, " + rest + "}"
	}
	boat := func(conditions string) string {
		return "{apiVersion: example.org/v1, kind: Boat, metadata: {name: a, generation: 2}, status: {observedGeneration: 2, conditions: [" + conditions + "]}}"
	}
	for _, tc := range []struct {
		name, object string
		ready, fails bool
		says         string
	}{
		{"an expression says that it is ready", ship("status: {phase: Afloat}"), true, false, ""},
		{"an expression says that it failed", ship("status: {phase: Sunk}"), false, true, "by its healthCheckExprs"},
		{"an expression says that it goes on", ship("status: {phase: Building}"), false, false, "in progress"},
		{"none of the expressions is true", ship("status: {phase: Unknown}"), false, false, "none of its healthCheckExprs"},
		{"an object without status is in progress", ship("spec: {}"), false, false, ""},
		{"expressions of another version do not judge", strings.Replace(ship("status: {phase: Afloat}"), "/v1", "/v2", 1), false, false, "are for version v1"},
		{"an expression goes before Helm's own rule", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {}}", false, false, ""},
		{"a custom resource that is ready", boat("{type: Ready, status: 'True'}"), true, false, ""},
		{"a custom resource that is not ready yet", boat("{type: Ready, status: 'False', reason: Rigging, message: rigging}"), false, false, "rigging"},
		{"a custom resource whose controller gave up", boat("{type: Stalled, status: 'True', reason: NoWood, message: no wood}"), false, true, "no wood"},
		{"a custom resource without status", "{apiVersion: example.org/v1, kind: Boat, metadata: {name: a}}", true, false, ""},
		{"a kind of Kubernetes that only has to exist", "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: a, generation: 2}}", true, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := r.judge(object(t, tc.object), true)
			if got.ready != tc.ready || got.failed != tc.fails || !strings.Contains(got.detail, tc.says) {
				t.Errorf("verdict %+v", got)
			}
		})
	}
	t.Run("what is being deleted is not ready, whatever an expression says", func(t *testing.T) {
		u := object(t, ship("status: {phase: Afloat}"))
		now := metav1.Now()
		u.SetDeletionTimestamp(&now)
		wantEqual(t, "verdict", r.judge(u, true), unready(beingDeleted))
		u.SetKind("Boat")
		wantEqual(t, "verdict of kstatus", r.judge(u, true).ready, false)
	})
	t.Run("a wrong expression names its kind", func(t *testing.T) {
		target.HelmRelease.HealthCheckExprs[0].Current = "status."
		if _, err := rulesOf(target); err == nil || !strings.Contains(err.Error(), "healthCheckExprs of Ship.example.org") {
			t.Errorf("error %v", err)
		}
	})
}

const shipCRD = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ships.GROUP}
spec:
  group: GROUP
  names: {kind: Ship, plural: ships, singular: ship}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

func TestWaitingForCustomResources(t *testing.T) {
	e := newEnv(t)
	group := strings.ReplaceAll(e.ns, "-", "") + ".ships.example.org"
	client := dynamic.NewForConfigOrDie(e.config)
	t.Cleanup(func() {
		crds := client.Resource(apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions"))
		if err := crds.Delete(context.Background(), "ships."+group, metav1.DeleteOptions{}); err != nil {
			t.Log(err)
		}
	})
	ships := client.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "ships"}).Namespace(e.ns)
	chart := func(version, spec string) deploy.Revision {
		return e.revision(plain(version, map[string]string{
			"../crds/ship": strings.ReplaceAll(shipCRD, "GROUP", group),
			"ship":         "apiVersion: " + group + "/v1\nkind: Ship\nmetadata: {name: ship}\nspec: " + spec + "\n",
		}))
	}
	// bring applies a chart while status is what a controller says once the object is there.
	bring := func(t *testing.T, target deploy.Target, r deploy.Revision, status ...string) error {
		t.Helper()
		ended := make(chan error, 1)
		go func() {
			_, err := e.run(t.Context(), target, r, false)
			ended <- err
		}()
		for _, s := range status {
			deadline := time.Now().Add(limit)
			for {
				_, err := ships.Patch(t.Context(), "ship", types.MergePatchType, []byte(`{"status":`+s+`}`), metav1.PatchOptions{}, "status")
				if err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Millisecond)
			}
			select {
			case err := <-ended:
				return err
			case <-time.After(300 * time.Millisecond):
			}
		}
		select {
		case err := <-ended:
			return err
		case <-time.After(limit):
			t.Fatal("it does not end")
			return nil
		}
	}
	judged := e.target("", func(s *deploy.HelmReleaseSpec) {
		s.HealthCheckExprs = []deploy.HealthCheckExpr{{
			APIVersion: group + "/v1", Kind: "Ship", Current: "status.sailing", Failed: "has(status.wreck)",
		}}
	})
	t.Run("an installation ends when the expression is true", func(t *testing.T) {
		if err := bring(t, judged, chart("1.0.0", "{a: 1}"), `{"sailing":false}`, `{"sailing":true}`); err != nil {
			t.Fatal(err)
		}
		live, err := e.engine.Objects(t.Context(), judged)
		e.must(err)
		wantEqual(t, "health in the tree", live[0].Health, healthCurrent)
	})
	t.Run("an upgrade fails at once when the expression says so", func(t *testing.T) {
		err := bring(t, judged, chart("1.1.0", "{a: 2}"), `{"sailing":false,"wreck":"reef"}`)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "it failed, by its healthCheckExprs")
	})
	t.Run("without expressions the conditions count", func(t *testing.T) {
		err := bring(t, e.target(""), chart("1.2.0", "{a: 3}"), `{"conditions":[{"type":"Ready","status":"False"}]}`, `{"conditions":[{"type":"Ready","status":"True"}]}`)
		if err != nil {
			t.Fatal(err)
		}
	})
}
