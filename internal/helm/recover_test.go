package helm

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// die lets the process lose its connection for good when it is about to send the nth request with this method and path ending: what a kill -9 there leaves in the cluster.
func (e *env) die(method, suffix string, n int) {
	var mu sync.Mutex // guards n and dead: objects of a kind are sent at once
	dead := false
	e.counter.on(func(m, path string) error {
		mu.Lock()
		defer mu.Unlock()
		if m == method && strings.HasSuffix(path, suffix) {
			n--
		}
		if n <= 0 {
			dead = true
		}
		if dead {
			return errors.New("the process is dead")
		}
		return nil
	})
}

func TestInterruptedOperationsAreTakenUpAtOnce(t *testing.T) {
	v1 := plain("1.0.0", map[string]string{"a": configMapNamed("a"), "old": configMapNamed("old")})
	v2 := plain("2.0.0", map[string]string{"a": configMapNamed("a"), "new": configMapNamed("new")})
	v3 := plain("3.0.0", map[string]string{"a": configMapNamed("a"), "last": configMapNamed("last")})

	t.Run("an install that died with its record pending", func(t *testing.T) {
		e := newEnv(t)
		e.die("PUT", "/secrets/sh.helm.release.v1.web.v1", 1)
		_, err := e.run(t.Context(), e.target(""), e.revision(v1), false)
		if err == nil {
			t.Fatal("no error")
		}
		wantEqual(t, "history of the dead", e.history(e.ns, "web"), "1:pending-install")
		wantEqual(t, "objects of the dead", e.configMaps(e.ns), "a old")
		e.restart()
		changes, err := e.run(t.Context(), e.target(""), e.revision(v2), false)
		e.must(err)
		wantEqual(t, "action", changes[0].Action, deploy.ActionRecover)
		wantEqual(t, "history", e.history(e.ns, "web"), "1:failed 2:deployed")
		wantEqual(t, "objects, without the orphan", e.configMaps(e.ns), "a new")
	})
	t.Run("an upgrade that died with its record pending", func(t *testing.T) {
		e := newEnv(t)
		e.bring(e.target(""), e.revision(v1))
		e.die("PUT", "/secrets/sh.helm.release.v1.web.v1", 1)
		_, err := e.run(t.Context(), e.target(""), e.revision(v2), false)
		if err == nil {
			t.Fatal("no error")
		}
		wantEqual(t, "history of the dead", e.history(e.ns, "web"), "1:deployed 2:pending-upgrade")
		uid := e.uid("a")
		e.restart()
		e.bring(e.target(""), e.revision(v3))
		wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:failed 3:deployed")
		wantEqual(t, "objects, without the orphan", e.configMaps(e.ns), "a last")
		wantEqual(t, "object of all revisions, never deleted", e.uid("a"), uid)
	})
	t.Run("an upgrade that died before its first object", func(t *testing.T) {
		e := newEnv(t)
		e.bring(e.target(""), e.revision(v1))
		e.die("POST", "/configmaps", 1)
		_, err := e.run(t.Context(), e.target(""), e.revision(v2), false)
		if err == nil {
			t.Fatal("no error")
		}
		e.restart()
		e.bring(e.target(""), e.revision(v2))
		wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:failed 3:deployed")
		wantEqual(t, "objects", e.configMaps(e.ns), "a new")
	})
	t.Run("an uninstallation, when the target is back", func(t *testing.T) {
		e := newEnv(t)
		e.bring(e.target(""), e.revision(v1))
		e.die("DELETE", "/configmaps/old", 1)
		if err := e.engine.Delete(t.Context(), e.target(""), nil); err == nil {
			t.Fatal("no error")
		}
		wantEqual(t, "history of the dead", e.history(e.ns, "web"), "1:uninstalling")
		e.restart()
		e.bring(e.target(""), e.revision(v1))
		wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:deployed")
		wantEqual(t, "objects", e.configMaps(e.ns), "a old")
	})
	t.Run("an uninstallation, when it is still wanted", func(t *testing.T) {
		e := newEnv(t)
		e.bring(e.target(""), e.revision(v1))
		e.die("DELETE", "/configmaps/old", 1)
		if err := e.engine.Delete(t.Context(), e.target(""), nil); err == nil {
			t.Fatal("no error")
		}
		e.restart()
		e.must(e.engine.Delete(t.Context(), e.target(""), nil))
		wantEqual(t, "history", e.history(e.ns, "web"), "release: not found")
		wantEqual(t, "objects", e.configMaps(e.ns), "")
	})
}

