package helm

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"helm.sh/helm/v3/pkg/action"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// diff asks for the differences with all writes refused that are no dry runs, and returns them as lines: action object fields (reason).
func (e *env) diff(t deploy.Target, r deploy.Revision) []string {
	e.Helper()
	var out []string
	for _, d := range e.differences(t, r) {
		line := strings.Join(append([]string{string(d.Action), shortID(d.Object, e.ns)}, d.Fields...), " ")
		if d.Err != nil {
			line += " ! " + d.Err.Error()
		} else if d.Reason != "" {
			line += " (" + d.Reason + ")"
		}
		out = append(out, line)
	}
	return out
}

func shortID(id deploy.ObjectID, ns string) string {
	return strings.Replace(id.String(), "/"+ns+"/", "/", 1)
}

func (e *env) differences(t deploy.Target, r deploy.Revision) []deploy.Difference {
	e.Helper()
	out, err := e.tryDiff(t, r)
	e.must(err)
	return out
}

func (e *env) tryDiff(t deploy.Target, r deploy.Revision) ([]deploy.Difference, error) {
	e.refuse(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet || r.URL.Query().Get("dryRun") == "All" {
			return nil, nil
		}
		e.Errorf("a write: %s %s", r.Method, r.URL)
		return nil, errors.New("refused")
	})
	defer e.refuse(nil)
	return e.engine.Diff(e.Context(), deploy.Work{Target: t, Revision: r})
}

func (e *env) refuse(instead func(*http.Request) (*http.Response, error)) {
	e.counter.mu.Lock()
	defer e.counter.mu.Unlock()
	e.counter.instead = instead
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

const keptConfigMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, annotations: {helm.sh/resource-policy: keep}}\n"

func TestDiff(t *testing.T) {
	e := newEnv(t)
	one := e.revision(web("1.0.0", map[string]string{"templates/hook.yaml": renderedHook, "templates/kept.yaml": keptConfigMap, "templates/old.yaml": configMapNamed("old")}))
	two := e.revision(web("1.1.0", map[string]string{"templates/new.yaml": configMapNamed("new")}))
	target := e.target(`{"replicaCount":2}`)

	t.Run("of an installation creates everything but hooks, as it will be", func(t *testing.T) {
		got := e.differences(target, one)
		wantLines(t, e.diff(target, one), "install Release.helm.sh/web", "create ConfigMap/web", "create ConfigMap/kept", "create ConfigMap/old", "create Service/web", "create Deployment.apps/web")
		d := got[len(got)-1]
		if d.Before != nil {
			t.Errorf("before: %v", d.Before)
		}
		replicas, _, _ := unstructured.NestedInt64(d.After.Object, "spec", "replicas")
		wantEqual(t, "replicas", replicas, 2)
		wantEqual(t, "namespace", d.After.GetNamespace(), e.ns)
		wantEqual(t, "label", d.After.GetLabels()[deploy.LabelTarget], target.Name.LabelValue())
		wantEqual(t, "mark of Helm", d.After.GetAnnotations()[annotationRelease], "web")
	})
	t.Run("writes nothing", func(t *testing.T) {
		wantEqual(t, "history", e.history(e.ns, "web"), "release: not found")
		wantEqual(t, "objects", e.configMaps(e.ns), "")
	})
	t.Run("is empty once it is installed, and stays so", func(t *testing.T) {
		hookless := e.revision(web("1.0.0", map[string]string{"templates/kept.yaml": keptConfigMap, "templates/old.yaml": configMapNamed("old")}))
		one = hookless
		e.bring(target, one)
		wantLines(t, e.diff(target, one))
	})
	t.Run("of changed values names the fields", func(t *testing.T) {
		changed := e.target(`{"replicaCount":3,"podAnnotations":{"a/b":"c"}}`)
		wantLines(t, e.diff(changed, one), "upgrade Release.helm.sh/web revision (values changed)",
			"update Deployment.apps/web spec.replicas spec.template.metadata.annotations[\"a/b\"]")
	})
	t.Run("of a new chart updates, creates, prunes and keeps", func(t *testing.T) {
		wantLines(t, e.diff(target, two), "upgrade Release.helm.sh/web chart.version revision (chart changed)", "update ConfigMap/web data.chart", "create ConfigMap/new",
			"keep ConfigMap/kept ! its annotation helm.sh/resource-policy says keep", "prune ConfigMap/old")
		got := e.differences(target, two)
		last := got[len(got)-1]
		if last.After != nil || last.Before.GetName() != "old" {
			t.Errorf("pruned: %v", last)
		}
	})
	t.Run("of objects alike still shows that there will be a revision", func(t *testing.T) {
		wantLines(t, e.diff(e.target(`{"replicaCount":2,"unused":1}`), one), "upgrade Release.helm.sh/web revision (values changed)")
	})
	t.Run("does not look for what was changed by hand", func(t *testing.T) {
		_, err := e.set.CoreV1().ConfigMaps(e.ns).Patch(t.Context(), "web", "application/merge-patch+json", []byte(`{"data":{"big":"7"}}`), metav1.PatchOptions{})
		e.must(err)
		wantLines(t, e.diff(target, one))
	})
	t.Run("of an object that is gone already prunes nothing", func(t *testing.T) {
		e.must(e.set.CoreV1().ConfigMaps(e.ns).Delete(t.Context(), "old", metav1.DeleteOptions{}))
		wantLines(t, e.diff(target, two), "upgrade Release.helm.sh/web chart.version revision (chart changed)", "update ConfigMap/web data.chart", "create ConfigMap/new",
			"keep ConfigMap/kept ! its annotation helm.sh/resource-policy says keep")
	})
	t.Run("is what the upgrade then does", func(t *testing.T) {
		e.bring(target, two)
		wantEqual(t, "objects", e.configMaps(e.ns), "kept new web")
		wantLines(t, e.diff(target, two))
	})
}

