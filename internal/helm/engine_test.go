package helm

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"helm.sh/helm/v3/pkg/action"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

func TestLifeOfARelease(t *testing.T) {
	e := newEnv(t)
	one, two := e.revision(web("1.0.0", nil)), e.revision(web("1.1.0", nil))
	target := e.target(`{"replicaCount":2,"big":1234567,"node.kubernetes.io/role":"edge"}`)

	t.Run("installs with the values as they are written", func(t *testing.T) {
		if diff := cmp.Diff([]deploy.Action{deploy.ActionInstall}, e.bring(target, one)); diff != "" {
			t.Errorf("actions (-want +got):\n%s", diff)
		}
		d := e.deployment("web")
		wantEqual(t, "replicas", *d.Spec.Replicas, 2)
		wantEqual(t, "ready replicas, since it waits", d.Status.ReadyReplicas, 2)
		wantEqual(t, "label", d.Labels[deploy.LabelTarget], target.Name.LabelValue())
		if !slices.ContainsFunc(d.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager == "towline" && m.Subresource == "" }) {
			t.Errorf("field managers: %v", d.ManagedFields)
		}
		cm, err := e.set.CoreV1().ConfigMaps(e.ns).Get(t.Context(), "web", metav1.GetOptions{})
		e.must(err)
		if diff := cmp.Diff(map[string]string{"chart": "1.0.0", "big": "1234567", "dotted": "edge"}, cm.Data); diff != "" {
			t.Errorf("data (-want +got):\n%s", diff)
		}
	})
	t.Run("is silent as long as nothing changes", func(t *testing.T) {
		e.counter.take()
		for range 20 {
			if got := e.bring(target, one); len(got) > 0 {
				t.Fatalf("did %v", got)
			}
		}
		if got := e.counter.take(); len(got) > 0 {
			t.Errorf("requests: %v", got)
		}
	})
	t.Run("looks once in a full run and writes nothing", func(t *testing.T) {
		for range 20 {
			e.counter.take()
			changes, err := e.run(t.Context(), target, one, true)
			e.must(err)
			got := e.counter.take()
			if len(changes) > 0 || len(got) != 1 || len(writes(got)) > 0 {
				t.Fatalf("changes %v, requests %v; want one look", changes, got)
			}
		}
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	})
	t.Run("knows the release after a restart, from one request", func(t *testing.T) {
		e.restart()
		if got := e.bring(target, one); len(got) > 0 {
			t.Fatalf("did %v", got)
		}
		wantEqual(t, "requests", len(e.counter.take()), 1)
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	})
	t.Run("upgrades when the values change", func(t *testing.T) {
		target = e.target(`{"replicaCount":3}`)
		w := deploy.Work{Target: target, Revision: one}
		p, err := e.engine.Plan(t.Context(), w)
		e.must(err)
		want := []deploy.Change{{Action: deploy.ActionUpgrade, Object: deploy.ObjectID{Group: "helm.sh", Kind: "Release", Namespace: e.ns, Name: "web"}, Reason: "values changed"}}
		if diff := cmp.Diff(want, p.Changes); diff != "" {
			t.Errorf("plan (-want +got):\n%s", diff)
		}
		_, err = e.engine.Apply(t.Context(), w, p, nil)
		e.must(err)
		wantEqual(t, "replicas", *e.deployment("web").Spec.Replicas, 3)
		wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:deployed")
	})
	t.Run("goes back to the chart's values when its own are taken away", func(t *testing.T) {
		target = e.target(``)
		e.bring(target, one)
		wantEqual(t, "replicas", *e.deployment("web").Spec.Replicas, 1)
	})
	t.Run("upgrades when the chart changes", func(t *testing.T) {
		e.bring(target, two)
		wantEqual(t, "chart", e.last(e.ns, "web").Chart.Metadata.Version, versionWith("1.1.0", two.Digest))
		wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:superseded 3:superseded 4:deployed")
	})
	t.Run("keeps as many revisions as it is told", func(t *testing.T) {
		two := 2
		target = e.target(`{"replicaCount":2}`, func(s *deploy.HelmReleaseSpec) { s.MaxHistory = &two })
		e.bring(target, one)
		wantEqual(t, "history", e.history(e.ns, "web"), "4:superseded 5:deployed")
	})
	t.Run("is seen by Helm's own list", func(t *testing.T) {
		list, err := action.NewList(e.cli(e.ns)).Run()
		e.must(err)
		if len(list) != 1 || list[0].Name != "web" || list[0].Version != 5 || list[0].Namespace != e.ns {
			t.Errorf("list %v", list)
		}
	})
	t.Run("takes back what another Helm client rolled back", func(t *testing.T) {
		e.must(action.NewRollback(e.cli(e.ns)).Run("web"))
		wantEqual(t, "history", e.history(e.ns, "web"), "4:superseded 5:superseded 6:deployed")
		changes, err := e.run(t.Context(), target, one, true)
		e.must(err)
		if len(changes) != 1 || changes[0].Action != deploy.ActionUpgrade {
			t.Errorf("changes %v", changes)
		}
		wantEqual(t, "replicas", *e.deployment("web").Spec.Replicas, 2)
	})
	t.Run("uninstalls, and again without harm", func(t *testing.T) {
		for range 2 {
			e.must(e.engine.Delete(t.Context(), target, nil))
		}
		_, err := e.set.AppsV1().Deployments(e.ns).Get(t.Context(), "web", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			t.Errorf("deployment: %v", err)
		}
		wantEqual(t, "history", e.history(e.ns, "web"), "release: not found")
	})
	t.Run("installs again after that", func(t *testing.T) {
		if diff := cmp.Diff([]deploy.Action{deploy.ActionInstall}, e.bring(target, one)); diff != "" {
			t.Errorf("actions (-want +got):\n%s", diff)
		}
	})
}

