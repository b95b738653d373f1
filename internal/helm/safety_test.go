package helm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

func TestWhatWasDeployedIsNeverUninstalled(t *testing.T) {
	for _, status := range []release.Status{release.StatusFailed, release.StatusPendingUpgrade, release.StatusPendingRollback, release.StatusSuperseded, release.StatusUnknown} {
		t.Run("when its newest revision says "+string(status), func(t *testing.T) {
			e := newEnv(t)
			r := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
			e.bring(e.target(""), r)
			uid := e.uid("a")
			cfg := e.cli(e.ns)
			rel := e.last(e.ns, "web")
			rel.SetStatus(status, "by hand")
			e.must(cfg.Releases.Update(rel))
			e.restart()
			impatient := e.target("")
			impatient.Timeout = time.Second // for the lock of another client
			testenv.Await(t, limit, "another revision", func() error { _, err := e.run(t.Context(), impatient, r, true); return err })
			wantEqual(t, "the object, never deleted", e.uid("a"), uid)
			if h := e.history(e.ns, "web"); !strings.HasSuffix(h, "2:deployed") {
				t.Errorf("history %s", h)
			}
		})
	}
	t.Run("when its records are gone", func(t *testing.T) {
		e := newEnv(t)
		r := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
		e.bring(e.target(""), r)
		uid := e.uid("a")
		e.must(e.set.CoreV1().Secrets(e.ns).Delete(t.Context(), "sh.helm.release.v1.web.v1", metav1.DeleteOptions{}))
		if _, err := e.run(t.Context(), e.target(""), r, true); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "the object, taken over", e.uid("a"), uid)
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	})
	t.Run("when an older chart comes", func(t *testing.T) {
		e := newEnv(t)
		e.bring(e.target(""), e.revision(plain("2.0.0", map[string]string{"a": configMapNamed("a")})))
		uid := e.uid("a")
		e.bring(e.target(""), e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")})))
		wantEqual(t, "the object", e.uid("a"), uid)
		wantEqual(t, "chart", strings.HasPrefix(e.last(e.ns, "web").Chart.Metadata.Version, "1.0.0+"), true)
	})
}

func TestARevisionOfAnotherClientMeanwhileIsNotTakenUp(t *testing.T) {
	e := newEnv(t)
	r := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
	e.bring(e.target(""), r)
	e.die("PUT", "/secrets/sh.helm.release.v1.web.v2", 1)
	if _, err := e.run(t.Context(), e.target(`{"a":1}`), r, false); err == nil {
		t.Fatal("no error")
	}
	e.restart()
	w := deploy.Work{Target: e.target(`{"a":2}`), Revision: r}
	p, err := e.engine.Plan(t.Context(), w)
	e.must(err)
	wantEqual(t, "action", p.Changes[0].Action, deploy.ActionRecover)
	rel := e.last(e.ns, "web")
	rel.Version = 3
	rel.SetStatus(release.StatusPendingUpgrade, "Preparing upgrade")
	e.must(e.cli(e.ns).Releases.Create(rel))
	_, err = e.engine.Apply(t.Context(), w, p, nil)
	wantFailure(t, err, deploy.ReasonUpgradeFailed, "another Helm client made revision 3")
	if h := e.history(e.ns, "web"); !strings.HasSuffix(h, "3:pending-upgrade") {
		t.Errorf("history %s", h)
	}
}

func TestTwoTargetsInstallOneReleaseAtOnce(t *testing.T) {
	e := newEnv(t)
	r := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
	first, second := e.target(""), e.target(`{"x":1}`)
	second.Name.Name = "other"
	w := deploy.Work{Target: second, Revision: r}
	p, err := e.engine.Plan(t.Context(), w) // sees nothing yet
	e.must(err)
	e.bring(first, r)
	_, err = e.engine.Apply(t.Context(), w, p, nil)
	wantFailure(t, err, deploy.ReasonInstallFailed, "another target or Helm client is installing it")
	_, err = e.run(t.Context(), second, r, false)
	if err == nil || !strings.Contains(err.Error(), "belongs to "+first.Name.String()) {
		t.Errorf("error %v", err)
	}
	wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
}

func TestKeptObjects(t *testing.T) {
	e := newEnv(t)
	kept := strings.Replace(configMapNamed("kept"), "{name: kept}", "{name: kept, annotations: {helm.sh/resource-policy: keep}}", 1)
	with := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a"), "k": kept}))
	e.bring(e.target(""), with)
	uid := e.uid("kept")
	t.Run("stay when the chart drops them", func(t *testing.T) {
		e.bring(e.target(""), e.revision(plain("1.1.0", map[string]string{"a": configMapNamed("a")})))
		wantEqual(t, "objects", e.configMaps(e.ns), "a kept")
	})
	t.Run("stay when the release is uninstalled, and that ends", func(t *testing.T) {
		e.bring(e.target(""), with)
		e.must(e.engine.Delete(t.Context(), e.target(""), nil))
		wantEqual(t, "objects", e.configMaps(e.ns), "kept")
	})
	t.Run("are taken up by the next installation", func(t *testing.T) {
		e.bring(e.target(""), with)
		wantEqual(t, "objects", e.configMaps(e.ns), "a kept")
		wantEqual(t, "the object", e.uid("kept"), uid)
	})
	t.Run("of failed revisions stay too", func(t *testing.T) {
		_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.2.0", map[string]string{
			"a": configMapNamed("a"), "k2": strings.ReplaceAll(kept, "kept", "kept-2"), "c": "apiVersion: v1\nkind: Service\nmetadata: {name: c}\nspec: {ports: [{port: 99999}]}\n",
		})), false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "99999")
		e.bring(e.target(""), e.revision(plain("1.3.0", map[string]string{"a": configMapNamed("a")})))
		wantEqual(t, "objects", e.configMaps(e.ns), "a kept kept-2")
	})
}