func TestDiffOfWhatIsThereAlready(t *testing.T) {
	e := newEnv(t)
	existing := func(name string, data, annotations map[string]string) {
		t.Helper()
		cm := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap"}}
		cm.SetName(name)
		cm.SetAnnotations(annotations)
		e.must(unstructured.SetNestedStringMap(cm.Object, data, "data"))
		_, err := e.engine.own.Dynamic.Resource(secrets.GroupVersion().WithResource("configmaps")).Namespace(e.ns).Create(t.Context(), cm, metav1.CreateOptions{})
		e.must(err)
	}
	existing("a", map[string]string{"a": "old", "mine": "stays"}, nil)
	existing("b", nil, map[string]string{annotationRelease: "other", annotationReleaseNamespace: "elsewhere"})
	r := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a"), "b": configMapNamed("b")}))
	t.Run("shows what would be merged into it, and whose it is", func(t *testing.T) {
		wantLines(t, e.diff(e.target(""), r), "install Release.helm.sh/web",
			"update ConfigMap/a data.a metadata.annotations metadata.labels (it exists and is taken over)",
			"update ConfigMap/b data metadata.annotations[\"meta.helm.sh/release-name\"] metadata.annotations[\"meta.helm.sh/release-namespace\"] metadata.labels"+
				" ! ConfigMap/"+e.ns+"/b exists and belongs to release elsewhere/other: remove it there, or take the annotation meta.helm.sh/release-name off it")
	})
	t.Run("is what comes of it", func(t *testing.T) {
		only := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
		d := e.differences(e.target(""), only)[1]
		e.bring(e.target(""), only)
		got, err := e.engine.own.Dynamic.Resource(secrets.GroupVersion().WithResource("configmaps")).Namespace(e.ns).Get(t.Context(), "a", metav1.GetOptions{})
		e.must(err)
		if diff := cmp.Diff(d.After.Object, own(got).Object); diff != "" {
			t.Errorf("(-said +is):\n%s", diff)
		}
	})
}

func TestDiffAfterAFailure(t *testing.T) {
	e := newEnv(t)
	bad := "apiVersion: v1\nkind: Service\nmetadata: {name: refused}\nspec: {ports: [{port: 99999}]}\n"
	one := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
	_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.0.1", map[string]string{"left": configMapNamed("left"), "refused": bad})), false)
	wantFailure(t, err, deploy.ReasonInstallFailed, "refused")
	t.Run("prunes what the failed revision left", func(t *testing.T) {
		wantLines(t, e.diff(e.target(""), one), "install Release.helm.sh/web (revision 1 is failed)", "create ConfigMap/a", "prune ConfigMap/left (a failed revision left it)")
	})
	t.Run("updates what it left and the new one has too", func(t *testing.T) {
		both := e.revision(plain("1.0.2", map[string]string{"left": strings.Replace(configMapNamed("left"), "a: b", "a: c", 1)}))
		wantLines(t, e.diff(e.target(""), both), "install Release.helm.sh/web (revision 1 is failed)", "update ConfigMap/left data.a (it is there from an earlier revision)")
	})
	t.Run("takes an interrupted revision for failed, without writing so", func(t *testing.T) {
		e := newEnv(t)
		e.bring(e.target(""), one)
		two := e.revision(plain("2.0.0", map[string]string{"a": configMapNamed("a"), "new": configMapNamed("new")}))
		e.die("PUT", "/secrets/sh.helm.release.v1.web.v1", 1)
		if _, err := e.run(t.Context(), e.target(""), two, false); err == nil {
			t.Fatal("no error")
		}
		e.restart()
		wantLines(t, e.diff(e.target(""), one), "recover Release.helm.sh/web revision (revision 2 is pending-upgrade)", "prune ConfigMap/new (a failed revision left it)")
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed 2:pending-upgrade")
		e.bring(e.target(""), one)
		wantEqual(t, "objects afterwards", e.configMaps(e.ns), "a")
	})
}

