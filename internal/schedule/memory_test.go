package schedule

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
)

// twice runs a test before and another after a restart, on one memory.
func twice(t *testing.T, before, after func(*rig)) {
	t.Helper()
	memory := newMemory()
	bubble(t, Limits{}, memory, before)
	memory.taken()
	bubble(t, Limits{}, memory, after)
}

func TestRecords(t *testing.T) {
	ready := func(targets ...deploy.Target) func(*rig) {
		return func(r *rig) {
			r.Set(targets)
			r.Revised(revision("s", "1"))
			r.settle()
		}
	}
	t.Run("are not written for a target that does not change, nor after a restart", func(t *testing.T) {
		a := entry(ks("a"), "s")
		twice(t, func(r *rig) {
			ready(a)(r)
			if got := r.memory.taken(); got != 2 {
				t.Errorf("%d writes for the first attempt, want the intent and the outcome", got)
			}
			r.pass(10 * time.Hour)
			r.Reconcile(ks("a"), false)
			r.settle()
			if got := r.memory.taken(); got != 0 {
				t.Errorf("%d writes for checks that found nothing", got)
			}
		}, func(r *rig) {
			ready(a)(r)
			r.want("kustomization/a@1 full")
			r.pass(time.Hour)
			r.want("kustomization/a@1 full")
			if got := r.memory.taken(); got != 0 {
				t.Errorf("%d writes after a restart", got)
			}
		})
	})
	t.Run("are not written for a failure that repeats", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.fail(ks("a"), errBad)
			ready(entry(ks("a"), "s"))(r)
			r.memory.taken()
			r.pass(time.Minute)
			if got, attempts := r.memory.taken(), len(r.ran()); got != 0 || attempts < 5 {
				t.Errorf("%d writes for %d attempts", got, attempts)
			}
		})
	})
	t.Run("let what was Ready be shown, and depended on, after a restart", func(t *testing.T) {
		a, z := entry(ks("a"), "s", needs(ks("z"))), entry(ks("z"), "other")
		twice(t, func(r *rig) {
			r.Revised(revision("other", "9"))
			ready(a, z)(r)
		}, func(r *rig) {
			ready(a, z)(r)
			r.want("kustomization/a@1 full")
			r.says(ks("z"), deploy.PhaseReady, "source/other, which has no revision yet")
		})
	})
	t.Run("hold the intent from before the attempt until it is Ready", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(ks("a"), true)
			ready(entry(ks("a"), "s"))(r)
			rec, _ := r.memory.record(t, ks("a"))
			if rec.Intent != "sha256:1" || rec.LastGood != nil {
				t.Errorf("during the attempt: %+v", rec)
			}
			r.held(ks("a")).end(nil)
			r.settle()
			rec, _ = r.memory.record(t, ks("a"))
			if rec.Intent != "" || rec.LastGood == nil || rec.LastGood.Digest != "sha256:1" || rec.LastGood.Revision != "v@sha256:1" {
				t.Errorf("after the attempt: %+v", rec)
			}
		})
	})
	t.Run("keep ten outcomes that differ, newest first", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			ready(entry(ks("a"), "s"))(r)
			for d := range strings.SplitSeq("2 3 4 5 6 7 8 9 a b c d", " ") {
				r.Revised(revision("s", d))
				r.settle()
			}
			rec, _ := r.memory.record(t, ks("a"))
			if len(rec.History) != 10 || rec.History[0].Revision != "v@sha256:d" || rec.History[9].Revision != "v@sha256:4" {
				t.Errorf("history %+v", rec.History)
			}
		})
	})
	t.Run("note repairs", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			ready(entry(ks("a"), "s"))(r)
			r.runner.mu.Lock()
			r.runner.changes[ks("a")] = 1
			r.runner.mu.Unlock()
			r.pass(time.Hour)
			if rec, _ := r.memory.record(t, ks("a")); len(rec.History) != 2 || rec.History[0].Changes != 1 {
				t.Errorf("history %+v", rec.History)
			}
		})
	})
	t.Run("never hold values, patches, variables or expressions", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{
				entry(hr("a"), "s", func(t *deploy.Target) { t.HelmRelease.Values = deploy.Values(`{"password":"canary-4711"}`) }),
				entry(ks("a"), "s", func(t *deploy.Target) { t.Kustomization.Patches = []deploy.Patch{{Patch: "canary-4711"}} }),
				entry(ks("b"), "s", needs(ks("a")), judges(ks("a"), "'canary-4711' != ''"), func(t *deploy.Target) {
					t.Kustomization = &deploy.KustomizationSpec{
						PostBuild:        &deploy.PostBuild{Substitute: map[string]string{"password": "canary-4711"}},
						HealthCheckExprs: []deploy.HealthCheckExpr{{Current: "canary-4711"}},
						Decryption:       &deploy.Decryption{Keys: []string{"canary-4711"}},
						Components:       []string{"canary-4711"},
						DependsOn:        []deploy.DependsOn{{ReadyExpr: "canary-4711"}},
					}
				}),
			})
			r.Revised(revision("s", "1"))
			r.settle()
			if len(r.memory.stored) != 3 {
				t.Fatalf("%d records", len(r.memory.stored))
			}
			for n, text := range r.memory.stored {
				if strings.Contains(text, "canary") {
					t.Errorf("%s: %s", n, text)
				}
			}
		})
	})
	t.Run("are retried when the server does not take an outcome, without another attempt", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(ks("a"), true)
			ready(entry(ks("a"), "s"))(r)
			r.memory.fails(errors.New("server is away"))
			r.held(ks("a")).end(nil)
			r.says(ks("a"), deploy.PhaseReady)
			r.want("kustomization/a@1")
			if rec, _ := r.memory.record(t, ks("a")); rec.LastGood != nil {
				t.Fatal("it was written")
			}
			r.pass(5 * time.Second)
			r.memory.fails(nil)
			r.pass(time.Minute)
			if rec, _ := r.memory.record(t, ks("a")); rec.LastGood == nil || rec.Intent != "" {
				t.Errorf("recorded %+v", rec)
			}
			r.want()
		})
	})
	t.Run("that are behind are written once more at the end", func(t *testing.T) {
		memory := newMemory()
		bubble(t, Limits{}, memory, func(r *rig) {
			r.hold(ks("a"), true)
			ready(entry(ks("a"), "s"))(r)
			memory.fails(errors.New("server is away"))
			r.held(ks("a")).end(nil)
			r.settle()
			memory.fails(nil)
		})
		if rec, _ := memory.record(t, ks("a")); rec.LastGood == nil {
			t.Errorf("recorded %+v", rec)
		}
	})
	t.Run("stop an attempt whose intent cannot be written", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			r.settle()
			r.memory.fails(errors.New("server is away"))
			r.Revised(revision("s", "1"))
			r.want()
			r.says(ks("a"), deploy.PhaseFailed, "its retry (attempt 2)")
			if st := r.state(ks("a")); st.Reason != reasonRecordFailed || !strings.Contains(st.Message, "server is away") {
				t.Errorf("the board shows %+v", st)
			}
			r.memory.fails(nil)
			r.pass(time.Second)
			r.want("kustomization/a@1")
		})
	})
	t.Run("follow a changed entry even where it cannot run", func(t *testing.T) {
		twice(t, func(r *rig) {
			ready(entry(ks("a"), "s"))(r)
			r.Set([]deploy.Target{entry(ks("a"), "nowhere", func(t *deploy.Target) { t.Kustomization.DeletionPolicy = deploy.DeletionOrphan })})
			r.settle()
			if rec, _ := r.memory.record(t, ks("a")); rec.Target.Kustomization.DeletionPolicy != deploy.DeletionOrphan || rec.Intent != "" {
				t.Errorf("recorded %+v", rec)
			}
		}, func(r *rig) { r.want() })
	})
	t.Run("that can be read are used where others cannot", func(t *testing.T) {
		a := entry(ks("a"), "s")
		memory := newMemory()
		bubble(t, Limits{}, memory, ready(a))
		memory.partial = partialError{errors.New("one is not a record")}
		bubble(t, Limits{}, memory, func(r *rig) {
			ready(a, entry(ks("b"), "s"))(r)
			r.wantAny("kustomization/a@1 full", "kustomization/b@1")
		})
	})
}

