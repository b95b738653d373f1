package helm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// drifting is a chart with what servers like to write in another way: quantities, stringData, defaults, ports without a target.
func drifting() map[string]string {
	return map[string]string{
		"deployment": `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {a: b}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: a, image: "example.org/a:1", args: [one, two], resources: {requests: {cpu: 1000m, memory: "1073741824"}}, env: [{name: A, value: "1"}]}
      - {name: b, image: "example.org/b:1"}
`,
		"service": "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80, name: web}, {port: 81, name: more}]}\n",
		"map":     "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map, annotations: {a: b}}\ndata: {left.alone: x, a: b, empty: \"\"}\n",
		"secret":  "apiVersion: v1\nkind: Secret\nmetadata: {name: secret}\nstringData: {a: b}\n",
		"role":    "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: role}\nrules: [{apiGroups: [\"\"], resources: [pods], verbs: [get]}]\n",
		"job": "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once}\nspec: {ttlSecondsAfterFinished: 0, template: {spec: {restartPolicy: Never, terminationGracePeriodSeconds: 0, " +
			"containers: [{name: a, image: \"example.org/a:1\"}]}}}\n",
		"spare": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: spare, annotations: {helm.toolkit.fluxcd.io/driftDetection: disabled}}\ndata: {a: b}\n",
	}
}

