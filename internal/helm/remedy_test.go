package helm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

const never = `kubelet.towline.dev/never-ready: "true"`

// remedied is a release that gives up waiting soon, with more of its spec.
func (e *env) remedied(edit func(*deploy.HelmReleaseSpec)) deploy.Target {
	t := e.target("", func(s *deploy.HelmReleaseSpec) {
		soon := &metav1.Duration{Duration: 2 * time.Second}
		s.Install, s.Upgrade, s.Rollback = &deploy.Install{Timeout: soon}, &deploy.Upgrade{Timeout: soon}, &deploy.Rollback{}
		edit(s)
	})
	t.Interval = time.Hour
	return t
}

// fails runs an attempt that has to fail, and returns how.
func (e *env) fails(w deploy.Work) *deploy.Failure {
	e.Helper()
	p, err := e.engine.Plan(e.Context(), w)
	if err == nil {
		_, err = e.engine.Apply(e.Context(), w, p, nil)
	}
	var f *deploy.Failure
	if !errors.As(err, &f) {
		e.Fatalf("error %v (%T), want a *deploy.Failure", err, err)
	}
	return f
}

func (e *env) says(f *deploy.Failure, reason string, words ...string) {
	e.Helper()
	if f.Reason != reason {
		e.Errorf("reason %s, want %s: %v", f.Reason, reason, f)
	}
	for _, w := range words {
		if !strings.Contains(f.Error(), w) {
			e.Errorf("%q lacks %q", f, w)
		}
	}
}

func TestUpgradeRemediation(t *testing.T) {
	good := map[string]string{"a": pods("a", "", ""), "m": configMapNamed("m")}
	bad := map[string]string{"a": pods("a", never, ""), "extra": configMapNamed("extra")}
	t.Run("rolled back, tried again, rolled back, and then left there until there is news", func(t *testing.T) {
		e := newEnv(t)
		target := e.remedied(func(s *deploy.HelmReleaseSpec) { s.Upgrade.Remediation = &deploy.UpgradeRemediation{Retries: 1} })
		e.bring(target, e.revision(plain("1.0.0", good)))
		broken := deploy.Work{Target: target, Revision: e.revision(plain("1.1.0", bad))}
		e.says(e.fails(broken), deploy.ReasonTimeout, "is not ready", "it was rolled back to revision 1", "retry 1 of 1 follows")
		wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:failed 3:deployed")
		wantEqual(t, "config maps", e.configMaps(e.ns), "m")
		e.restart()
		e.says(e.fails(broken), deploy.ReasonTimeout, "it was rolled back to revision 3", "no retries are left")
		wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:failed 3:superseded 4:failed 5:deployed")
		e.restart()
		for range 2 {
			f := e.fails(broken)
			e.says(f, deploy.ReasonRetriesExceeded, "it failed 2 times and was undone", "towline reconcile")
			wantEqual(t, "time of the next look", f.RetryAfter, time.Hour)
		}
		wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:failed 3:superseded 4:failed 5:deployed")

		// Somebody asks: counted anew.
		asked := broken
		asked.Asked = true
		e.says(e.fails(asked), deploy.ReasonTimeout, "it was rolled back to revision 5", "retry 1 of 1 follows")
		// News: another chart.
		e.bring(target, e.revision(plain("1.2.0", good)))
		if got := e.history(e.ns, "web"); !strings.HasSuffix(got, ":deployed") {
			t.Errorf("history %s", got)
		}
	})
	t.Run("without retries the only failure is left as it is", func(t *testing.T) {
		e := newEnv(t)
		target := e.remedied(func(s *deploy.HelmReleaseSpec) { s.Upgrade.Remediation = &deploy.UpgradeRemediation{} })
		e.bring(target, e.revision(plain("1.0.0", good)))
		broken := deploy.Work{Target: target, Revision: e.revision(plain("1.1.0", bad))}
		e.says(e.fails(broken), deploy.ReasonTimeout, "no retries are left")
		e.says(e.fails(broken), deploy.ReasonRetriesExceeded, "it failed, and no retries are left")
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed 2:failed")
	})
	t.Run("by uninstalling, and installed anew", func(t *testing.T) {
		e := newEnv(t)
		target := e.remedied(func(s *deploy.HelmReleaseSpec) {
			s.Upgrade.Remediation = &deploy.UpgradeRemediation{Retries: 1, Strategy: deploy.RemediateUninstall}
			s.Install.DisableWait = true
		})
		e.bring(target, e.revision(plain("1.0.0", good)))
		broken := deploy.Work{Target: target, Revision: e.revision(plain("1.1.0", bad))}
		e.says(e.fails(broken), deploy.ReasonTimeout, "what it left was uninstalled")
		wantEqual(t, "config maps", e.configMaps(e.ns), "")
		e.bring(target, broken.Revision)
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	})
	t.Run("without a policy it is tried again for ever, and nothing is undone", func(t *testing.T) {
		e := newEnv(t)
		target := e.remedied(func(s *deploy.HelmReleaseSpec) {
			s.Upgrade.Strategy = &deploy.Strategy{Name: deploy.StrategyRetry, RetryInterval: &metav1.Duration{Duration: 7 * time.Minute}}
		})
		e.bring(target, e.revision(plain("1.0.0", good)))
		broken := deploy.Work{Target: target, Revision: e.revision(plain("1.1.0", bad))}
		for range 2 {
			f := e.fails(broken)
			e.says(f, deploy.ReasonTimeout, "is not ready")
			wantEqual(t, "time of the next try", f.RetryAfter, 7*time.Minute)
		}
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed 2:failed 3:failed")
	})
	t.Run("a cancelled attempt is no failure", func(t *testing.T) {
		e := newEnv(t)
		target := e.remedied(func(s *deploy.HelmReleaseSpec) {
			s.Upgrade = &deploy.Upgrade{Remediation: &deploy.UpgradeRemediation{Retries: 1}}
		})
		e.bring(target, e.revision(plain("1.0.0", good)))
		r := e.revision(plain("1.1.0", bad))
		ctx, cancel := context.WithCancel(t.Context())
		w := deploy.Work{Target: target, Revision: r}
		p, err := e.engine.Plan(ctx, w)
		e.must(err)
		_, err = e.engine.Apply(ctx, w, p, func(phase deploy.Phase, _ string) {
			if phase == deploy.PhaseWaiting {
				cancel()
			}
		})
		wantFailure(t, err, deploy.ReasonCanceled, "")
		e.restart()
		e.bring(target, e.revision(plain("1.2.0", good)))
		if got := e.history(e.ns, "web"); strings.Contains(got, "4:") {
			t.Errorf("history %s: something was undone", got)
		}
	})
}