func (e *env) uid(name string) string {
	e.Helper()
	cm, err := e.set.CoreV1().ConfigMaps(e.ns).Get(e.Context(), name, metav1.GetOptions{})
	e.must(err)
	return string(cm.UID)
}

func TestAnotherClientsPendingReleaseIsLeftAloneForAWhile(t *testing.T) {
	e := newEnv(t)
	r := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")}))
	e.bring(e.target(""), r)
	// What helm upgrade leaves when it is killed: the next revision, pending, with the labels of the last.
	cfg := e.cli(e.ns)
	rel := e.last(e.ns, "web")
	rel.Version = 2
	rel.SetStatus(release.StatusPendingUpgrade, "Preparing upgrade")
	e.must(cfg.Releases.Create(rel))
	_, err := e.run(t.Context(), e.target(""), r, true)
	if err == nil || !strings.Contains(err.Error(), "another Helm client") {
		t.Fatalf("error %v", err)
	}
	wantEqual(t, "history while it is left alone", e.history(e.ns, "web"), "1:deployed 2:pending-upgrade")
	impatient := e.target("")
	impatient.Timeout = time.Second
	testenv.Await(t, limit, "taking over", func() error { _, err := e.run(t.Context(), impatient, r, true); return err })
	wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:failed 3:deployed")
}

func TestCancelDuringAWait(t *testing.T) {
	e := newEnv(t)
	stuck := e.target(`{"podAnnotations":{"kubelet.towline.dev/never-ready":"true"}}`)
	r := e.revision(web("1.0.0", nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := deploy.Work{Target: stuck, Revision: r}
	p, err := e.engine.Plan(ctx, w)
	e.must(err)
	var canceled time.Time
	var phases []deploy.Phase
	_, err = e.engine.Apply(ctx, w, p, func(phase deploy.Phase, text string) {
		if len(phases) == 0 || phases[len(phases)-1] != phase {
			phases = append(phases, phase)
		}
		if phase == deploy.PhaseWaiting && canceled.IsZero() {
			if !strings.Contains(text, "Deployment.apps/"+e.ns+"/web") {
				t.Errorf("waits for %q", text)
			}
			canceled = time.Now()
			cancel()
		}
	})
	if took := time.Since(canceled); took > time.Second {
		t.Errorf("returned %s after the cancel", took)
	}
	wantFailure(t, err, deploy.ReasonCanceled, "taken up again later")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v is not context.Canceled", err)
	}
	wantEqual(t, "phases", len(phases), 2)
	e.counter.take()
	wantEqual(t, "history", e.history(e.ns, "web"), "1:pending-install")
	t.Run("the fix is in place right after", func(t *testing.T) {
		start := time.Now()
		e.bring(e.target(""), r)
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("took %s", took)
		}
		wantEqual(t, "history", e.history(e.ns, "web"), "1:failed 2:deployed")
		wantEqual(t, "ready replicas", e.deployment("web").Status.ReadyReplicas, 1)
	})
	t.Run("a deadline of the caller counts as a timeout", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := e.run(ctx, stuck, r, false)
		wantFailure(t, err, deploy.ReasonTimeout, "not done")
	})
}

func TestDisableWait(t *testing.T) {
	e := newEnv(t)
	stuck := e.target(`{"podAnnotations":{"kubelet.towline.dev/never-ready":"true"}}`, func(s *deploy.HelmReleaseSpec) {
		s.Install = &deploy.Install{DisableWait: true}
	})
	e.bring(stuck, e.revision(web("1.0.0", nil)))
	wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
}

func TestAPanicIsAFailure(t *testing.T) {
	e := newEnv(t)
	w := deploy.Work{Target: e.target(""), Revision: e.revision(web("1.0.0", nil))}
	for _, at := range []deploy.Phase{deploy.PhaseApplying, deploy.PhaseWaiting} {
		p, err := e.engine.Plan(t.Context(), w)
		e.must(err)
		_, err = e.engine.Apply(t.Context(), w, p, func(phase deploy.Phase, _ string) {
			if phase == at {
				panic("secret")
			}
		})
		wantFailure(t, err, deploy.ReasonInstallFailed, "panicked (string)")
	}
	e.bring(w.Target, w.Revision)
}