func TestNamespacesInCharts(t *testing.T) {
	t.Run("a chart that has the namespace that it is installed to", func(t *testing.T) {
		e := newEnv(t)
		ns := e.ns + "-own"
		t.Cleanup(func() { _ = e.set.CoreV1().Namespaces().Delete(context.Background(), ns, metav1.DeleteOptions{}) })
		target := e.target("", func(s *deploy.HelmReleaseSpec) {
			s.TargetNamespace, s.Install = ns, &deploy.Install{CreateNamespace: true}
		})
		object := "apiVersion: v1\nkind: Namespace\nmetadata: {name: {{ .Release.Namespace }}, labels: {own: \"true\"}}\n"
		e.bring(target, e.revision(plain("1.0.0", map[string]string{"n": object, "a": configMapNamed("a")})))
		wantEqual(t, "objects", e.configMaps(ns), "a")
		got, err := e.set.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		e.must(err)
		wantEqual(t, "label of the chart", got.Labels["own"], "true")
		e.bring(target, e.revision(plain("1.1.0", map[string]string{"n": object, "a": configMapNamed("a"), "b": configMapNamed("b")})))
		e.must(e.engine.Delete(t.Context(), target, nil))
		_, err = e.set.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		wantEqual(t, "the namespace is gone with the release", apierrors.IsNotFound(err), true)
	})
	t.Run("a namespace that is on its way out is named", func(t *testing.T) {
		e := newEnv(t)
		ns := testenv.Cluster(t).Namespace(t)
		held := strings.Replace(configMapNamed("held"), "{name: held}", "{name: held, finalizers: [example.org/hold]}", 1)
		target := e.target("", func(s *deploy.HelmReleaseSpec) { s.TargetNamespace, s.StorageNamespace = ns, ns })
		e.bring(target, e.revision(plain("1.0.0", map[string]string{"a": held})))
		e.must(e.set.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}))
		_, err := e.run(t.Context(), target, e.revision(plain("1.1.0", map[string]string{"a": held, "b": configMapNamed("b")})), false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "being terminated")
		_, err = e.set.CoreV1().ConfigMaps(ns).Patch(t.Context(), "held", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		e.must(err)
	})
}

func TestACRDInTheTemplatesIsForTheNextRelease(t *testing.T) {
	e := newEnv(t)
	group := strings.ReplaceAll(e.ns, "-", "") + ".example.org"
	widget := "apiVersion: " + group + "/v1\nkind: Widget\nmetadata: {name: w}\nspec: {f: x}\n"
	_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.0.0", map[string]string{"crd": crd(group, "f"), "w": widget})), false)
	wantFailure(t, err, deploy.ReasonInstallFailed, "ensure CRDs are installed first")
	wantEqual(t, "history", e.history(e.ns, "web"), "release: not found")
	e.bring(e.target(""), e.revision(plain("1.0.1", map[string]string{"crd": crd(group, "f")})))
	user := e.target("", func(s *deploy.HelmReleaseSpec) { s.ReleaseName = "user" })
	user.Name.Name = "user"
	r := e.revision(plain("1.0.0", map[string]string{"w": widget}))
	testenv.Await(t, limit, "the new kind", func() error { _, err := e.run(t.Context(), user, r, false); return err })
	wantEqual(t, "history of the next release", strings.HasSuffix(e.history(e.ns, "user"), ":deployed"), true)
	e.must(e.engine.Delete(t.Context(), user, nil))
	e.must(e.engine.Delete(t.Context(), e.target(""), nil))
}

func TestAFailingHookOfAnUninstallationKeepsTheRelease(t *testing.T) {
	e := newEnv(t)
	hook := "apiVersion: batch/v1\nkind: Job\nmetadata: {name: before, annotations: {helm.sh/hook: pre-delete}}\nspec:\n  backoffLimit: 0\n  template:\n" +
		"    metadata: {annotations: {kubelet.towline.dev/fail: \"true\"}}\n    spec: {restartPolicy: Never, containers: [{name: a, image: a}]}\n"
	e.bring(e.target(""), e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a"), "h": hook})))
	err := e.engine.Delete(t.Context(), e.target(""), nil)
	wantFailure(t, err, deploy.ReasonUninstallFailed, "Job.batch/"+e.ns+"/before: the job failed")
	wantEqual(t, "objects", e.configMaps(e.ns), "a")
	off := e.target("", func(s *deploy.HelmReleaseSpec) { s.Uninstall = &deploy.Uninstall{DisableHooks: true} })
	e.must(e.engine.Delete(t.Context(), off, nil))
	wantEqual(t, "objects without the hook", e.configMaps(e.ns), "")
}

func TestACorruptRecordStopsAnUninstallation(t *testing.T) {
	e := newEnv(t)
	e.bring(e.target(""), e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")})))
	_, err := e.set.CoreV1().Secrets(e.ns).Patch(t.Context(), "sh.helm.release.v1.web.v1", "application/merge-patch+json", []byte(`{"data":{"release":"bm9uc2Vuc2U="}}`), metav1.PatchOptions{})
	e.must(err)
	err = e.engine.Delete(t.Context(), e.target(""), nil)
	wantFailure(t, err, deploy.ReasonUninstallFailed, "cannot be decoded")
	wantEqual(t, "objects", e.configMaps(e.ns), "a")
	if errors.Is(err, context.Canceled) {
		t.Error("it counts as canceled")
	}
}
