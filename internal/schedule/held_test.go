package schedule

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
)

var errSick = errors.New("it does not become healthy")

func fallsBack(group string) func(*deploy.Target) {
	return func(t *deploy.Target) {
		if t.HelmRelease != nil {
			t.HelmRelease.Rollback = &deploy.Rollback{OnFailure: deploy.OnFailureLastGood, Group: group}
		} else {
			t.Kustomization.Rollback = &deploy.RollbackPolicy{OnFailure: deploy.OnFailureLastGood, Group: group}
		}
	}
}

// goesAlong makes a member of a group that starts no fall by itself.
func goesAlong(group string) func(*deploy.Target) {
	return func(t *deploy.Target) { t.Kustomization.Rollback = &deploy.RollbackPolicy{Group: group} }
}

func (r *rig) sick(n deploy.Name, digest string) {
	r.runner.mu.Lock()
	defer r.runner.mu.Unlock()
	r.runner.sick[n] = digest
}

// isHeld fails the test unless a target is held so; all empty: it is not.
func (r *rig) isHeld(n deploy.Name, why, at, instead string) {
	r.t.Helper()
	var got deploy.Held
	if h := r.state(n).Held; h != nil {
		got = deploy.Held{Why: h.Why, Digest: h.Digest, Instead: h.Instead}
	}
	want := deploy.Held{Why: why}
	if why != "" {
		want.Digest, want.Instead = "sha256:"+at, "sha256:"+instead
	}
	if d := cmp.Diff(want, got); d != "" {
		r.t.Fatalf("%s is not held so (-want +got):\n%s", n, d)
	}
}

// back is a rig with a target of each kind that went from revision 1 to 2 and back.
func back(t *testing.T, memory *fakeMemory, test func(*rig)) {
	bubble(t, Limits{}, memory, func(r *rig) {
		r.Set([]deploy.Target{entry(ks("a"), "s", fallsBack("")), entry(hr("a"), "s", fallsBack(""))})
		r.Revised(revision("s", "1"))
		r.wantAny("kustomization/a@1", "helmrelease/a@1")
		r.sick(ks("a"), "2")
		r.sick(hr("a"), "2")
		r.Revised(revision("s", "2"))
		r.settle()
		r.wantAny("kustomization/a@2", "helmrelease/a@2", "kustomization/a@1", "helmrelease/a@1")
		test(r)
	})
}

