package schedule

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deploy"
)

var errBad = errors.New("bad")

func TestOrder(t *testing.T) {
	t.Run("runs nothing before there is a config, a record and a revision", func(t *testing.T) {
		memory := newMemory()
		memory.fails(errors.New("connection refused"))
		bubble(t, Limits{}, memory, func(r *rig) {
			r.Revised(revision("s", "1"))
			r.want()
			r.Set([]deploy.Target{entry(ks("a"), "s"), entry(ks("b"), "other")})
			r.want()
			r.says(ks("a"), deploy.PhasePending, "its record, which cannot be read: connection refused")
			memory.fails(nil)
			r.pass(time.Second)
			r.want("kustomization/a@1")
			r.says(ks("b"), deploy.PhasePending, "source/other, which has no revision yet")
			r.SourceState(deploy.SourceState{Name: src("other"), Message: "401 from the registry"})
			r.says(ks("b"), deploy.PhasePending, "source/other, which has no revision yet: 401 from the registry")
		})
	})
	t.Run("runs dependencies first, across kinds", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(ks("z"), true)
			r.hold(hr("m"), true)
			r.Set([]deploy.Target{entry(ks("a"), "s", needs(hr("m"))), entry(hr("m"), "chart", needs(ks("z"))), entry(ks("z"), "s")})
			r.Revised(revision("s", "1"))
			r.Revised(revision("chart", "c"))
			r.want("kustomization/z@1")
			r.says(hr("m"), deploy.PhasePending, "kustomization/z, which is Building")
			r.says(ks("a"), deploy.PhasePending, "helmrelease/m, which is not Ready yet")
			r.held(ks("z")).end(nil)
			r.want("helmrelease/m@c")
			r.held(hr("m")).end(nil)
			r.want("kustomization/a@1")
			r.says(ks("a"), deploy.PhaseReady)
		})
	})
	t.Run("does not run what depends on a failure, and says so", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.fail(ks("z"), errBad)
			r.Set([]deploy.Target{entry(ks("a"), "s", needs(ks("z"))), entry(ks("z"), "s")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/z@1")
			r.says(ks("z"), deploy.PhaseFailed, "its retry (attempt 2)")
			r.says(ks("a"), deploy.PhasePending, "kustomization/z, which is Failed (ApplyFailed)")
			if at := r.state(ks("a")).Next; !at.IsZero() {
				t.Errorf("what waits for another target is said to start at %s", at)
			}
			r.fail(ks("z"), nil)
			r.pass(time.Second)
			r.want("kustomization/z@1", "kustomization/a@1")
		})
	})
	t.Run("waits for a dependency of the same source to be at the same digest", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s", needs(ks("z"))), entry(ks("z"), "s")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/z@1", "kustomization/a@1")
			r.hold(ks("z"), true)
			r.Revised(revision("s", "2"))
			r.want("kustomization/z@2")
			r.says(ks("a"), deploy.PhasePending, "kustomization/z, which is Building")
			r.held(ks("z")).end(errBad)
			r.want()
			r.says(ks("a"), deploy.PhasePending, "kustomization/z, which is Failed (ApplyFailed)")
			r.hold(ks("z"), false)
			r.pass(time.Second)
			r.want("kustomization/z@2", "kustomization/a@2")
		})
	})
	t.Run("does not ask a dependency of another source for the same digest", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s", needs(ks("z"))), entry(ks("z"), "other")})
			r.Revised(revision("other", "9"))
			r.Revised(revision("s", "1"))
			r.want("kustomization/z@9", "kustomization/a@1")
			r.Revised(revision("s", "2"))
			r.want("kustomization/a@2")
		})
	})
	t.Run("waits for a dependency to be Ready at its changed spec", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			a, z := entry(ks("a"), "s", needs(ks("z"))), entry(ks("z"), "other")
			r.Set([]deploy.Target{a, z})
			r.Revised(revision("other", "9"))
			r.Revised(revision("s", "1"))
			r.want("kustomization/z@9", "kustomization/a@1")
			r.Set([]deploy.Target{a, entry(ks("z"), "other", suspended)})
			r.Revised(revision("s", "2"))
			r.want()
			r.says(ks("z"), deploy.PhaseSuspended)
			r.says(ks("a"), deploy.PhasePending, "kustomization/z, which is suspended")
			r.Set([]deploy.Target{a, z})
			r.wantAny("kustomization/z@9 full", "kustomization/a@2")
		})
	})
	t.Run("says who waits in a circle, and runs the rest", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s", needs(ks("b"))), entry(ks("b"), "s", needs(ks("a"))), entry(ks("c"), "s")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/c@1")
			if got := r.state(ks("a")).WaitsFor; len(got) == 0 || got[0] != "an end of the dependency cycle: kustomization/ns/a → kustomization/ns/b → kustomization/ns/a: remove one of these dependsOn" {
				t.Errorf("a waits for %q", got)
			}
		})
	})
	t.Run("keeps the limits of each kind", func(t *testing.T) {
		bubble(t, Limits{Kustomizations: 2, HelmReleases: 1}, nil, func(r *rig) {
			var targets []deploy.Target
			for _, n := range []string{"a", "b", "c", "d"} {
				r.hold(ks(n), true)
				r.hold(hr(n), true)
				targets = append(targets, entry(ks(n), "s"), entry(hr(n), "s"))
			}
			r.Set(targets)
			r.Revised(revision("s", "1"))
			r.settle()
			if got := len(r.ran()); got != 3 || r.runner.most != 3 {
				t.Fatalf("%d attempts ran at once", r.runner.most)
			}
			r.says(ks("c"), deploy.PhasePending, "its turn: as many attempts as allowed are running")
			r.held(ks("a")).end(nil)
			r.want("kustomization/c@1")
			r.held(hr("a")).end(nil)
			r.want("helmrelease/b@1")
		})
	})
}