func TestUninstallKeepsHistoryWhereAsked(t *testing.T) {
	e := newEnv(t)
	r := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
	target := e.target("", func(s *deploy.HelmReleaseSpec) { s.Uninstall = &deploy.Uninstall{KeepHistory: true} })
	e.bring(target, r)
	e.must(e.engine.Delete(t.Context(), target, nil))
	wantEqual(t, "history", e.history(e.ns, "web"), "1:uninstalled")
	e.must(e.engine.Delete(t.Context(), target, nil))
	e.bring(target, r)
	wantEqual(t, "history after installing again", e.history(e.ns, "web"), "1:superseded 2:deployed")
	wantEqual(t, "objects", e.configMaps(e.ns), "a")
}

func TestNamespaces(t *testing.T) {
	t.Run("creates the target namespace and keeps the records elsewhere", func(t *testing.T) {
		e := newEnv(t)
		ns := e.ns + "-made"
		t.Cleanup(func() { _ = e.set.CoreV1().Namespaces().Delete(context.Background(), ns, metav1.DeleteOptions{}) })
		target := e.target("", func(s *deploy.HelmReleaseSpec) {
			s.TargetNamespace, s.Install = ns, &deploy.Install{CreateNamespace: true}
		})
		e.bring(target, e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")})))
		wantEqual(t, "objects", e.configMaps(ns), "a")
		wantEqual(t, "history in the storage namespace", e.history(e.ns, "web"), "1:deployed")
		wantEqual(t, "history in the target namespace", e.history(ns, "web"), "release: not found")
		e.bring(target, e.revision(plain("1.1.0", map[string]string{"b": configMapNamed("b")})))
		wantEqual(t, "objects after an upgrade", e.configMaps(ns), "b")
		e.must(e.engine.Delete(t.Context(), target, nil))
		wantEqual(t, "objects after the end", e.configMaps(ns), "")
		wantEqual(t, "namespace stays", e.namespaceExists(ns), true)
	})
	t.Run("fails without createNamespace and says what is missing", func(t *testing.T) {
		e := newEnv(t)
		target := e.target("", func(s *deploy.HelmReleaseSpec) { s.TargetNamespace = e.ns + "-none" })
		_, err := e.run(t.Context(), target, e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")})), false)
		wantFailure(t, err, deploy.ReasonInstallFailed, `namespaces "`+e.ns+`-none" not found`)
	})
	t.Run("does not move a release to another namespace behind its back", func(t *testing.T) {
		e, other := newEnv(t), newEnv(t)
		r := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
		e.bring(e.target(""), r)
		_, err := e.run(t.Context(), e.target("", func(s *deploy.HelmReleaseSpec) { s.TargetNamespace = other.ns }), r, false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "has its objects in namespace "+e.ns)
		_, err = e.run(t.Context(), e.target("", func(s *deploy.HelmReleaseSpec) { s.ReleaseName = "new" }), r, false)
		if err == nil || !strings.Contains(err.Error(), "is installed as release "+e.ns+"/web") {
			t.Errorf("a new name: %v", err)
		}
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	})
	t.Run("does not uninstall what belongs to another target", func(t *testing.T) {
		e := newEnv(t)
		r := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
		e.bring(e.target(""), r)
		other := e.target("")
		other.Name.Name = "other"
		_, err := e.run(t.Context(), other, r, false)
		if err == nil || !strings.Contains(err.Error(), "belongs to "+e.target("").Name.String()) {
			t.Errorf("two targets, one release: %v", err)
		}
		e.must(e.engine.Delete(t.Context(), other, nil))
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	})
}

func TestChartAsAnExtractedFolder(t *testing.T) {
	e := newEnv(t)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"web/Chart.yaml": "apiVersion: v2\nname: web\nversion: 2.0.0\n", "web/templates/a.yaml": configMapNamed("from-{{ .Chart.Name }}"),
	} {
		p := filepath.Join(dir, name)
		e.must(os.MkdirAll(filepath.Dir(p), 0o700))
		e.must(os.WriteFile(p, []byte(content), 0o600))
	}
	e.bring(e.target(""), deploy.Revision{Digest: "sha256:abc", Dir: dir})
	wantEqual(t, "objects", e.configMaps(e.ns), "from-web")
}

func TestTakesWhatNobodyOwns(t *testing.T) {
	e := newEnv(t)
	for _, name := range []string{"free", "taken"} {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"a": "old", "kept": "by others"}}
		if name == "taken" {
			cm.Annotations = map[string]string{annotationRelease: "elsewhere", annotationReleaseNamespace: e.ns}
		}
		_, err := e.set.CoreV1().ConfigMaps(e.ns).Create(t.Context(), cm, metav1.CreateOptions{})
		e.must(err)
	}
	t.Run("adopts an object that is there already", func(t *testing.T) {
		e.bring(e.target(""), e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("free")})))
		cm, err := e.set.CoreV1().ConfigMaps(e.ns).Get(t.Context(), "free", metav1.GetOptions{})
		e.must(err)
		if diff := cmp.Diff(map[string]string{"a": "b", "kept": "by others"}, cm.Data); diff != "" {
			t.Errorf("data (-want +got):\n%s", diff)
		}
		wantEqual(t, "owner", cm.Annotations[annotationRelease], "web")
	})
	t.Run("refuses an object of another release", func(t *testing.T) {
		_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.1.0", map[string]string{"a": configMapNamed("free"), "b": configMapNamed("taken")})), false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "ConfigMap/"+e.ns+"/taken exists and belongs to release "+e.ns+"/elsewhere")
	})
}