func TestInstallRemediation(t *testing.T) {
	bad := map[string]string{"a": pods("a", never, ""), "extra": configMapNamed("extra")}
	t.Run("uninstalled, tried again, and the last try left as it is", func(t *testing.T) {
		e := newEnv(t)
		target := e.remedied(func(s *deploy.HelmReleaseSpec) { s.Install.Remediation = &deploy.InstallRemediation{Retries: 1} })
		broken := deploy.Work{Target: target, Revision: e.revision(plain("1.0.0", bad))}
		e.says(e.fails(broken), deploy.ReasonTimeout, "what it left was uninstalled", "retry 1 of 1 follows")
		wantEqual(t, "config maps", e.configMaps(e.ns), "")
		e.says(e.fails(broken), deploy.ReasonTimeout, "no retries are left")
		wantEqual(t, "history", e.history(e.ns, "web"), "1:failed")
		wantEqual(t, "config maps", e.configMaps(e.ns), "extra")
		e.restart()
		e.says(e.fails(broken), deploy.ReasonRetriesExceeded, "it failed 2 times, and no retries are left")
		e.bring(target, e.revision(plain("1.1.0", map[string]string{"m": configMapNamed("m")})))
		wantEqual(t, "config maps", e.configMaps(e.ns), "m")
	})
	t.Run("the last try is uninstalled too where the policy says so", func(t *testing.T) {
		e := newEnv(t)
		yes := true
		target := e.remedied(func(s *deploy.HelmReleaseSpec) {
			s.Install.Remediation = &deploy.InstallRemediation{RemediateLastFailure: &yes}
		})
		broken := deploy.Work{Target: target, Revision: e.revision(plain("1.0.0", bad))}
		e.says(e.fails(broken), deploy.ReasonTimeout, "what it left was uninstalled", "no retries are left")
		e.says(e.fails(broken), deploy.ReasonRetriesExceeded, "it failed and was undone", "the last error was: ", "is not ready")
		wantEqual(t, "config maps", e.configMaps(e.ns), "")
	})
}