func TestNews(t *testing.T) {
	t.Run("runs nothing for the same digest again", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			a := entry(ks("a"), "s")
			r.Set([]deploy.Target{a})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.Revised(revision("s", "1"))
			r.Set([]deploy.Target{a})
			r.want()
		})
	})
	t.Run("cancels an attempt that waits for health", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(ks("a"), true)
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			r.Revised(revision("s", "1"))
			a := r.held(ks("a"))
			a.progress(deploy.PhaseWaiting, "waiting for Deployment.apps/ns/web: 1 of 2 replicas")
			if st := r.state(ks("a")); st.Phase != deploy.PhaseWaiting || st.Stage == "" {
				t.Errorf("the board shows %+v", st)
			}
			r.want("kustomization/a@1")
			r.Revised(revision("s", "2"))
			r.want("kustomization/a@2")
			if st := r.state(ks("a")); st.Revision != "v@sha256:2" {
				t.Errorf("the board shows the running attempt at %q", st.Revision)
			}
			if st := r.state(ks("a")); st.Failures != 0 {
				t.Errorf("being superseded counts as a failure: %+v", st)
			}
			r.held(ks("a")).end(nil)
			r.says(ks("a"), deploy.PhaseReady)
		})
	})
	t.Run("never cancels an attempt that applies, and runs again after it", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(ks("a"), true)
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			r.Revised(revision("s", "1"))
			a := r.held(ks("a"))
			a.progress(deploy.PhaseApplying, "")
			r.want("kustomization/a@1")
			r.Revised(revision("s", "2"))
			r.Revised(revision("s", "3"))
			r.want()
			if a.ctx.Err() != nil {
				t.Fatal("it was cancelled")
			}
			a.end(nil)
			r.want("kustomization/a@3")
			r.held(ks("a")).end(nil)
		})
	})
	t.Run("cancels once it has moved from applying to waiting", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(ks("a"), true)
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			r.Revised(revision("s", "1"))
			a := r.held(ks("a"))
			a.progress(deploy.PhaseApplying, "")
			r.Revised(revision("s", "2"))
			r.settle()
			a.progress(deploy.PhaseWaiting, "")
			r.want("kustomization/a@1", "kustomization/a@2")
			r.held(ks("a")).end(nil)
		})
	})
	t.Run("runs again for a changed entry, and leaves equal ones alone", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(ks("b"), true)
			a, b := entry(ks("a"), "s"), entry(ks("b"), "s")
			r.Set([]deploy.Target{a, b})
			r.Revised(revision("s", "1"))
			r.wantAny("kustomization/a@1", "kustomization/b@1")
			r.Set([]deploy.Target{entry(ks("a"), "s", func(t *deploy.Target) { t.Kustomization.NamePrefix = "x" }), b})
			r.want("kustomization/a@1")
			if r.held(ks("b")).ctx.Err() != nil {
				t.Error("the equal one was cancelled")
			}
			r.held(ks("b")).end(nil)
		})
	})
	t.Run("does not run a changed entry at what its source meant before", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.Unknown(src("s"))
			r.Set([]deploy.Target{entry(ks("a"), "s", func(t *deploy.Target) { t.Kustomization.Path = "./new" })})
			r.want()
			r.says(ks("a"), deploy.PhasePending, "source/s, which has no revision yet")
			r.Revised(revision("s", "2"))
			r.want("kustomization/a@2")
		})
	})
	t.Run("gives up an attempt whose revision is taken back, unless it is changing the cluster", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(ks("a"), true)
			r.hold(ks("b"), true)
			r.Set([]deploy.Target{entry(ks("a"), "s"), entry(ks("b"), "s")})
			r.Revised(revision("s", "1"))
			r.wantAny("kustomization/a@1", "kustomization/b@1")
			a, b := r.held(ks("a")), r.held(ks("b"))
			b.progress(deploy.PhaseApplying, "")
			r.settle()
			r.Unknown(src("s"))
			r.settle()
			if a.ctx.Err() == nil {
				t.Error("the one that was building goes on")
			}
			if b.ctx.Err() != nil {
				t.Error("the one that was applying was cut short")
			}
			b.end(nil)
			r.want()
			r.hold(ks("a"), false)
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
		})
	})
	t.Run("runs in full when it is asked for by name", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			if !r.Reconcile(ks("a"), false) {
				t.Error("a is unknown")
			}
			r.want("kustomization/a@1 full")
			if r.Reconcile(ks("nobody"), false) {
				t.Error("nobody is known")
			}
			r.hold(ks("a"), true)
			r.Reconcile(ks("a"), false)
			r.want("kustomization/a@1 full")
			r.Reconcile(ks("a"), false)
			r.want()
			r.held(ks("a")).end(nil)
			r.want("kustomization/a@1 full")
			r.held(ks("a")).end(nil)
			r.want()
		})
	})
	t.Run("checks in full at each interval", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.pass(time.Hour - time.Second)
			r.want()
			r.pass(time.Second)
			r.want("kustomization/a@1 full")
			r.pass(3 * time.Hour)
			r.want("kustomization/a@1 full", "kustomization/a@1 full", "kustomization/a@1 full")
		})
	})
	t.Run("checks at the new interval from the change of the entry on", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			every := func(d time.Duration) []deploy.Target {
				return []deploy.Target{entry(ks("a"), "s", func(t *deploy.Target) { t.Interval = d })}
			}
			r.Set(every(24 * time.Hour))
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.Set(every(time.Minute))
			r.want("kustomization/a@1")
			r.pass(2 * time.Minute)
			r.want("kustomization/a@1 full", "kustomization/a@1 full")
			r.Set(every(time.Hour))
			r.want("kustomization/a@1")
			r.pass(time.Hour - time.Second)
			r.want()
			r.pass(time.Second)
			r.want("kustomization/a@1 full")
		})
	})
	t.Run("keeps trying in full until a full attempt succeeds", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.fail(ks("a"), errBad)
			r.pass(time.Hour)
			r.want("kustomization/a@1 full")
			r.fail(ks("a"), nil)
			r.pass(time.Second)
			r.want("kustomization/a@1 full")
		})
	})
	t.Run("runs nothing that is suspended, and cancels what waits when it becomes so", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(ks("a"), true)
			r.Set([]deploy.Target{entry(ks("a"), "s"), entry(ks("b"), "s", suspended)})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.says(ks("b"), deploy.PhaseSuspended)
			r.held(ks("a")).progress(deploy.PhaseWaiting, "")
			r.Set([]deploy.Target{entry(ks("a"), "s", suspended), entry(ks("b"), "s", suspended)})
			r.pass(3 * time.Hour)
			r.Reconcile(ks("b"), false)
			r.want()
			r.says(ks("a"), deploy.PhaseSuspended)
			r.hold(ks("a"), false)
			r.Set([]deploy.Target{entry(ks("a"), "s"), entry(ks("b"), "s", suspended)})
			r.want("kustomization/a@1 full")
		})
	})
}