func TestHooks(t *testing.T) {
	e := newEnv(t)
	hook := func(annotations string) string {
		return `apiVersion: batch/v1
kind: Job
metadata:
  name: before
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-output-log-policy: hook-failed}
spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {` + annotations + `}}
    spec: {restartPolicy: Never, containers: [{name: a, image: "example.org/a:1"}]}
`
	}
	_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.0.0", map[string]string{"hook": hook(`kubelet.towline.dev/fail: "true"`), "a": configMapNamed("a")})), false)
	wantFailure(t, err, deploy.ReasonInstallFailed, "the job failed")
	wantEqual(t, "objects after a failed hook", e.configMaps(e.ns), "")
	e.bring(e.target(""), e.revision(plain("1.0.1", map[string]string{"hook": hook(""), "a": configMapNamed("a")})))
	wantEqual(t, "objects after a good hook", e.configMaps(e.ns), "a")
	job, err := e.set.BatchV1().Jobs(e.ns).Get(t.Context(), "before", metav1.GetOptions{})
	e.must(err)
	if _, ok := job.Labels[deploy.LabelTarget]; ok {
		t.Error("the hook bears the target's label: it would be taken for a managed object")
	}
	off := e.target("", func(s *deploy.HelmReleaseSpec) { s.Upgrade = &deploy.Upgrade{DisableHooks: true} })
	e.bring(off, e.revision(plain("1.0.2", map[string]string{"hook": hook(`kubelet.towline.dev/fail: "true"`), "a": configMapNamed("a")})))
}

func TestRecordIsSlim(t *testing.T) {
	e := newEnv(t)
	e.bring(e.target(""), e.revision(testenv.Chart("web", "1.0.0", map[string]string{"templates/a.yaml": configMapNamed("a"), "files/big.txt": strings.Repeat("text ", 1000)})))
	c := e.last(e.ns, "web").Chart
	if len(c.Templates)+len(c.Files) > 0 || !strings.HasPrefix(c.Metadata.Version, "1.0.0+") {
		t.Errorf("the record holds %d templates and %d files of %s", len(c.Templates), len(c.Files), c.Metadata.Version)
	}
}