func TestLastGood(t *testing.T) {
	both := []deploy.Name{ks("a"), hr("a")}
	t.Run("is gone back to at once, and the other revision is not tried again", func(t *testing.T) {
		memory := newMemory()
		back(t, memory, func(r *rig) {
			for _, n := range both {
				r.isHeld(n, deploy.HeldByFailure, "1", "2")
				st := r.state(n)
				if st.Phase != deploy.PhaseDegraded || st.Reason != deploy.ReasonRolledBack || !strings.Contains(st.Message, "since v@sha256:2 failed (HealthCheckFailed: it does not become healthy), which is quarantined") || !strings.Contains(st.Message, errSick.Error()) {
					t.Errorf("%s %s: %s", st.Phase, st.Reason, st.Message)
				}
				rec, _ := memory.record(t, n)
				if rec.Held == nil || rec.LastGood.Digest != "sha256:1" || rec.Intent != "" {
					t.Errorf("recorded %+v", rec)
				}
				var history []string
				for _, p := range rec.History {
					history = append(history, p.Revision+" "+string(p.Phase)+" "+p.Reason)
				}
				if d := cmp.Diff([]string{"v@sha256:1 Degraded RolledBack", "v@sha256:2 Failed HealthCheckFailed", "v@sha256:1 Ready "}, history); d != "" {
					t.Error(d)
				}
			}
			memory.taken()
			r.Revised(revision("s", "2"))
			r.Drifted(ks("a"))
			r.want("kustomization/a@1 full")
			r.pass(65 * time.Minute)
			r.wantAny("kustomization/a@1 full", "helmrelease/a@1 full")
			if n := memory.taken(); n != 0 {
				t.Errorf("%d writes while nothing changed", n)
			}
		})
	})
	t.Run("is left for news, which may be what it was before", func(t *testing.T) {
		back(t, nil, func(r *rig) {
			r.Revised(revision("s", "3"))
			r.wantAny("kustomization/a@3", "helmrelease/a@3")
			for _, n := range both {
				r.isHeld(n, "", "", "")
				r.says(n, deploy.PhaseReady)
			}
			r.Revised(revision("s", "1"))
			r.wantAny("kustomization/a@1", "helmrelease/a@1")
			r.sick(ks("a"), "")
			r.sick(hr("a"), "")
			r.Revised(revision("s", "2"))
			r.wantAny("kustomization/a@2", "helmrelease/a@2")
		})
	})
	t.Run("is left where somebody asks for that, and not where somebody only wants a check", func(t *testing.T) {
		back(t, nil, func(r *rig) {
			r.Reconcile(ks("a"), false)
			r.want("kustomization/a@1 full")
			r.sick(ks("a"), "")
			r.Reconcile(ks("a"), true)
			r.want("kustomization/a@2 full")
			r.isHeld(ks("a"), "", "", "")
			r.hold(hr("a"), true)
			r.Reconcile(hr("a"), true)
			r.want("helmrelease/a@2 full")
			if a := r.held(hr("a")); !a.work.Asked {
				t.Error("the engine does not hear that it is to be tried again")
			}
			r.hold(hr("a"), false)
			r.held(hr("a")).end(nil)
			r.want("helmrelease/a@1 full") // it is as bad as before
			r.isHeld(hr("a"), deploy.HeldByFailure, "1", "2")
		})
	})
	t.Run("is left where the entry changes", func(t *testing.T) {
		back(t, nil, func(r *rig) {
			r.sick(ks("a"), "")
			r.Set([]deploy.Target{entry(ks("a"), "s", fallsBack(""), func(t *deploy.Target) { t.Timeout = time.Second }), entry(hr("a"), "s", fallsBack(""))})
			r.want("kustomization/a@2")
			r.isHeld(ks("a"), "", "", "")
			r.isHeld(hr("a"), deploy.HeldByFailure, "1", "2")
		})
	})
	t.Run("is kept over a restart", func(t *testing.T) {
		memory := newMemory()
		back(t, memory, func(*rig) {})
		bubble(t, Limits{}, memory, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s", fallsBack("")), entry(hr("a"), "s", fallsBack(""))})
			r.Revised(revision("s", "2"))
			r.wantAny("kustomization/a@1 full", "helmrelease/a@1 full")
			r.Revised(revision("s", "3"))
			r.wantAny("kustomization/a@3", "helmrelease/a@3")
		})
	})
	t.Run("is not gone back to where nothing was good, where it is the same artifact, or where nobody wants that", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.sick(ks("a"), "1")
			r.Set([]deploy.Target{entry(ks("a"), "s", fallsBack("")), entry(ks("b"), "s"), entry(ks("c"), "s", fallsBack(""))})
			r.Revised(revision("s", "1"))
			r.wantAny("kustomization/a@1", "kustomization/b@1", "kustomization/c@1")
			r.isHeld(ks("a"), "", "", "")
			r.sick(ks("c"), "1") // later
			r.Reconcile(ks("c"), false)
			r.want("kustomization/c@1 full")
			r.isHeld(ks("c"), "", "", "")
			r.sick(ks("b"), "2")
			r.Revised(revision("s", "2"))
			r.wantAny("kustomization/a@2", "kustomization/b@2", "kustomization/c@2 full")
			r.isHeld(ks("b"), "", "", "")
			r.pass(time.Minute)
			if ran := r.ran(); len(ran) == 0 || ran[0] != "kustomization/b@2" {
				t.Errorf("ran %q: it is not retried as it is", ran)
			}
		})
	})
	t.Run("is not gone back to for failures of other kinds", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s", fallsBack(""))})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.fail(ks("a"), errBad)
			r.Revised(revision("s", "2"))
			r.want("kustomization/a@2")
			r.isHeld(ks("a"), "", "", "")
			if st := r.state(ks("a")); st.Reason != deploy.ReasonApplyFailed {
				t.Errorf("%+v", st)
			}
		})
	})
	t.Run("is tried again where it fails too", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s", fallsBack(""))})
			r.Revised(revision("s", "1"))
			r.sick(ks("a"), "2")
			r.want("kustomization/a@1")
			r.hold(ks("a"), true)
			r.Revised(revision("s", "2"))
			r.held(ks("a")).end(nil)
			r.want("kustomization/a@2", "kustomization/a@1")
			r.hold(ks("a"), false)
			r.held(ks("a")).end(errBad)
			r.settle()
			if st := r.state(ks("a")); st.Phase != deploy.PhaseFailed || st.Reason != deploy.ReasonApplyFailed || st.Held == nil {
				t.Errorf("%+v", st)
			}
			r.pass(2 * time.Second)
			r.want("kustomization/a@1")
			r.says(ks("a"), deploy.PhaseDegraded)
		})
	})
	t.Run("does not wait for what it depends on, unless that goes back too", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s", fallsBack("g")), entry(ks("b"), "s", fallsBack("g"), needs(ks("a"))), entry(ks("c"), "t", fallsBack(""), needs(ks("a")))})
			r.Revised(revision("s", "1"))
			r.Revised(revision("t", "1"))
			r.settle()
			r.ran()
			r.sick(ks("b"), "2")
			r.sick(ks("c"), "2")
			r.hold(ks("b"), true)
			r.hold(ks("c"), true)
			r.Revised(revision("s", "2"))
			r.want("kustomization/a@2", "kustomization/b@2")
			r.Revised(revision("t", "2"))
			r.want("kustomization/c@2")
			r.hold(ks("a"), true)
			r.Reconcile(ks("a"), false)
			r.want("kustomization/a@2 full")
			r.hold(ks("c"), false)
			r.held(ks("c")).end(nil)
			r.want("kustomization/c@1") // a is not Ready, and not held
			r.hold(ks("a"), false)
			r.held(ks("a")).end(nil)
			r.want()
			r.hold(ks("a"), true)
			r.hold(ks("b"), false)
			r.held(ks("b")).end(nil)
			r.want("kustomization/a@1")
			r.says(ks("b"), deploy.PhasePending, "kustomization/a, which is Building")
			r.hold(ks("a"), false)
			r.held(ks("a")).end(nil)
			r.want("kustomization/b@1")
		})
	})
	t.Run("holds up who depends on what failed", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s", fallsBack("")), entry(ks("b"), "s", needs(ks("a")))})
			r.Revised(revision("s", "1"))
			r.settle()
			r.sick(ks("a"), "2")
			r.ran()
			r.Revised(revision("s", "2"))
			r.want("kustomization/a@2", "kustomization/a@1")
			r.says(ks("b"), deploy.PhasePending, "kustomization/a, which is held at v@sha256:1")
			r.Revised(revision("s", "3"))
			r.want("kustomization/a@3", "kustomization/b@3")
		})
	})
}