func TestBackoff(t *testing.T) {
	failing := func(r *rig) {
		r.fail(ks("a"), errBad)
		r.Set([]deploy.Target{entry(ks("a"), "s")})
		r.Revised(revision("s", "1"))
		r.want("kustomization/a@1")
	}
	t.Run("doubles up to the retry interval and never ends", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			failing(r)
			for _, wait := range []time.Duration{1, 2, 4, 8, 10, 10, 10} {
				r.pass(wait*time.Second - time.Millisecond)
				r.want()
				r.pass(time.Millisecond)
				r.want("kustomization/a@1")
			}
			if st := r.state(ks("a")); st.Failures != 8 || st.Message != "bad" || !st.Next.Equal(time.Now().Add(10*time.Second)) {
				t.Errorf("the board shows %+v", st)
			}
		})
	})
	for name, news := range map[string]func(*rig){
		"a new digest":     func(r *rig) { r.Revised(revision("s", "2")) },
		"a changed config": func(r *rig) { r.Set([]deploy.Target{entry(ks("a"), "s", needs())}) },
		"a request":        func(r *rig) { r.Reconcile(ks("a"), false) },
	} {
		t.Run("begins anew with "+name, func(t *testing.T) {
			bubble(t, Limits{}, nil, func(r *rig) {
				failing(r)
				r.pass(15 * time.Second)
				r.ran()
				if name == "a changed config" {
					r.Set([]deploy.Target{entry(ks("a"), "s", func(t *deploy.Target) { t.Timeout++ })})
				} else {
					news(r)
				}
				if got := r.ran(); len(got) != 1 {
					t.Fatalf("ran %q, want one attempt at once", got)
				}
				r.says(ks("a"), deploy.PhaseFailed, "its retry (attempt 2)")
			})
		})
	}
	t.Run("is spread by a fifth", func(t *testing.T) {
		for jitter, want := range map[float64]time.Duration{0: 3200 * time.Millisecond, 0.5: 4 * time.Second, 0.75: 4400 * time.Millisecond} {
			if got := backoff(3, time.Minute, jitter); got != want {
				t.Errorf("with %v: %s, want %s", jitter, got, want)
			}
		}
	})
}