func TestDrift(t *testing.T) {
	e := newEnv(t)
	target := e.target("", func(s *deploy.HelmReleaseSpec) {
		s.Install = &deploy.Install{DisableWaitForJobs: true}
		s.DriftDetection = &deploy.DriftDetection{Mode: deploy.DriftEnabled, Ignore: []deploy.IgnoreRule{
			{Paths: []string{"/spec/replicas"}, Target: &deploy.Selector{Kind: "Deployment"}}, {Paths: []string{"/data/left.alone", "/metadata/labels/gone"}},
		}}
	})
	e.bring(target, e.revision(plain("1.0.0", drifting())))
	known := newSameness()
	look := func(t *testing.T) []deviation {
		t.Helper()
		var out []deviation
		e.must(e.operateOn(t.Context(), target, limit, func(op *operation) (err error) {
			out, err = op.drift(target, 1, known, nil)
			return err
		}))
		return out
	}
	said := func(found []deviation) (out []string) {
		for _, d := range found {
			c := d.change()
			out = append(out, string(c.Action)+" "+c.Object.Kind+"/"+c.Object.Name+" "+strings.Join(c.Fields, " ")+": "+c.Reason)
		}
		return out
	}
	want := func(t *testing.T, expected ...string) {
		t.Helper()
		if d := cmp.Diff(expected, said(look(t))); d != "" {
			t.Errorf("deviations (-want +got):\n%s", d)
		}
	}
	patch := func(t *testing.T, path string, kind types.PatchType, body string) {
		t.Helper()
		err := e.set.RESTClient().Patch(kind).AbsPath(path).Param("fieldManager", "somebody").Body([]byte(body)).Do(t.Context()).Error()
		if err != nil {
			t.Fatalf("patch %s: %v", path, err)
		}
	}
	core, apps := "/api/v1/namespaces/"+e.ns, "/apis/apps/v1/namespaces/"+e.ns
	repair := func(t *testing.T) {
		t.Helper()
		e.must(e.operateOn(t.Context(), target, limit, func(op *operation) error {
			found, err := op.drift(target, 1, known, nil)
			if err != nil {
				return err
			}
			_, err = op.repair(found)
			return err
		}))
		want(t)
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	}

	t.Run("nothing has drifted, though the server writes quantities in its own way", func(t *testing.T) {
		want(t)
		e.counter.take()
		want(t)
		if got := writes(e.counter.take()); len(got) > 0 {
			t.Errorf("writes, dry ones among them, at the second look: %v", got)
		}
	})
	t.Run("what others add is none", func(t *testing.T) {
		patch(t, core+"/configmaps/map", types.MergePatchType, `{"data":{"theirs":"x"},"metadata":{"labels":{"theirs":"x"}}}`)
		patch(t, apps+"/deployments/web", types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"sidecar","image":"example.org/s:1"}]}}}}`)
		want(t)
	})
	t.Run("what is ignored or says so is none", func(t *testing.T) {
		patch(t, apps+"/deployments/web", types.MergePatchType, `{"spec":{"replicas":0}}`)
		patch(t, core+"/configmaps/map", types.MergePatchType, `{"data":{"left.alone":"theirs"}}`)
		patch(t, core+"/configmaps/spare", types.MergePatchType, `{"data":{"a":"theirs"}}`)
		want(t)
	})
	t.Run("edits are found, with who made them, and repaired without a revision", func(t *testing.T) {
		patch(t, core+"/configmaps/map", types.MergePatchType, `{"data":{"a":"theirs","empty":null},"metadata":{"annotations":{"a":null}}}`)
		patch(t, core+"/secrets/secret", types.MergePatchType, `{"stringData":{"a":"theirs"}}`)
		patch(t, core+"/services/web", types.StrategicMergePatchType, `{"spec":{"selector":{"app":"other"}}}`)
		patch(t, apps+"/deployments/web", types.StrategicMergePatchType, `{"metadata":{"labels":{"towline.dev/target":"x"}},"spec":{"template":{"spec":{"containers":[{"name":"b","image":"example.org/theirs:1"}]}}}}`)
		patch(t, "/apis/rbac.authorization.k8s.io/v1/namespaces/"+e.ns+"/roles/role", types.MergePatchType, `{"rules":[]}`)
		want(t,
			`update Secret/secret data.a: it was changed by "somebody"`,
			`update ConfigMap/map data.a data.empty metadata.annotations.a: it was changed by "somebody"`,
			`update Role/role rules: it was changed by "somebody"`,
			`update Service/web spec.selector.app: it was changed by "somebody"`,
			`update Deployment/web metadata.labels["towline.dev/target"] spec.template.spec.containers[2].image: it was changed by "somebody"`,
		)
		e.counter.take()
		e.must(e.operateOn(t.Context(), target, limit, func(op *operation) error {
			found, err := op.drift(target, 1, known, []deploy.ObjectID{{Kind: "Secret", Namespace: e.ns, Name: "secret"}})
			if d := cmp.Diff([]string{`update Secret/secret data.a: it was changed by "somebody"`}, said(found)); d != "" {
				t.Errorf("deviations of one object (-want +got):\n%s", d)
			}
			return err
		}))
		for _, r := range e.counter.take() {
			if strings.Contains(r, "/configmaps/") || strings.Contains(r, "/deployments/") {
				t.Errorf("it looked at another object: %s", r)
			}
		}
		repair(t)
		d := e.deployment("web")
		wantEqual(t, "image", d.Spec.Template.Spec.Containers[2].Image, "example.org/b:1")
		wantEqual(t, "replicas", *d.Spec.Replicas, 0)
	})
	t.Run("what is gone comes back, but for what goes by itself", func(t *testing.T) {
		e.must(e.set.CoreV1().ConfigMaps(e.ns).Delete(t.Context(), "map", metav1.DeleteOptions{}))
		e.must(e.set.CoreV1().Services(e.ns).Delete(t.Context(), "web", metav1.DeleteOptions{}))
		want(t, "create ConfigMap/map : it is gone", "create Service/web : it is gone")
		repair(t)
		cm, err := e.set.CoreV1().ConfigMaps(e.ns).Get(t.Context(), "map", metav1.GetOptions{})
		e.must(err)
		wantEqual(t, "release", cm.Annotations[annotationRelease], "web")
	})
	t.Run("one that cannot be repaired does not keep the others from it", func(t *testing.T) {
		frozen := true
		cm, err := e.set.CoreV1().ConfigMaps(e.ns).Get(t.Context(), "map", metav1.GetOptions{})
		e.must(err)
		cm.Data["a"], cm.Immutable = "theirs", &frozen
		_, err = e.set.CoreV1().ConfigMaps(e.ns).Update(t.Context(), cm, metav1.UpdateOptions{})
		e.must(err)
		patch(t, core+"/services/web", types.StrategicMergePatchType, `{"spec":{"selector":{"app":"other"}}}`)
		var changes []deploy.Change
		err = e.operateOn(t.Context(), target, limit, func(op *operation) error {
			found, err := op.drift(target, 1, known, nil)
			if err != nil {
				return err
			}
			changes, err = op.repair(found)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "repair ConfigMap/"+e.ns+"/map: ") {
			t.Errorf("error %v", err)
		}
		if len(changes) != 2 || changes[0].Err == nil || changes[1].Err != nil {
			t.Errorf("changes %v", changes)
		}
	})
}

// TestDriftOfPolicies has a policy of the server that insists on a value: repairing it would go on for ever.
func TestDriftOfPolicies(t *testing.T) {
	e := newEnv(t)
	target := e.target("", func(s *deploy.HelmReleaseSpec) { s.DriftDetection = &deploy.DriftDetection{Mode: deploy.DriftEnabled} })
	e.bring(target, e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a"), "b": configMapNamed("b")})))
	known := newSameness()
	look := func() (out []string) {
		e.must(e.operateOn(t.Context(), target, limit, func(op *operation) error {
			found, err := op.drift(target, 1, known, nil)
			for _, d := range found {
				out = append(out, d.id.Name)
			}
			return err
		}))
		return out
	}
	e.insist()
	edit := func(name string) bool {
		cm, err := e.set.CoreV1().ConfigMaps(e.ns).Patch(t.Context(), name, types.MergePatchType, []byte(`{"data":{"touched":"yes"}}`), metav1.PatchOptions{})
		e.must(err)
		return cm.Data["a"] == "insisted"
	}
	for deadline := time.Now().Add(limit); !edit("a"); time.Sleep(50 * time.Millisecond) { // the server takes a moment to know the policy
		if time.Now().After(deadline) {
			t.Fatal("the policy is not in force")
		}
	}
	for range 2 {
		if got := look(); len(got) > 0 {
			t.Errorf("drift: %v", got)
		}
	}
	e.must(e.set.CoreV1().ConfigMaps(e.ns).Delete(t.Context(), "b", metav1.DeleteOptions{}))
	if got := look(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("drift: %v, want b", got)
	}
}

// TestDriftOfBusyObjects has somebody write to an object before every dry run.
func TestDriftOfBusyObjects(t *testing.T) {
	e := newEnv(t)
	target := e.target("", func(s *deploy.HelmReleaseSpec) { s.DriftDetection = &deploy.DriftDetection{Mode: deploy.DriftEnabled} })
	e.bring(target, e.revision(plain("1.0.0", map[string]string{"deployment": drifting()["deployment"]})))
	n := 0
	e.counter.on(func(method, path string) error {
		if n++; method != "PATCH" {
			return nil
		}
		body := fmt.Sprintf(`{"metadata":{"annotations":{"busy":"%d"}}}`, n)
		_, err := e.set.AppsV1().Deployments(e.ns).Patch(t.Context(), "web", types.MergePatchType, []byte(body), metav1.PatchOptions{})
		return err
	})
	look := func() (out string) {
		e.must(e.operateOn(t.Context(), target, limit, func(op *operation) error {
			found, err := op.drift(target, 1, newSameness(), nil)
			for _, d := range found {
				out += strings.Join(d.fields, " ")
			}
			return err
		}))
		return out
	}
	wantEqual(t, "drift of what only looks different", look(), "")
	edit := []byte(`{"spec":{"paused":true,"replicas":0}}`)
	_, err := e.set.AppsV1().Deployments(e.ns).Patch(t.Context(), "web", types.MergePatchType, edit, metav1.PatchOptions{})
	e.must(err)
	wantEqual(t, "drift", look(), "spec.replicas")
}

func TestDriftOfKindsThatAreGone(t *testing.T) {
	e := newEnv(t)
	group := e.ns + ".example.org"
	target := e.target("", func(s *deploy.HelmReleaseSpec) { s.DriftDetection = &deploy.DriftDetection{Mode: deploy.DriftEnabled} })
	r := e.revision(testenv.Chart("web", "1.0.0", map[string]string{
		"crds/widget.yaml": crd(group, "f"), "templates/a.yaml": configMapNamed("a"), "templates/w.yaml": "apiVersion: " + group + "/v1\nkind: Widget\nmetadata: {name: w}\nspec: {}\n",
	}))
	e.bring(target, r)
	dyn, err := dynamic.NewForConfig(e.config)
	e.must(err)
	e.must(dyn.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}).Delete(t.Context(), "widgets."+group, metav1.DeleteOptions{}))
	e.must(e.set.CoreV1().ConfigMaps(e.ns).Delete(t.Context(), "a", metav1.DeleteOptions{}))
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) { // the server takes a moment to forget the kind
		if lists, err := e.set.Discovery().ServerResourcesForGroupVersion(group + "/v1"); err != nil || len(lists.APIResources) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the kind is still there")
		}
	}
	e.restart()
	_, err = e.run(t.Context(), target, r, true)
	e.must(err)
	wantEqual(t, "what is left was repaired", e.configMaps(e.ns), "a")
	if _, err = e.run(t.Context(), target, r, true); err == nil || !strings.Contains(err.Error(), "Widget."+group+"/w is gone, and so is its kind") {
		t.Errorf("error %v", err)
	}
}

// insist makes the server set a value in every ConfigMap of the namespace that is written to.
func (e *env) insist() {
	e.Helper()
	name := "insist-" + e.ns
	policy := &admissionv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.MutatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
			}}}},
			MatchConditions:    []admissionv1.MatchCondition{{Name: "here", Expression: "object.metadata.namespace == '" + e.ns + "'"}},
			FailurePolicy:      new(admissionv1.Fail),
			ReinvocationPolicy: admissionv1.NeverReinvocationPolicy,
			Mutations: []admissionv1.Mutation{{
				PatchType:          admissionv1.PatchTypeApplyConfiguration,
				ApplyConfiguration: &admissionv1.ApplyConfiguration{Expression: "Object{data: {'a': 'insisted'}}"},
			}},
		},
	}
	api := e.set.AdmissionregistrationV1()
	_, err := api.MutatingAdmissionPolicies().Create(e.Context(), policy, metav1.CreateOptions{})
	e.must(err)
	_, err = api.MutatingAdmissionPolicyBindings().Create(e.Context(), &admissionv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: name},
	}, metav1.CreateOptions{})
	e.must(err)
	e.Cleanup(func() {
		for _, err := range []error{
			api.MutatingAdmissionPolicies().Delete(context.Background(), name, metav1.DeleteOptions{}),
			api.MutatingAdmissionPolicyBindings().Delete(context.Background(), name, metav1.DeleteOptions{}),
		} {
			if err != nil {
				e.Errorf("remove the policy: %v", err)
			}
		}
	})
}

func TestOwnsField(t *testing.T) {
	t.Parallel()
	var owned map[string]any
	text := `{"f:spec":{"f:replicas":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}}}}}},"f:metadata":{"f:annotations":{"f:example.org/a":{}}}}`
	if err := json.Unmarshal([]byte(text), &owned); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"spec.replicas": true, "spec.paused": false, "spec": true, "spec.template.spec.containers[0].image": true, "spec.template.spec.volumes": false,
		`metadata.annotations["example.org/a"]`: true, `metadata.annotations["example.org/b"]`: false, "": true, `metadata.annotations["`: false,
	} {
		wantEqual(t, path, ownsField(owned, path), want)
	}
}