func TestRollbackGroup(t *testing.T) {
	// grouped is a rig with a group of three, of which c only goes along and d is none, all at 1.
	grouped := func(t *testing.T, memory *fakeMemory, test func(r *rig, targets []deploy.Target)) {
		bubble(t, Limits{}, memory, func(r *rig) {
			targets := []deploy.Target{
				entry(ks("a"), "s", fallsBack("g")), entry(hr("b"), "t", fallsBack("g")),
				entry(ks("c"), "u", goesAlong("g"), needs(ks("a"))), entry(ks("d"), "u", goesAlong("other")),
			}
			r.Set(targets)
			for _, s := range []string{"s", "t", "u"} {
				r.Revised(revision(s, "1"))
			}
			r.settle()
			r.ran()
			test(r, targets)
		})
	}
	fallen := func(r *rig) {
		r.t.Helper()
		r.Revised(revision("t", "2"))
		r.want("helmrelease/b@2")
		r.Revised(revision("u", "2"))
		r.wantAny("kustomization/c@2", "kustomization/d@2")
		r.sick(ks("a"), "2")
		r.Revised(revision("s", "2"))
		r.settle()
	}
	t.Run("goes back together", func(t *testing.T) {
		grouped(t, nil, func(r *rig, _ []deploy.Target) {
			r.sick(ks("a"), "2")
			r.hold(ks("a"), true)
			r.Revised(revision("s", "2"))
			r.want("kustomization/a@2") // from here on not all are Ready at what is newest
			r.Revised(revision("t", "2"))
			r.want("helmrelease/b@2")
			r.Revised(revision("u", "2"))
			r.want("kustomization/d@2") // c waits for a
			r.hold(ks("a"), false)
			r.held(ks("a")).end(nil)
			r.settle()
			r.wantAny("kustomization/a@1", "helmrelease/b@1")
			r.isHeld(ks("a"), deploy.HeldByFailure, "1", "2")
			r.isHeld(hr("b"), deploy.HeldByGroup, "1", "2")
			r.isHeld(ks("c"), deploy.HeldByGroup, "1", "2")
			r.isHeld(ks("d"), "", "", "")
			if st := r.state(hr("b")); st.Reason != deploy.ReasonRolledBack || !strings.Contains(st.Message, "with kustomization/ns/a of its group") {
				t.Errorf("%s: %s", st.Reason, st.Message)
			}
			// What failed goes on, and so do the others, although their sources say nothing new.
			r.Revised(revision("s", "3"))
			r.settle()
			r.wantAny("kustomization/a@3", "helmrelease/b@2", "kustomization/c@2")
			for _, n := range []deploy.Name{ks("a"), hr("b"), ks("c")} {
				r.isHeld(n, "", "", "")
				r.says(n, deploy.PhaseReady)
			}
		})
	})
	t.Run("goes back to what all were Ready at together, and only who left that", func(t *testing.T) {
		grouped(t, nil, func(r *rig, _ []deploy.Target) {
			fallen(r) // each was Ready with the others before the next moved
			r.want("kustomization/a@2", "kustomization/a@1")
			r.isHeld(ks("a"), deploy.HeldByFailure, "1", "2")
			r.isHeld(hr("b"), "", "", "")
			r.isHeld(ks("c"), "", "", "")
		})
	})
	t.Run("cuts short what others of it wait for", func(t *testing.T) {
		grouped(t, nil, func(r *rig, _ []deploy.Target) {
			r.hold(hr("b"), true)
			r.Revised(revision("t", "2"))
			r.want("helmrelease/b@2")
			r.held(hr("b")).progress(deploy.PhaseWaiting, "")
			r.hold(hr("b"), false)
			r.sick(ks("a"), "2")
			r.Revised(revision("s", "2"))
			r.settle()
			r.wantAny("kustomization/a@2", "kustomization/a@1", "helmrelease/b@1 full")
			r.isHeld(hr("b"), deploy.HeldByGroup, "1", "2")
		})
	})
	t.Run("goes back with a release", func(t *testing.T) {
		grouped(t, nil, func(r *rig, _ []deploy.Target) {
			r.hold(hr("b"), true)
			r.sick(hr("b"), "2")
			r.Revised(revision("t", "2"))
			r.want("helmrelease/b@2")
			r.Revised(revision("s", "2"))
			r.want("kustomization/a@2")
			r.hold(hr("b"), false)
			r.held(hr("b")).end(nil)
			r.settle()
			r.wantAny("helmrelease/b@1", "kustomization/a@1")
			r.isHeld(ks("a"), deploy.HeldByGroup, "1", "2")
			r.isHeld(ks("c"), "", "", "")
		})
	})
	t.Run("stays back over a restart, and goes on together when the entry that failed was changed meanwhile", func(t *testing.T) {
		memory := newMemory()
		var targets []deploy.Target
		grouped(t, memory, func(r *rig, all []deploy.Target) {
			targets = all
			r.hold(ks("a"), true)
			r.sick(ks("a"), "2")
			r.Revised(revision("s", "2"))
			r.Revised(revision("t", "2"))
			r.settle()
			r.hold(ks("a"), false)
			r.held(ks("a")).end(nil)
			r.settle()
			r.isHeld(hr("b"), deploy.HeldByGroup, "1", "2")
		})
		newest := func(r *rig) {
			r.Revised(revision("s", "2"))
			r.Revised(revision("t", "2"))
			r.Revised(revision("u", "1"))
			r.settle()
		}
		bubble(t, Limits{}, memory, func(r *rig) {
			r.Set(targets)
			newest(r)
			r.wantAny("kustomization/a@1 full", "helmrelease/b@1 full", "kustomization/d@1 full")
			r.isHeld(hr("b"), deploy.HeldByGroup, "1", "2")
		})
		targets[0] = entry(ks("a"), "s", fallsBack("g"), func(t *deploy.Target) { t.Timeout = time.Second })
		bubble(t, Limits{}, memory, func(r *rig) {
			r.Set(targets)
			newest(r)
			r.wantAny("kustomization/a@2 full", "helmrelease/b@2 full", "kustomization/d@1 full", "kustomization/c@1 full")
			r.isHeld(hr("b"), "", "", "")
		})
	})
	t.Run("goes back as a whole where the process ended before it could say so of all", func(t *testing.T) {
		memory := newMemory()
		var targets []deploy.Target
		grouped(t, memory, func(r *rig, all []deploy.Target) {
			targets = all
			r.hold(ks("a"), true)
			r.Revised(revision("s", "2"))
			r.Revised(revision("t", "2"))
			r.settle()
			r.hold(ks("a"), false)
			r.sick(ks("a"), "2")
			r.held(ks("a")).end(nil)
			r.settle()
		})
		rec, _ := memory.record(t, hr("b"))
		rec.Held = nil // as if that had not been written any more
		rec.LastGood.Digest, rec.LastGood.At = "sha256:2", rec.LastGood.At.Add(-time.Hour)
		if err := memory.Save(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		bubble(t, Limits{}, memory, func(r *rig) {
			r.Set(targets)
			r.Revised(revision("s", "2"))
			r.Revised(revision("t", "2"))
			r.Revised(revision("u", "1"))
			r.settle()
			r.isHeld(hr("b"), deploy.HeldByGroup, "1", "2")
		})
	})
	t.Run("goes on where what failed leaves the config", func(t *testing.T) {
		grouped(t, nil, func(r *rig, all []deploy.Target) {
			r.hold(ks("a"), true)
			r.sick(ks("a"), "2")
			r.Revised(revision("s", "2"))
			r.Revised(revision("t", "2"))
			r.settle()
			r.hold(ks("a"), false)
			r.held(ks("a")).end(nil)
			r.settle()
			r.ran()
			r.Set(all[1:2])
			r.settle()
			r.isHeld(hr("b"), "", "", "")
		})
	})
}

func TestRollbackOfManifests(t *testing.T) {
	// three is a rig with a target that was good at 1, 2 and 3.
	three := func(t *testing.T, memory *fakeMemory, test func(*rig)) {
		bubble(t, Limits{}, memory, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			for _, d := range []string{"111111", "222222", "333333"} {
				rev := revision("s", d)
				rev.Ref = "v" + d[:1]
				r.Revised(rev)
				r.settle()
			}
			r.ran()
			test(r)
		})
	}
	t.Run("goes to the last good one before the newest, and stays there", func(t *testing.T) {
		memory := newMemory()
		three(t, memory, func(r *rig) {
			r.rollback(r.t.Context(), ks("a"), "").ended(t, "v2@sha256:222222", nil)
			r.want("kustomization/a@222222")
			r.isHeld(ks("a"), deploy.HeldByHand, "222222", "333333")
			r.says(ks("a"), deploy.PhaseDegraded)
			r.Reconcile(ks("a"), false)
			r.want("kustomization/a@222222 full")
			r.Reconcile(ks("a"), true)
			r.want("kustomization/a@333333 full")
			r.says(ks("a"), deploy.PhaseReady)
		})
	})
	t.Run("goes to what is named, by tag or digest", func(t *testing.T) {
		for _, text := range []string{"v1", "111111", "sha256:111111", "v1@sha256:111111", "v1@sha256:111111"} {
			three(t, nil, func(r *rig) {
				r.rollback(r.t.Context(), ks("a"), text).ended(t, "v1@sha256:111111", nil)
				r.want("kustomization/a@111111")
			})
		}
	})
	t.Run("refuses what it cannot do, and says why", func(t *testing.T) {
		three(t, nil, func(r *rig) {
			for text, words := range map[string]string{
				"v9":     "v9 is none of the revisions that were good: v2@sha256:222222, v1@sha256:111111",
				"333333": "333333 is the one that is there",
			} {
				if _, err := r.Rollback(r.t.Context(), ks("a"), text); err == nil || err.Error() != words {
					t.Errorf("%s: %v", text, err)
				}
			}
			r.rollback(r.t.Context(), ks("a"), "v2").ended(t, "v2@sha256:222222", nil)
			if _, err := r.Rollback(r.t.Context(), ks("a"), "v3"); err == nil || !strings.Contains(err.Error(), "v3@sha256:333333 is what its source says: towline reconcile --force") {
				t.Error(err)
			}
			r.rollback(r.t.Context(), ks("a"), "v1").ended(t, "v1@sha256:111111", nil)
			r.Set([]deploy.Target{entry(ks("a"), "s", suspended), entry(ks("b"), "none")})
			if _, err := r.Rollback(r.t.Context(), ks("a"), "v1"); err == nil || !strings.Contains(err.Error(), "it is suspended") {
				t.Error(err)
			}
			if _, err := r.Rollback(r.t.Context(), ks("b"), ""); err == nil || !strings.Contains(err.Error(), "has no revision yet") {
				t.Error(err)
			}
		})
	})
	t.Run("says where it fails, and is tried again", func(t *testing.T) {
		three(t, nil, func(r *rig) {
			r.fail(ks("a"), errBad)
			r.rollback(r.t.Context(), ks("a"), "").ended(t, "", errBad)
			r.want("kustomization/a@222222")
			r.fail(ks("a"), nil)
			r.pass(2 * time.Second)
			r.want("kustomization/a@222222")
			r.says(ks("a"), deploy.PhaseDegraded)
		})
	})
	t.Run("ends where there is news before it is there, or its target leaves", func(t *testing.T) {
		three(t, nil, func(r *rig) {
			r.hold(ks("a"), true)
			a := r.rollback(r.t.Context(), ks("a"), "")
			a.waits(t)
			r.rollback(r.t.Context(), ks("a"), "").ended(t, "", ErrBusy)
			r.hold(ks("a"), false)
			r.Revised(revision("s", "4"))
			a.ended(t, "", errNews)
			r.want("kustomization/a@222222", "kustomization/a@4")
			r.hold(ks("a"), true)
			a = r.rollback(r.t.Context(), ks("a"), "")
			r.hold(ks("a"), false)
			r.Set(nil)
			a.ended(t, "", errLeft)
		})
	})
	t.Run("takes the place of a fall", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s", fallsBack(""))})
			r.Revised(revision("s", "1"))
			r.settle()
			r.Revised(revision("s", "2"))
			r.settle()
			r.sick(ks("a"), "3")
			r.Revised(revision("s", "3"))
			r.settle()
			r.isHeld(ks("a"), deploy.HeldByFailure, "2", "3")
			r.rollback(r.t.Context(), ks("a"), "").ended(t, "v@sha256:1", nil)
			r.isHeld(ks("a"), deploy.HeldByHand, "1", "3")
		})
	})
}
