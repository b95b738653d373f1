package schedule

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
)

// judges makes a target judge its dependency by an expression.
func judges(dep deploy.Name, text string) func(*deploy.Target) {
	return func(t *deploy.Target) { t.ReadyExprs = map[deploy.Name]string{dep: text} }
}

func TestObject(t *testing.T) {
	began := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	spec := entry(ks("db"), "s", func(t *deploy.Target) { t.Kustomization.Path, t.Kustomization.Prune = "./db", true })
	one := version{"sha256:1", spec.Hash}
	good := &deploy.Good{Digest: "sha256:1", Revision: "v@sha256:1", Hash: spec.Hash}
	reached := deploy.Outcome{Phase: deploy.PhaseReady, Revision: "v@sha256:1", Finished: began}
	condition := func(status, reason, message string, generation int64) map[string]any {
		return map[string]any{"type": "Ready", "status": status, "reason": reason, "message": message, "observedGeneration": generation}
	}
	for _, c := range []struct {
		name   string
		target target
		want   map[string]any // without the time
	}{
		{"never tried", target{}, condition("Unknown", "Progressing", "not tried yet", -1)},
		{"Ready", target{ready: &one, attempted: &one, last: reached}, condition("True", "ReconciliationSucceeded", "Applied revision: v@sha256:1", 1)},
		{"Ready before a restart", target{ready: &one, last: reached}, condition("True", "ReconciliationSucceeded", "Applied revision: v@sha256:1", 1)},
		{"Ready at an earlier spec", target{ready: &version{"sha256:1", "old"}, attempted: &version{"sha256:1", "old"}, last: reached},
			condition("True", "ReconciliationSucceeded", "Applied revision: v@sha256:1", -1)},
		{"checking what it is at", target{ready: &one, attempted: &one, last: reached, job: &job{action: actionRun, version: one}},
			condition("True", "ReconciliationSucceeded", "Applied revision: v@sha256:1", 1)},
		{"on the way to something new", target{ready: &one, attempted: &one, last: reached, job: &job{action: actionRun, version: version{"sha256:2", spec.Hash}}},
			condition("Unknown", "Progressing", "an attempt is running", 1)},
		{"being written down only", target{ready: &one, attempted: &one, last: reached, job: &job{action: actionSave}},
			condition("True", "ReconciliationSucceeded", "Applied revision: v@sha256:1", 1)},
		{"being deleted elsewhere", target{ready: nil, last: reached, job: &job{action: actionReplace}}, condition("Unknown", "Progressing", "an attempt is running", -1)},
		{"failed", target{attempted: &one, last: deploy.Outcome{Phase: deploy.PhaseFailed, Reason: "ApplyFailed", Err: errBad}},
			condition("False", "ApplyFailed", errBad.Error(), 1)},
		{"failed without a reason", target{attempted: &one, last: deploy.Outcome{Phase: deploy.PhaseDegraded}}, condition("False", "Degraded", "", 1)},
	} {
		t.Run("has one condition when it is "+c.name, func(t *testing.T) {
			c.target.spec = spec
			o, err := c.target.object()
			if err != nil {
				t.Fatal(err)
			}
			status := o["status"].(map[string]any)
			conditions := status["conditions"].([]any)
			if len(conditions) != 1 {
				t.Fatalf("got %v", conditions)
			}
			got := conditions[0].(map[string]any)
			delete(got, "lastTransitionTime")
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if status["observedGeneration"] != got["observedGeneration"] {
				t.Errorf("status is of generation %v", status["observedGeneration"])
			}
		})
	}
	t.Run("has the shape of Flux's", func(t *testing.T) {
		tg := &target{spec: spec, ready: &one, attempted: &one, last: reached}
		tg.note(deploy.Record{LastGood: good, History: []deploy.Past{
			{Revision: "v@sha256:1", Phase: deploy.PhaseReady, At: began, Took: 1.5},
			{Revision: "v@sha256:0", Phase: deploy.PhaseFailed, Reason: "ApplyFailed", At: began},
		}})
		got, err := tg.object()
		if err != nil {
			t.Fatal(err)
		}
		ready := condition("True", "ReconciliationSucceeded", "Applied revision: v@sha256:1", 1)
		ready["lastTransitionTime"] = "2030-01-01T12:00:00Z"
		past := func(revision, status, took string) map[string]any {
			return map[string]any{
				"metadata": map[string]any{"revision": revision}, "lastReconciled": "2030-01-01T12:00:00Z", "lastReconciledStatus": status, "lastReconciledDuration": took,
			}
		}
		want := map[string]any{
			"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
			"metadata": map[string]any{"name": "db", "namespace": "ns", "generation": int64(1), "labels": map[string]any{}, "annotations": map[string]any{}},
			"spec":     map[string]any{"path": "./db", "prune": true, "sourceRef": map[string]any{"name": ""}},
			"status": map[string]any{
				"observedGeneration": int64(1), "conditions": []any{ready}, "lastAppliedRevision": "v@sha256:1", "lastAttemptedRevision": "v@sha256:1",
				"history": []any{past("v@sha256:1", "ReconciliationSucceeded", "1.5s"), past("v@sha256:0", "ApplyFailed", "0s")},
			},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
	t.Run("has a release's values, whole numbers as such", func(t *testing.T) {
		tg := &target{spec: entry(hr("db"), "s", func(t *deploy.Target) { t.HelmRelease.Values = deploy.Values(`{"replicas":2}`) })}
		got, err := tg.object()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(map[string]any{"replicas": int64(2)}, got["spec"].(map[string]any)["values"]); d != "" || got["kind"] != "HelmRelease" {
			t.Error(got["kind"], d)
		}
	})
}

const isReady = "dep.status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True' && e.observedGeneration == dep.metadata.generation)"

func TestReadyExpr(t *testing.T) {
	failing := func(r *rig, text string) {
		r.fail(ks("a"), errBad)
		r.Set([]deploy.Target{entry(ks("a"), "s"), entry(hr("b"), "s", needs(ks("a")), judges(ks("a"), text))})
		r.Revised(revision("s", "1"))
	}
	t.Run("starts a dependant although its dependency has failed", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			failing(r, "dep.status.conditions.exists(c, c.type == 'Ready' && c.status == 'False' && c.reason == 'ApplyFailed')")
			r.want("kustomization/a@1", "helmrelease/b@1")
		})
	})
	t.Run("holds a dependant back until it is true", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			failing(r, isReady)
			r.want("kustomization/a@1")
			r.says(hr("b"), deploy.PhasePending, "kustomization/a, whose readyExpr is not true yet")
			r.fail(ks("a"), nil)
			r.pass(time.Minute)
			r.want("kustomization/a@1", "helmrelease/b@1")
			r.says(hr("b"), deploy.PhaseReady)
		})
	})
	t.Run("is not asked of a dependency that is not in the config", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(hr("b"), "s", needs(ks("a")), judges(ks("a"), "true"))})
			r.Revised(revision("s", "1"))
			r.want()
			r.says(hr("b"), deploy.PhasePending, "kustomization/a, which is not in the config")
		})
	})
	t.Run("that cannot be evaluated blocks and says why, without a value", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{
				entry(hr("a"), "s", func(t *deploy.Target) { t.HelmRelease.Values = deploy.Values(`{"password":"canary-4711"}`) }),
				entry(ks("b"), "s", needs(hr("a")), judges(hr("a"), "dep.status.nothing == 1")),
				entry(ks("c"), "s", needs(hr("a")), judges(hr("a"), "url(dep.spec.values.password).getPort() == '1'")),
			})
			r.Revised(revision("s", "1"))
			r.want("helmrelease/a@1")
			r.says(ks("b"), deploy.PhasePending, "helmrelease/a, whose readyExpr cannot be evaluated: no such key: nothing")
			if st := r.state(ks("c")); len(st.WaitsFor) != 1 || !strings.Contains(st.WaitsFor[0], "cannot be evaluated") || strings.Contains(st.WaitsFor[0], "canary") {
				t.Errorf("waits for %q", st.WaitsFor)
			}
		})
	})
	t.Run("that is no expression blocks and says why", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			failing(r, "nobody.knows")
			r.want("kustomization/a@1")
			r.says(hr("b"), deploy.PhasePending, "kustomization/a, which cannot be judged: readyExpr, column 1: undeclared reference to 'nobody'")
		})
	})
	t.Run("changes with the config", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			failing(r, isReady)
			r.want("kustomization/a@1")
			r.Set([]deploy.Target{entry(ks("a"), "s"), entry(hr("b"), "s", needs(ks("a")), judges(ks("a"), "true"))})
			r.want("helmrelease/b@1")
		})
	})
	t.Run("is evaluated again only where something changed", func(t *testing.T) {
		s := known(func(_ *state, a, b *target) { b.rules = readyRules(entry(hr("b"), "s", judges(ks("a"), isReady))) })
		a, b := s.targets[ks("a")], s.targets[hr("b")]
		if got := s.blockers(b); len(got) != 0 {
			t.Fatalf("waits for %q", got)
		}
		b.rules[ks("a")].words = ", remembered"
		if got := s.blockers(b); len(got) != 1 {
			t.Fatalf("it was evaluated although nothing changed: %q", got)
		}
		a.ready, a.last.Phase = nil, deploy.PhaseFailed
		if d := cmp.Diff([]string{"kustomization/a, whose readyExpr is not true yet"}, s.blockers(b)); d != "" {
			t.Error(d)
		}
	})
}

// Where a thousand targets wait for an expression, an event must stay cheap too.
func BenchmarkNextWithReadyExpr(b *testing.B) {
	s := waiting()
	b.ReportAllocs()
	for b.Loop() {
		next(now, s)
	}
}

// The worst: with each event something changed that all of them see.
func BenchmarkNextWithReadyExprChanged(b *testing.B) {
	s := waiting()
	a := s.targets[ks("a")]
	b.ReportAllocs()
	for b.Loop() {
		a.last.Finished = a.last.Finished.Add(time.Second)
		next(now, s)
	}
}

// waiting is a state in which a thousand targets wait for one.
func waiting() *state {
	return known(func(s *state, a, _ *target) {
		a.ready = nil
		spec := entry(ks("t"), "s", needs(ks("a")), judges(ks("a"), isReady))
		for i := range 1000 {
			c := &target{}
			c.take(spec)
			c.spec.Name = ks("t" + string(rune('a'+i/26/26%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i%26)))
			s.targets[c.spec.Name] = c
		}
	})
}