func TestStop(t *testing.T) {
	t.Run("cancels what waits at once, lets what applies end, and records it", func(t *testing.T) {
		memory := newMemory()
		bubble(t, Limits{Grace: time.Minute}, memory, func(r *rig) {
			r.hold(ks("a"), true)
			r.hold(ks("b"), true)
			r.Set([]deploy.Target{entry(ks("a"), "s"), entry(ks("b"), "s"), entry(ks("c"), "s", needs(ks("a")))})
			r.Revised(revision("s", "1"))
			a, b := r.held(ks("a")), r.held(ks("b"))
			a.progress(deploy.PhaseApplying, "")
			b.progress(deploy.PhaseWaiting, "")
			r.stop()
			r.settle()
			if a.ctx.Err() != nil || b.ctx.Err() == nil {
				t.Errorf("applying: %v, waiting: %v", a.ctx.Err(), b.ctx.Err())
			}
			a.end(nil)
			<-r.stopped
			r.wantAny("kustomization/a@1", "kustomization/b@1")
		})
		rec, _ := memory.record(t, ks("a"))
		if rec.LastGood == nil || rec.Intent != "" {
			t.Errorf("recorded %+v", rec)
		}
		if rec, _ := memory.record(t, ks("b")); rec.LastGood != nil || rec.Intent == "" || len(rec.History) != 0 {
			t.Errorf("recorded %+v of a cancelled attempt", rec)
		}
	})
	t.Run("cancels an attempt that begins to wait meanwhile", func(t *testing.T) {
		bubble(t, Limits{Grace: time.Hour}, nil, func(r *rig) {
			r.hold(ks("a"), true)
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			r.Revised(revision("s", "1"))
			a := r.held(ks("a"))
			a.progress(deploy.PhaseApplying, "")
			r.stop()
			r.settle()
			a.progress(deploy.PhaseWaiting, "")
			<-r.stopped
		})
	})
	t.Run("cuts off what does not end within the grace period", func(t *testing.T) {
		bubble(t, Limits{Grace: 5 * time.Second}, nil, func(r *rig) {
			r.hold(ks("a"), true)
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			r.Revised(revision("s", "1"))
			r.held(ks("a")).progress(deploy.PhaseApplying, "")
			start := time.Now()
			r.end()
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	})
	t.Run("ends while the records cannot be read", func(t *testing.T) {
		memory := newMemory()
		memory.fails(errBad)
		bubble(t, Limits{}, memory, func(r *rig) { r.pass(time.Hour) })
	})
}

func TestSettle(t *testing.T) {
	t.Run("ends when all that can run has", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.fail(ks("b"), errBad)
			r.hold(ks("a"), true)
			r.Set([]deploy.Target{entry(ks("a"), "s"), entry(ks("b"), "s"), entry(ks("c"), "s", needs(ks("b"))), entry(ks("d"), "s", needs(ks("a")))})
			r.Revised(revision("s", "1"))
			var states []deploy.TargetState
			var err error
			done := make(chan struct{})
			go func() {
				defer close(done)
				states, err = r.Settle(r.t.Context())
			}()
			r.settle()
			select {
			case <-done:
				t.Fatal("it ended while an attempt ran")
			default:
			}
			r.held(ks("a")).end(nil)
			<-done
			if err != nil {
				t.Fatal(err)
			}
			var got []deploy.Phase
			for _, st := range states {
				got = append(got, st.Phase)
			}
			want := []deploy.Phase{deploy.PhaseReady, deploy.PhaseFailed, deploy.PhasePending, deploy.PhaseReady}
			if len(got) != 4 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	})
	t.Run("ends with its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := startRig(t, Limits{}, nil)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := r.Settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			r.end()
		})
	})
}