func TestEncoded(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"{apiVersion: v1, kind: Secret, data: null, stringData: {a.b: x}}":             "{apiVersion: v1, kind: Secret, data: {a.b: eA==}}",
		"{apiVersion: v1, kind: Secret, data: {a: eQ==, c: eQ==}, stringData: {a: x}}": "{apiVersion: v1, kind: Secret, data: {a: eA==, c: eQ==}}",
		"{apiVersion: example.org/v1, kind: Secret, stringData: {a: x}}":               "{apiVersion: example.org/v1, kind: Secret, stringData: {a: x}}",
	} {
		if d := cmp.Diff(object(t, want).Object, encoded(object(t, in)).Object); d != "" {
			t.Errorf("%s (-want +got):\n%s", in, d)
		}
	}
}

func TestIgnoreLeaves(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ path, want, live, expected string }{
		"a field":                       {"/spec/replicas", "{spec: {replicas: 1, a: 1}}", "{spec: {replicas: 2, a: 2}}", "{spec: {replicas: 2, a: 1}}"},
		"one that is gone":              {"/spec/replicas", "{spec: {replicas: 1}}", "{spec: {}}", "{spec: {}}"},
		"one whose parent is gone":      {"/spec/a/b", "{spec: {a: {b: 1}}}", "{spec: {}}", "{spec: {a: {}}}"},
		"a key with a slash":            {"/data/a~1b", "{data: {a/b: x}}", "{data: {a/b: y}}", "{data: {a/b: y}}"},
		"within an item of a list":      {"/list/1/a", "{list: [{a: 1}, {a: 1}]}", "{list: [{a: 2}, {a: 2}]}", "{list: [{a: 1}, {a: 2}]}"},
		"an item of a list":             {"/list/1", "{list: [1, 1]}", "{list: [2, 2]}", "{list: [1, 2]}"},
		"an item that is gone":          {"/list/1/a", "{list: [1, {a: 1}]}", "{list: [1]}", "{list: [1, {a: 1}]}"},
		"a named item in another place": {"/list/0/a", "{list: [{name: x, a: 1}]}", "{list: [{name: sidecar, a: 9}, {name: x, a: 2}]}", "{list: [{name: x, a: 2}]}"},
		"a named item that is gone":     {"/list/0/a", "{list: [{name: x, a: 1}]}", "{list: [{name: sidecar, a: 9}]}", "{list: [{name: x, a: 1}]}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := deploy.ParsePointer(tc.path)
			if err != nil {
				t.Fatal(err)
			}
			of := func(text string) map[string]any { return object(t, "{kind: A, "+text[1:]).Object }
			want := of(tc.want)
			leave(want, of(tc.live), p)
			if d := cmp.Diff(of(tc.expected), want); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
