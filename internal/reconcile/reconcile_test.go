package reconcile_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/reconcile"
)

// engine answers as it is told; an empty plan unless changes is set.
type engine struct {
	changes []deploy.Change
	plan    func(context.Context) error
	apply   func(context.Context, deploy.Progress) error
	delete  func(context.Context) error
	deleted deploy.Target // what Delete was last called with
	calls   []string
}

func (e *engine) Plan(ctx context.Context, _ deploy.Work) (*deploy.Plan, error) {
	e.calls = append(e.calls, "plan")
	if e.plan != nil {
		if err := e.plan(ctx); err != nil {
			return nil, err
		}
	}
	return &deploy.Plan{Changes: e.changes}, nil
}

func (e *engine) Apply(ctx context.Context, _ deploy.Work, _ *deploy.Plan, progress deploy.Progress) ([]deploy.Change, error) {
	e.calls = append(e.calls, "apply")
	if e.apply != nil {
		return e.changes, e.apply(ctx, progress)
	}
	return e.changes, nil
}

func (e *engine) Delete(ctx context.Context, t deploy.Target, _ deploy.Progress) error {
	e.deleted = t
	e.calls = append(e.calls, "delete")
	if e.delete != nil {
		return e.delete(ctx)
	}
	return nil
}

func work(kind deploy.Kind) deploy.Work {
	t := deploy.Target{Name: deploy.Name{Kind: kind, Namespace: "ns", Name: "a"}, Timeout: time.Minute, Hash: "h"}
	if kind == deploy.KindHelmRelease {
		t.HelmRelease = &deploy.HelmReleaseSpec{Upgrade: &deploy.Upgrade{Timeout: &metav1.Duration{Duration: 2 * time.Minute}}}
	}
	return deploy.Work{Target: t, Revision: deploy.Revision{Ref: "v1", Digest: "sha256:1"}}
}

func reconciler(e reconcile.Engine) (*reconcile.Reconciler, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return reconcile.New(map[deploy.Kind]reconcile.Engine{deploy.KindKustomization: e, deploy.KindHelmRelease: e}, zap.New(core)), logs
}

var oneChange = []deploy.Change{{Action: deploy.ActionCreate, Object: deploy.ObjectID{Kind: "ConfigMap", Name: "a"}}}

func TestReconcile(t *testing.T) {
	t.Run("applies nothing when the plan is empty", func(t *testing.T) {
		e := &engine{}
		r, _ := reconciler(e)
		out := r.Reconcile(t.Context(), work(deploy.KindKustomization), nil)
		if d := cmp.Diff([]string{"plan"}, e.calls); d != "" {
			t.Error(d)
		}
		if out.Phase != deploy.PhaseReady || out.Revision != "v1@sha256:1" || out.Hash != "h" || out.Digest != "sha256:1" || out.Finished.Before(out.Started) {
			t.Errorf("outcome %+v", out)
		}
	})
	t.Run("says that it applies before it does, and passes on what the engine says", func(t *testing.T) {
		var said []string
		e := &engine{changes: oneChange, apply: func(_ context.Context, p deploy.Progress) error {
			p(deploy.PhaseWaiting, "for a")
			return nil
		}}
		r, _ := reconciler(e)
		out := r.Reconcile(t.Context(), work(deploy.KindKustomization), func(p deploy.Phase, words string) { said = append(said, strings.TrimSpace(string(p)+" "+words)) })
		if d := cmp.Diff([]string{"Building", "Applying", "Waiting for a"}, said); d != "" {
			t.Error(d)
		}
		if out.Phase != deploy.PhaseReady || len(out.Changes) != 1 {
			t.Errorf("outcome %+v", out)
		}
	})
	t.Run("does not apply when it is cancelled at the last moment", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		e := &engine{changes: oneChange}
		r, _ := reconciler(e)
		out := r.Reconcile(ctx, work(deploy.KindKustomization), func(p deploy.Phase, _ string) {
			if p == deploy.PhaseApplying {
				cancel()
			}
		})
		if out.Reason != deploy.ReasonCanceled || slices.Contains(e.calls, "apply") {
			t.Errorf("calls %v, outcome %+v", e.calls, out)
		}
	})
}