func TestDiffOfAChartWithCRDs(t *testing.T) {
	e := newEnv(t)
	group := strings.ReplaceAll(e.ns, "-", "") + ".example.org"
	id := "CustomResourceDefinition.apiextensions.k8s.io/widgets." + group
	asks := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: asks}\ndata: {widgets: {{ .Capabilities.APIVersions.Has \"" + group + "/v1/Widget\" | quote }}}\n"
	widget := "apiVersion: " + group + "/v1\nkind: Widget\nmetadata: {name: w}\nspec: {f: x}\n"
	chart := func(version, field string) deploy.Revision {
		return e.revision(testenv.Chart("web", version, map[string]string{"crds/widget.yaml": crd(group, field), "templates/asks.yaml": asks, "templates/w.yaml": widget}))
	}
	one, two := chart("1.0.0", "f"), chart("1.1.0", "g")
	target := e.target("", func(s *deploy.HelmReleaseSpec) { s.Upgrade = &deploy.Upgrade{CRDs: deploy.CRDsCreateReplace} })
	t.Run("knows their kinds before the server does", func(t *testing.T) {
		got := e.differences(target, one)
		wantLines(t, e.diff(target, one), "install Release.helm.sh/web", "create "+id, "create ConfigMap/asks", "create Widget."+group+"/w")
		data, _, _ := unstructured.NestedStringMap(got[2].After.Object, "data")
		wantEqual(t, "what the template was told", data["widgets"], "true")
	})
	t.Run("leaves them out where the policy does, and says what is missing", func(t *testing.T) {
		skip := e.target("", func(s *deploy.HelmReleaseSpec) { s.Install = &deploy.Install{CRDs: deploy.CRDsSkip} })
		if _, err := e.tryDiff(skip, one); err == nil || !strings.Contains(err.Error(), "ensure CRDs are installed first") {
			t.Errorf("error %v", err)
		}
	})
	e.bring(target, one)
	t.Run("shows how one would be replaced", func(t *testing.T) {
		got := e.differences(target, two)
		if len(got) != 2 || got[1].Object.String() != id || got[1].Action != deploy.ActionUpdate || len(got[1].Fields) == 0 {
			t.Errorf("differences: %v", e.diff(target, two))
		}
	})
	t.Run("shows nothing of one that an upgrade leaves alone", func(t *testing.T) {
		wantLines(t, e.diff(e.target(""), two), "upgrade Release.helm.sh/web chart.version revision (chart changed)")
	})
	e.must(e.engine.Delete(t.Context(), target, nil))
}

func TestDiffElsewhere(t *testing.T) {
	e := newEnv(t)
	target := e.target("", func(s *deploy.HelmReleaseSpec) {
		s.TargetNamespace, s.Install = e.ns+"-new", &deploy.Install{CreateNamespace: true}
	})
	list := "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: r, namespace: wrong}}\n"
	r := e.revision(plain("1.0.0", map[string]string{"all": list}))
	t.Run("creates the namespace, takes lists apart and knows what has no namespace", func(t *testing.T) {
		wantLines(t, e.diff(target, r), "install Release.helm.sh/web", "create Namespace/"+e.ns+"-new (install.createNamespace)",
			"create ConfigMap/"+e.ns+"-new/a", "create ClusterRole.rbac.authorization.k8s.io/r")
	})
	t.Run("refuses to move a release, as the upgrade would", func(t *testing.T) {
		here := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
		e.bring(e.target(""), here)
		if _, err := e.tryDiff(target, here); err == nil || !strings.Contains(err.Error(), "restore targetNamespace") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("knows what another Helm client rolled back", func(t *testing.T) {
		e.bring(e.target(""), e.revision(plain("1.1.0", map[string]string{"b": configMapNamed("b")})))
		e.must(action.NewRollback(e.cli(e.ns)).Run("web"))
		wantLines(t, e.diff(e.target(""), e.revision(plain("1.1.0", map[string]string{"b": configMapNamed("b")}))),
			"upgrade Release.helm.sh/web chart.version revision (another Helm client changed it)", "create ConfigMap/b", "prune ConfigMap/a")
	})
	t.Run("looks up what a template asks for", func(t *testing.T) {
		asks := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {found: {{ (lookup \"v1\" \"Namespace\" \"\" \"" + e.ns + "\").metadata.name }}}\n"
		got := e.differences(e.target(""), e.revision(plain("2.0.0", map[string]string{"a": asks})))
		data, _, _ := unstructured.NestedStringMap(got[1].After.Object, "data")
		wantEqual(t, "found", data["found"], e.ns)
	})
	t.Run("keeps values out of its errors", func(t *testing.T) {
		_, err := e.tryDiff(e.target(`{"password":"`+canary+`"}`), e.revision(plain("3.0.0", map[string]string{"a": `{{ fail .Values.password }}`})))
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("error %v", err)
		}
	})
}