func TestTestsOfReleases(t *testing.T) {
	chart := func(version, probe string) map[string]string {
		return map[string]string{"m": configMapNamed("m" + strings.ReplaceAll(version, ".", "")), "probe": testPod("probe", probe)}
	}
	const fails = `kubelet.towline.dev/fail: "true"`
	t.Run("run once for each revision, and count", func(t *testing.T) {
		e := newEnv(t)
		target := e.remedied(func(s *deploy.HelmReleaseSpec) {
			s.Test = &deploy.Test{Enable: true}
			s.Upgrade.Remediation = &deploy.UpgradeRemediation{Retries: 1}
		})
		first := e.revision(plain("1.0.0", chart("1.0.0", "")))
		e.bring(target, first)
		pod := func() *corev1.Pod {
			p, err := e.set.CoreV1().Pods(e.ns).Get(t.Context(), "probe", metav1.GetOptions{})
			e.must(err)
			return p
		}
		ran := pod().UID
		e.restart()
		if got := e.bring(target, first); len(got) > 0 {
			t.Errorf("after a restart: %v", got)
		}
		wantEqual(t, "test pod", pod().UID, ran)

		broken := deploy.Work{Target: target, Revision: e.revision(plain("1.1.0", chart("1.1.0", fails)))}
		e.says(e.fails(broken), deploy.ReasonTestFailed, "test probe: ", "it was rolled back to revision 1", "retry 1 of 1 follows")
		wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:superseded 3:deployed")
		wantEqual(t, "config maps", e.configMaps(e.ns), "m100")
		e.says(e.fails(broken), deploy.ReasonTestFailed, "it was rolled back to revision 3", "no retries are left")
		e.says(e.fails(broken), deploy.ReasonRetriesExceeded, "it failed 2 times and was undone")
	})
	t.Run("failures are ignored where that is wanted", func(t *testing.T) {
		e := newEnv(t)
		target := e.remedied(func(s *deploy.HelmReleaseSpec) { s.Test = &deploy.Test{Enable: true, IgnoreFailures: true} })
		r := e.revision(plain("1.0.0", chart("1.0.0", fails)))
		e.bring(target, r)
		e.restart()
		if got := e.bring(target, r); len(got) > 0 {
			t.Errorf("after a restart: %v", got)
		}
	})
	t.Run("run later where they were not wanted before", func(t *testing.T) {
		e := newEnv(t)
		r := e.revision(plain("1.0.0", chart("1.0.0", "")))
		e.bring(e.remedied(func(*deploy.HelmReleaseSpec) {}), r)
		if _, err := e.set.CoreV1().Pods(e.ns).Get(t.Context(), "probe", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("it ran: %v", err)
		}
		got := e.bring(e.remedied(func(s *deploy.HelmReleaseSpec) { s.Test = &deploy.Test{Enable: true} }), r)
		if len(got) != 1 || got[0] != deploy.ActionTest {
			t.Errorf("did %v", got)
		}
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	})
}