func TestErrorsBecomeReasons(t *testing.T) {
	failure := func(reason string, degraded bool) error {
		return fmt.Errorf("wrapped: %w", &deploy.Failure{Reason: reason, Degraded: degraded, Err: errors.New("no")})
	}
	slow := x509.CertificateInvalidError{Reason: x509.Expired, Cert: &x509.Certificate{NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)}}
	for _, tc := range []struct {
		name   string
		kind   deploy.Kind
		plan   error
		apply  error
		phase  deploy.Phase
		reason string
	}{
		{"the engine's own", deploy.KindKustomization, failure(deploy.ReasonBuildFailed, false), nil, deploy.PhaseFailed, deploy.ReasonBuildFailed},
		{"the engine's own, where the rest is fine", deploy.KindKustomization, nil, failure(deploy.ReasonPruneBlocked, true), deploy.PhaseDegraded, deploy.ReasonPruneBlocked},
		{"the stage's, of a plan", deploy.KindHelmRelease, errors.New("no"), nil, deploy.PhaseFailed, deploy.ReasonPlanFailed},
		{"the stage's, of an apply", deploy.KindHelmRelease, nil, errors.New("no"), deploy.PhaseFailed, deploy.ReasonApplyFailed},
		{"the stage's, of a failure without a reason", deploy.KindKustomization, nil, failure("", false), deploy.PhaseFailed, deploy.ReasonApplyFailed},
		{"a clock that is slow", deploy.KindKustomization, nil, fmt.Errorf("wrapped: %w", &deploy.Failure{Reason: deploy.ReasonApplyFailed, Err: slow}), deploy.PhaseFailed, deploy.ReasonClockSuspect},
		{"a timeout", deploy.KindKustomization, nil, fmt.Errorf("get: %w", context.DeadlineExceeded), deploy.PhaseFailed, deploy.ReasonTimeout},
		{"the stage's, of a request that was cancelled by somebody else", deploy.KindKustomization, nil, context.Canceled, deploy.PhaseFailed, deploy.ReasonApplyFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &engine{changes: oneChange, plan: func(context.Context) error { return tc.plan }, apply: func(context.Context, deploy.Progress) error { return tc.apply }}
			r, _ := reconciler(e)
			out := r.Reconcile(t.Context(), work(tc.kind), nil)
			if tc.reason == deploy.ReasonClockSuspect && (out.RetryAfter <= 0 || out.RetryAfter > 30*time.Second || !strings.HasPrefix(out.Err.Error(), "clock suspect: the certificate")) {
				t.Errorf("tried again after %s: %v", out.RetryAfter, out.Err)
			}
			if out.Phase != tc.phase || out.Reason != tc.reason || out.Err == nil {
				t.Errorf("got %s, %s, %v; want %s, %s", out.Phase, out.Reason, out.Err, tc.phase, tc.reason)
			}
		})
	}
	t.Run("a clock that is slow, whatever it kept the engine from, and soon another try", func(t *testing.T) {
		begins := time.Now().Add(time.Hour)
		early := x509.CertificateInvalidError{Cert: &x509.Certificate{NotBefore: begins, NotAfter: begins.Add(time.Hour)}, Reason: x509.Expired}
		e := &engine{changes: oneChange, apply: func(context.Context, deploy.Progress) error {
			return &deploy.Failure{Reason: deploy.ReasonBuildFailed, RetryAfter: time.Hour, Err: early}
		}}
		r, _ := reconciler(e)
		out := r.Reconcile(t.Context(), work(deploy.KindKustomization), nil)
		if out.Phase != deploy.PhaseFailed || out.Reason != deploy.ReasonClockSuspect || out.RetryAfter <= 0 || out.RetryAfter > 25*time.Second {
			t.Errorf("outcome %+v", out)
		}
	})
	t.Run("a cancellation, whatever the engine makes of it", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		e := &engine{changes: oneChange, apply: func(context.Context, deploy.Progress) error {
			cancel()
			return failure(deploy.ReasonHealthCheckFailed, true)
		}}
		r, _ := reconciler(e)
		if out := r.Reconcile(ctx, work(deploy.KindKustomization), nil); out.Reason != deploy.ReasonCanceled || out.Phase != deploy.PhaseFailed {
			t.Errorf("outcome %+v", out)
		}
	})
	t.Run("none, of an attempt that ended well although it was cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		e := &engine{changes: oneChange, apply: func(context.Context, deploy.Progress) error { cancel(); return nil }}
		r, _ := reconciler(e)
		if out := r.Reconcile(ctx, work(deploy.KindKustomization), nil); out.Reason != "" || out.Phase != deploy.PhaseReady {
			t.Errorf("outcome %+v", out)
		}
	})
	t.Run("an unknown kind", func(t *testing.T) {
		r := reconcile.New(nil, zap.NewNop())
		if out := r.Reconcile(t.Context(), work(deploy.KindKustomization), nil); out.Err == nil || out.Phase != deploy.PhaseFailed {
			t.Errorf("outcome %+v", out)
		}
	})
}