// partialError comes with the records that could be read.
type partialError struct{ error }

func (partialError) Partial() bool { return true }

func TestDeletion(t *testing.T) {
	chain := []deploy.Target{entry(ks("a"), "s"), entry(hr("b"), "s", needs(ks("a"))), entry(ks("c"), "s", needs(hr("b")))}
	set := func(r *rig) {
		r.Set(chain)
		r.Revised(revision("s", "1"))
		r.settle()
		r.ran()
	}
	t.Run("deletes what left the config, dependants first, and forgets it", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			set(r)
			r.hold(ks("c"), true)
			r.Set(nil)
			r.want("delete kustomization/c")
			r.says(ks("a"), deploy.PhaseDeleting, "helmrelease/b, which is not deleted yet")
			r.held(ks("c")).end(nil)
			r.want("delete helmrelease/b release b", "delete kustomization/a")
			if len(r.memory.stored) != 0 || len(r.board.states) != 0 {
				t.Errorf("records %v, board %v", r.memory.stored, r.board.states)
			}
		})
	})
	t.Run("deletes after a restart what left the config meanwhile", func(t *testing.T) {
		twice(t, set, func(r *rig) {
			r.want()
			r.Set(chain[:1])
			r.want("delete kustomization/c", "delete helmrelease/b release b")
			if _, ok := r.memory.record(t, ks("a")); !ok || len(r.memory.stored) != 1 {
				t.Errorf("records %v", r.memory.stored)
			}
		})
	})
	t.Run("deletes nothing as long as there is no config", func(t *testing.T) {
		twice(t, set, func(r *rig) {
			r.pass(time.Hour)
			r.want()
		})
	})
	t.Run("tries again until it succeeds, and keeps the rest waiting", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			set(r)
			r.fail(ks("c"), errBad)
			r.Set(chain[:1])
			r.want("delete kustomization/c")
			r.says(ks("c"), deploy.PhaseDeleting, "its retry (attempt 2)")
			r.pass(time.Second)
			r.want("delete kustomization/c")
			r.fail(ks("c"), nil)
			r.pass(2 * time.Second)
			r.want("delete kustomization/c", "delete helmrelease/b release b")
		})
	})
	t.Run("tries again where the record cannot be forgotten", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			set(r)
			r.memory.fails(errBad)
			r.Set(chain[:2])
			r.want("delete kustomization/c")
			r.memory.fails(nil)
			r.pass(time.Second)
			r.want("delete kustomization/c")
			if _, ok := r.memory.record(t, ks("c")); ok {
				t.Error("it is still recorded")
			}
		})
	})
	t.Run("deletes nothing of a target that never ran", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "nowhere")})
			r.settle()
			r.Set(nil)
			r.want()
			if len(r.board.states) != 0 {
				t.Errorf("the board shows %v", r.board.states)
			}
		})
	})
	t.Run("ends a running attempt first", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(ks("a"), true)
			r.Set(chain[:1])
			r.Revised(revision("s", "1"))
			a := r.held(ks("a"))
			a.progress(deploy.PhaseApplying, "")
			r.Set(nil)
			r.want("kustomization/a@1")
			r.hold(ks("a"), false)
			a.end(nil)
			r.want("delete kustomization/a")
		})
	})
	t.Run("lets a target that comes back while it is deleted start anew", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			set(r)
			r.hold(ks("c"), true)
			r.Set(chain[:2])
			r.want("delete kustomization/c")
			r.Set(chain)
			r.want()
			r.hold(ks("c"), false)
			r.held(ks("c")).end(nil)
			r.want("kustomization/c@1")
			if _, ok := r.memory.record(t, ks("c")); !ok {
				t.Error("it is not recorded")
			}
		})
	})
	t.Run("deletes a release first that a changed entry would leave behind", func(t *testing.T) {
		named := func(name string) deploy.Target {
			return entry(hr("b"), "s", func(t *deploy.Target) { t.HelmRelease.ReleaseName = name })
		}
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{named("old")})
			r.Revised(revision("s", "1"))
			r.want("helmrelease/b@1")
			r.fail(hr("b"), errBad)
			r.Set([]deploy.Target{named("new")})
			r.want("delete helmrelease/b release old")
			r.fail(hr("b"), nil)
			r.pass(time.Second)
			r.want("delete helmrelease/b release old", "helmrelease/b@1")
			if rec, _ := r.memory.record(t, hr("b")); rec.Target.Release().Name != "new" || rec.LastGood == nil {
				t.Errorf("recorded %+v", rec)
			}
		})
	})
	t.Run("deletes a release first that was suspended before the entry changed", func(t *testing.T) {
		named := func(name string, suspend bool) deploy.Target {
			return entry(hr("b"), "s", func(t *deploy.Target) { t.HelmRelease.ReleaseName, t.Suspend = name, suspend })
		}
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{named("old", false)})
			r.Revised(revision("s", "1"))
			r.want("helmrelease/b@1")
			r.Set([]deploy.Target{named("old", true)})
			r.settle()
			r.Set([]deploy.Target{named("new", false)})
			r.want("delete helmrelease/b release old", "helmrelease/b@1 full")
		})
	})
	in := func(cluster *deploy.KubeConfig, policy deploy.DeletionPolicy) deploy.Target {
		return entry(ks("a"), "s", func(t *deploy.Target) { t.Kustomization.KubeConfig, t.Kustomization.DeletionPolicy = cluster, policy })
	}
	secret := func(name, key string) *deploy.KubeConfig {
		return &deploy.KubeConfig{SecretRef: &deploy.SecretKeyRef{Name: name, Key: key}}
	}
	t.Run("deletes objects from the cluster that a changed entry would leave them in", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{in(secret("east", ""), "")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.Set([]deploy.Target{in(secret("west", ""), "Delete")})
			r.want("delete kustomization/a in secret ns/east", "kustomization/a@1")
			r.Set([]deploy.Target{in(nil, "")})
			r.want("delete kustomization/a in secret ns/west Delete", "kustomization/a@1")
			r.Set([]deploy.Target{in(&deploy.KubeConfig{File: "/k", Context: "c"}, "")})
			r.want("delete kustomization/a", "kustomization/a@1")
		})
	})
	t.Run("leaves objects in a cluster where the changed entry says so", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{in(secret("gone", ""), "")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.fail(ks("a"), errBad)
			r.Set([]deploy.Target{in(secret("new", ""), "")})
			r.want("delete kustomization/a in secret ns/gone")
			r.says(ks("a"), deploy.PhaseFailed, "its retry (attempt 2)")
			want := "what it has in the cluster of secret ns/gone has to go before it is applied to the cluster of secret ns/new: " + errBad.Error() +
				"; if the cluster of secret ns/gone is gone for good, set deletionPolicy: Orphan: then what is there is left behind"
			if st := r.state(ks("a")); st.Message != want || st.Reason == "" || st.Next.IsZero() {
				t.Errorf("shown as %+v, want the message %q", st, want)
			}
			r.fail(ks("a"), nil)
			r.Set([]deploy.Target{in(secret("new", ""), deploy.DeletionOrphan)})
			r.want("delete kustomization/a in secret ns/gone Orphan", "kustomization/a@1")
		})
	})
	t.Run("shows that what was there before is being deleted, and that the target stays", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{in(secret("east", ""), "")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.hold(ks("a"), true)
			r.Set([]deploy.Target{in(nil, "")})
			if st := r.state(ks("a")); st.Phase != deploy.PhaseDeleting || !st.Replacing {
				t.Errorf("shown as %+v", st)
			}
			r.hold(ks("a"), false)
			r.held(ks("a")).done <- nil
			r.want("delete kustomization/a in secret ns/east", "kustomization/a@1")
			if st := r.state(ks("a")); st.Phase != deploy.PhaseReady || st.Replacing {
				t.Errorf("shown as %+v", st)
			}
		})
	})
	t.Run("leaves objects in a cluster that is gone where the entry comes back to say so", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{in(secret("gone", ""), "")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.fail(ks("a"), errBad)
			r.Set(nil)
			r.want("delete kustomization/a in secret ns/gone")
			if st := r.state(ks("a")); !strings.Contains(st.Message, "put the entry back with deletionPolicy: Orphan") {
				t.Errorf("it says %q", st.Message)
			}
			r.Set([]deploy.Target{in(secret("gone", ""), deploy.DeletionOrphan)})
			r.settle()
			r.ran()
			r.fail(ks("a"), nil)
			r.Set(nil)
			r.want("delete kustomization/a in secret ns/gone Orphan")
		})
	})
	t.Run("deletes nothing where the key of the cluster's Secret is only spelled out", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{in(secret("east", ""), "")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.Set([]deploy.Target{in(secret("east", "value"), "")})
			r.want("kustomization/a@1")
		})
	})
	t.Run("keeps a release whose name is only spelled out", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(hr("b"), "s")})
			r.Revised(revision("s", "1"))
			r.want("helmrelease/b@1")
			r.Set([]deploy.Target{entry(hr("b"), "s", func(t *deploy.Target) { t.HelmRelease.ReleaseName = "b" })})
			r.want("helmrelease/b@1")
		})
	})
	t.Run("deletes the old release where the entry is gone before it could be replaced", func(t *testing.T) {
		moved := entry(hr("b"), "nowhere", func(t *deploy.Target) { t.HelmRelease.ReleaseName = "new" })
		twice(t, func(r *rig) {
			r.Set([]deploy.Target{entry(hr("b"), "s", func(t *deploy.Target) { t.HelmRelease.ReleaseName = "old" })})
			r.Revised(revision("s", "1"))
			r.settle()
			r.Set([]deploy.Target{moved})
			r.settle()
		}, func(r *rig) {
			r.Set([]deploy.Target{moved})
			r.want()
			r.Set(nil)
			r.want("delete helmrelease/b release old")
		})
	})
}

func TestWaitingForWhatIsDeleted(t *testing.T) {
	bubble(t, Limits{}, nil, func(r *rig) {
		r.Set([]deploy.Target{entry(ks("a"), "s")})
		r.Revised(revision("s", "1"))
		r.want("kustomization/a@1")
		r.fail(ks("a"), errBad)
		r.Set([]deploy.Target{entry(ks("b"), "s", needs(ks("a")))})
		r.want("delete kustomization/a")
		r.says(ks("b"), deploy.PhasePending, "kustomization/a, which left the config and is being deleted")
	})
}

func TestRemember(t *testing.T) {
	t.Run("cuts long messages at a character", func(t *testing.T) {
		p := pastOf(deploy.Outcome{Err: errors.New(strings.Repeat("€", 1000))})
		if d := cmp.Diff(strings.Repeat("€", 341)+" …", p.Message); d != "" {
			t.Error(d)
		}
	})
}