func TestRollbackByHand(t *testing.T) {
	e := newEnv(t)
	target := e.remedied(func(*deploy.HelmReleaseSpec) {})
	chart := func(version string) deploy.Revision {
		return e.revision(plain(version, map[string]string{"m": configMapNamed("m" + strings.ReplaceAll(version, ".", ""))}))
	}
	e.bring(target, chart("1.0.0"))
	e.bring(target, chart("1.1.0"))
	newest := chart("1.2.0")
	e.bring(target, newest)
	back := func(to int) (int, error) { return e.engine.Rollback(t.Context(), target, to, nil) }
	held := func(t *testing.T) {
		t.Helper()
		e.restart()
		f := e.fails(deploy.Work{Target: target, Revision: newest})
		e.says(f, deploy.ReasonRolledBack, "it was rolled back by hand")
		wantEqual(t, "degraded", f.Degraded, true)
	}
	t.Run("to the revision before, and held there", func(t *testing.T) {
		to, err := back(0)
		e.must(err)
		wantEqual(t, "revision", to, 2)
		wantEqual(t, "config maps", e.configMaps(e.ns), "m110")
		held(t)
		wantEqual(t, "history", e.history(e.ns, "web"), "1:superseded 2:superseded 3:superseded 4:deployed")
	})
	t.Run("further, and still held", func(t *testing.T) {
		to, err := back(1)
		e.must(err)
		wantEqual(t, "revision", to, 1)
		wantEqual(t, "config maps", e.configMaps(e.ns), "m100")
		held(t)
	})
	t.Run("nowhere", func(t *testing.T) {
		for to, words := range map[int]string{99: "there is no revision 99", 5: "revision 5 is the one that is there"} {
			_, err := back(to)
			wantFailure(t, err, deploy.ReasonRollbackFailed, words)
		}
		other := target
		other.Name.Name = "other"
		_, err := e.engine.Rollback(t.Context(), other, 1, nil)
		wantFailure(t, err, deploy.ReasonRollbackFailed, "it belongs to")
		none := e.target("", func(s *deploy.HelmReleaseSpec) { s.ReleaseName = "none" })
		_, err = e.engine.Rollback(t.Context(), none, 1, nil)
		wantFailure(t, err, deploy.ReasonRollbackFailed, "it is not installed")
	})
	t.Run("somebody who asks gets what is wanted again", func(t *testing.T) {
		w := deploy.Work{Target: target, Revision: newest, Full: true, Asked: true}
		p, err := e.engine.Plan(t.Context(), w)
		e.must(err)
		_, err = e.engine.Apply(t.Context(), w, p, nil)
		e.must(err)
		wantEqual(t, "config maps", e.configMaps(e.ns), "m120")
	})
	t.Run("and so does news", func(t *testing.T) {
		_, err := back(0)
		e.must(err)
		e.bring(target, chart("1.3.0"))
		wantEqual(t, "config maps", e.configMaps(e.ns), "m130")
	})
}

func TestRepairs(t *testing.T) {
	e := newEnv(t)
	mode := func(m deploy.DriftMode) deploy.Target {
		return e.remedied(func(s *deploy.HelmReleaseSpec) { s.DriftDetection = &deploy.DriftDetection{Mode: m} })
	}
	r := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a"), "b": configMapNamed("b")}))
	e.bring(mode(deploy.DriftEnabled), r)
	spoil := func() {
		t.Helper()
		cm, err := e.set.CoreV1().ConfigMaps(e.ns).Get(t.Context(), "a", metav1.GetOptions{})
		e.must(err)
		cm.Data["a"] = "theirs"
		_, err = e.set.CoreV1().ConfigMaps(e.ns).Update(t.Context(), cm, metav1.UpdateOptions{FieldManager: "somebody"})
		e.must(err)
	}
	value := func() string {
		t.Helper()
		cm, err := e.set.CoreV1().ConfigMaps(e.ns).Get(t.Context(), "a", metav1.GetOptions{})
		e.must(err)
		return cm.Data["a"]
	}
	t.Run("a full run repairs what a plain one does not look for", func(t *testing.T) {
		spoil()
		changes, err := e.run(t.Context(), mode(deploy.DriftEnabled), r, false)
		e.must(err)
		wantEqual(t, "changes", len(changes), 0)
		changes, err = e.run(t.Context(), mode(deploy.DriftEnabled), r, true)
		e.must(err)
		if len(changes) != 1 || changes[0].Action != deploy.ActionUpdate || changes[0].Reason != `it was changed by "somebody"` {
			t.Errorf("changes %v", changes)
		}
		wantEqual(t, "value", value(), "b")
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	})
	t.Run("a warning leaves it", func(t *testing.T) {
		spoil()
		_, err := e.run(t.Context(), mode(deploy.DriftWarn), r, true)
		wantFailure(t, err, deploy.ReasonDriftDetected, "ConfigMap/"+e.ns+"/a: it was changed by \"somebody\"")
		wantEqual(t, "value", value(), "theirs")
		d, err := e.engine.Diff(t.Context(), deploy.Work{Target: mode(deploy.DriftEnabled), Revision: r})
		e.must(err)
		if len(d) != 1 || d[0].Before == nil || d[0].After == nil || d[0].Fields[0] != "data.a" {
			t.Errorf("diff %v", d)
		}
	})
	t.Run("disabled, nobody looks", func(t *testing.T) {
		changes, err := e.run(t.Context(), mode(deploy.DriftDisabled), r, true)
		e.must(err)
		wantEqual(t, "changes", len(changes), 0)
		wantEqual(t, "value", value(), "theirs")
	})
}