func TestTimeout(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for kind, want := range map[deploy.Kind]time.Duration{
		deploy.KindKustomization: time.Minute,     // its own
		deploy.KindHelmRelease:   9 * time.Minute, // four operations of the longest timeout, and a minute
	} {
		t.Run("ends an attempt for a "+kind.Word(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := reconciler(&engine{plan: hang})
				out := r.Reconcile(t.Context(), work(kind), nil)
				if took := out.Finished.Sub(out.Started); took != want || out.Reason != deploy.ReasonTimeout || !strings.HasPrefix(out.Err.Error(), "gave up after "+want.String()) {
					t.Errorf("it took %s: %s: %v", took, out.Reason, out.Err)
				}
			})
		})
		t.Run("ends the deletion of a "+kind.Word(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := reconciler(&engine{delete: hang})
				out := r.Delete(t.Context(), work(kind).Target, nil)
				if took := out.Finished.Sub(out.Started); took != want || out.Reason != deploy.ReasonTimeout {
					t.Errorf("it took %s: %s", took, out.Reason)
				}
			})
		})
	}
}

func TestDelete(t *testing.T) {
	t.Run("is Ready when it is gone", func(t *testing.T) {
		r, _ := reconciler(&engine{})
		if out := r.Delete(t.Context(), work(deploy.KindKustomization).Target, nil); out.Phase != deploy.PhaseReady || out.Err != nil {
			t.Errorf("outcome %+v", out)
		}
	})
	t.Run("leaves a suspended release alone", func(t *testing.T) {
		r, _ := reconciler(&engine{delete: func(context.Context) error { return errors.New("it was asked to delete") }})
		target := work(deploy.KindHelmRelease).Target
		target.Suspend = true
		if out := r.Delete(t.Context(), target, nil); out.Phase != deploy.PhaseReady || out.Err != nil {
			t.Errorf("outcome %+v", out)
		}
	})
	t.Run("lets the objects of a suspended Kustomization go without deleting them", func(t *testing.T) {
		target := work(deploy.KindKustomization).Target
		target.Suspend = true
		target.Kustomization = &deploy.KustomizationSpec{Prune: true, DeletionPolicy: deploy.DeletionDelete}
		e := &engine{}
		r, _ := reconciler(e)
		if out := r.Delete(t.Context(), target, nil); out.Err != nil {
			t.Fatal(out.Err)
		}
		if k := e.deleted.Kustomization; k == nil || k.DeletionPolicy != deploy.DeletionOrphan {
			t.Errorf("the engine was asked to delete with %+v", k)
		}
		if target.Kustomization.DeletionPolicy != deploy.DeletionDelete {
			t.Error("the target that was given is changed")
		}
	})
	for kind, reason := range map[deploy.Kind]string{deploy.KindKustomization: deploy.ReasonPruneFailed, deploy.KindHelmRelease: deploy.ReasonUninstallFailed} {
		t.Run("has the reason "+reason+" for a "+kind.Word(), func(t *testing.T) {
			r, _ := reconciler(&engine{delete: func(context.Context) error { return errors.New("no") }})
			if out := r.Delete(t.Context(), work(kind).Target, nil); out.Reason != reason {
				t.Errorf("outcome %+v", out)
			}
		})
	}
}

func TestPanics(t *testing.T) {
	e := &engine{plan: func(context.Context) error { panic("canary-4711") }}
	r, logs := reconciler(e)
	out := r.Reconcile(t.Context(), work(deploy.KindKustomization), nil)
	t.Run("become a failed outcome without their text", func(t *testing.T) {
		if out.Phase != deploy.PhaseFailed || out.Err == nil || strings.Contains(out.Err.Error(), "canary") || strings.Contains(out.Err.Error(), "goroutine") {
			t.Errorf("outcome %+v", out)
		}
	})
	t.Run("leave their stack in the log", func(t *testing.T) {
		found := logs.FilterMessage("an attempt panicked").All()
		if len(found) != 1 || !strings.Contains(found[0].ContextMap()["stack"].(string), "reconcile_test.go") {
			t.Errorf("logged %v", found)
		}
	})
}

func TestLog(t *testing.T) {
	e := &engine{}
	r, logs := reconciler(e)
	w := work(deploy.KindKustomization)
	info := func() (lines []string) {
		for _, l := range logs.TakeAll() {
			if l.Level == zapcore.InfoLevel {
				lines = append(lines, l.Message)
			}
		}
		return lines
	}
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"has a line for the first attempt", func() { r.Reconcile(t.Context(), w, nil) }, []string{"target reconciled"}},
		{"has none for a check that finds nothing", func() { r.Reconcile(t.Context(), w, nil) }, nil},
		{"has one for a repair", func() { e.changes = oneChange; r.Reconcile(t.Context(), w, nil) }, []string{"target reconciled"}},
		{"has one for the first failure", func() {
			e.plan = func(context.Context) error { return errors.New("no") }
			r.Reconcile(t.Context(), w, nil)
		}, []string{"target not reconciled"}},
		{"has none for its repetition", func() { r.Reconcile(t.Context(), w, nil) }, nil},
		{"has one for the recovery", func() { e.plan, e.changes = nil, nil; r.Reconcile(t.Context(), w, nil) }, []string{"target reconciled"}},
		{"has none for a cancelled attempt", func() {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			e.plan = func(ctx context.Context) error { return ctx.Err() }
			r.Reconcile(ctx, w, nil)
		}, nil},
		{"has one for the deletion", func() { r.Delete(t.Context(), w.Target, nil) }, []string{"target deleted"}},
	} {
		step.do()
		t.Run(step.name, func(t *testing.T) {
			if d := cmp.Diff(step.want, info()); d != "" {
				t.Error(d)
			}
		})
	}
}

// settler is an engine that can move.
type settler struct {
	engine
	stays bool
	fails error
}

func (s *settler) Move(context.Context, deploy.Target, deploy.Target) (bool, error) {
	return s.stays, s.fails
}

func TestMove(t *testing.T) {
	target := work(deploy.KindKustomization).Target
	for _, c := range []struct {
		name    string
		engine  reconcile.Engine
		deleted func(reconcile.Engine) bool
		gone    bool
		reason  string
	}{
		{"deletes what an engine without a say left", &engine{}, func(e reconcile.Engine) bool { return e.(*engine).deleted.Name == target.Name }, true, ""},
		{"deletes what does not stay", &settler{}, func(e reconcile.Engine) bool { return e.(*settler).deleted.Name == target.Name }, true, ""},
		{"deletes nothing that stays", &settler{stays: true}, func(e reconcile.Engine) bool { return e.(*settler).deleted.Name == target.Name }, false, ""},
		{"deletes nothing where that is not known", &settler{fails: errors.New("no answer")}, func(e reconcile.Engine) bool { return e.(*settler).deleted.Name == target.Name }, false, deploy.ReasonPruneFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := reconcile.New(map[deploy.Kind]reconcile.Engine{deploy.KindKustomization: c.engine}, zap.NewNop())
			out := r.Move(t.Context(), target, target, nil)
			if out.Reason != c.reason || (out.Err == nil) != (out.Phase == deploy.PhaseReady) {
				t.Errorf("ended %s with %q: %v", out.Phase, out.Reason, out.Err)
			}
			if got := c.deleted(c.engine); got != c.gone {
				t.Errorf("deleted: %v, want %v", got, c.gone)
			}
		})
	}
}
