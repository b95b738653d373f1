package schedule

import (
	"testing"
	"testing/synctest"

	"github.com/towline/towline/internal/deploy"
)

// What gave way to something else is not forgotten: neither what it left behind, nor why it ran.
func TestSuperseded(t *testing.T) {
	atFirst := func(r *rig) {
		r.Set([]deploy.Target{entry(ks("a"), "s")})
		r.Revised(revision("s", "1"))
		r.want("kustomization/a@1")
	}
	t.Run("goes back where the revision does, since the other one was applied already", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			atFirst(r)
			r.hold(ks("a"), true)
			r.Revised(revision("s", "2"))
			a := r.held(ks("a"))
			a.progress(deploy.PhaseApplying, "")
			a.progress(deploy.PhaseWaiting, "")
			r.want("kustomization/a@2")
			r.hold(ks("a"), false)
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1 full")
			r.says(ks("a"), deploy.PhaseReady)
		})
	})
	t.Run("is no ground for dependants of another source, as long as nobody knows what it is", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			atFirst(r)
			r.hold(ks("a"), true)
			r.Revised(revision("s", "2"))
			r.held(ks("a")).progress(deploy.PhaseWaiting, "")
			r.Unknown(src("s"))
			r.want("kustomization/a@2")
			r.Set([]deploy.Target{entry(ks("a"), "s"), entry(ks("b"), "other", needs(ks("a")))})
			r.Revised(revision("other", "1"))
			r.want()
		})
	})
	t.Run("is left alone where it had changed nothing, and the revision comes back", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			atFirst(r)
			r.hold(ks("a"), true)
			r.Revised(revision("s", "2"))
			r.held(ks("a"))
			r.want("kustomization/a@2")
			r.Revised(revision("s", "1"))
			r.want()
			r.says(ks("a"), deploy.PhaseReady)
		})
	})
	t.Run("looks at a changed input all the same", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			atFirst(r)
			r.hold(ks("a"), true)
			r.Changed(ks("a"))
			r.held(ks("a"))
			r.want("kustomization/a@1 full")
			r.Unknown(src("s"))
			r.settle()
			r.hold(ks("a"), false)
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1 full")
			r.want()
		})
	})
	t.Run("by a changed input runs again at once, and keeps that it was asked for", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			atFirst(r)
			r.hold(ks("a"), true)
			r.Reconcile(ks("a"), true)
			r.held(ks("a")).progress(deploy.PhaseWaiting, "")
			r.want("kustomization/a@1 full")
			r.Changed(ks("a"))
			synctest.Wait()
			a := r.held(ks("a"))
			if !a.work.Asked {
				t.Error("that it was asked for is forgotten")
			}
			r.want("kustomization/a@1 full")
			a.end(nil)
			r.want()
		})
	})
	t.Run("by nothing while it changes the cluster: a changed input is looked at right after it, even a failed one", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			atFirst(r)
			r.hold(ks("a"), true)
			r.Reconcile(ks("a"), false)
			a := r.held(ks("a"))
			a.progress(deploy.PhaseApplying, "")
			r.want("kustomization/a@1 full")
			r.Changed(ks("a"))
			r.want()
			r.hold(ks("a"), false)
			a.end(errBad)
			r.want("kustomization/a@1 full")
		})
	})
}

// Who took a target out after suspending it keeps what it put into the cluster, whatever ran meanwhile.
func TestSuspendedThenRemoved(t *testing.T) {
	at := func(change ...func(*deploy.Target)) []deploy.Target {
		return []deploy.Target{entry(hr("b"), "s", change...)}
	}
	applying := func(r *rig) *attempt {
		r.hold(hr("b"), true)
		r.Set(at())
		r.Revised(revision("s", "1"))
		a := r.held(hr("b"))
		a.progress(deploy.PhaseApplying, "")
		r.want("helmrelease/b@1")
		r.Set(at(suspended))
		r.settle()
		r.hold(hr("b"), false)
		return a
	}
	t.Run("stays though an attempt of the entry before ran until after the removal", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			a := applying(r)
			r.Set(nil)
			r.want()
			a.end(nil)
			r.want("delete helmrelease/b release b suspended")
		})
	})
	t.Run("stays though a deletion of the entry before ran until after the removal", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set(at())
			r.Revised(revision("s", "1"))
			r.want("helmrelease/b@1")
			r.hold(hr("b"), true)
			r.Set(nil)
			deletion := r.held(hr("b"))
			r.want("delete helmrelease/b release b")
			r.Set(at(suspended))
			r.settle()
			r.Set(nil)
			r.settle()
			r.hold(hr("b"), false)
			deletion.end(errBad)
			r.pass(maxSaveBackoff)
			r.want("delete helmrelease/b release b suspended")
		})
	})
	t.Run("stays though the agent was stopped between the two, in the middle of an attempt", func(t *testing.T) {
		twice(t, func(r *rig) {
			a := applying(r)
			r.stop()
			r.settle()
			a.end(nil)
		}, func(r *rig) {
			r.Set(nil)
			r.want("delete helmrelease/b release b suspended")
		})
	})
	named := func(name string) func(*deploy.Target) {
		return func(t *deploy.Target) { t.HelmRelease.ReleaseName = name }
	}
	for _, suspend := range []bool{false, true} {
		words := map[bool]string{false: "is deleted where it is recorded, though the entry that left named another place", true: "stays there where that entry was suspended"}
		t.Run(words[suspend], func(t *testing.T) {
			bubble(t, Limits{}, nil, func(r *rig) {
				r.hold(hr("b"), true)
				r.Set(at(named("old")))
				r.Revised(revision("s", "1"))
				a := r.held(hr("b"))
				a.progress(deploy.PhaseApplying, "")
				r.want("helmrelease/b@1")
				r.Set(at(named("new"), func(t *deploy.Target) { t.Suspend = suspend }))
				r.settle()
				r.Set(nil)
				r.hold(hr("b"), false)
				a.end(nil)
				r.want("delete helmrelease/b release old" + map[bool]string{true: " suspended"}[suspend])
			})
		})
	}
}

// A cluster that is gone for good holds nobody up who follows what the error says.
func TestReleaseInAClusterThatIsGone(t *testing.T) {
	in := func(cluster string, change ...func(*deploy.Target)) []deploy.Target {
		return []deploy.Target{entry(hr("b"), "s", append(change, func(t *deploy.Target) {
			t.HelmRelease.KubeConfig = &deploy.KubeConfig{SecretRef: &deploy.SecretKeyRef{Name: cluster}}
		})...)}
	}
	stuck := func(r *rig, then []deploy.Target, words string) {
		r.Set(in("gone"))
		r.Revised(revision("s", "1"))
		r.want("helmrelease/b@1")
		r.fail(hr("b"), errBad)
		r.Set(then)
		r.want("delete helmrelease/b release b in secret ns/gone")
		if st := r.state(hr("b")); st.Message != words {
			t.Errorf("it says %q, want %q", st.Message, words)
		}
		r.fail(hr("b"), nil)
	}
	t.Run("lets go of an entry that left", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			stuck(r, nil, errBad.Error()+"; if the cluster of secret ns/gone is gone for good, put the entry back with suspend: true and take it out again when that has been read: "+
				"then what is there is left behind")
			r.Set(in("gone", suspended))
			r.want()
			r.Set(nil)
			r.want("delete helmrelease/b release b in secret ns/gone suspended")
			if len(r.board.states) != 0 || len(r.memory.stored) != 0 {
				t.Errorf("board %v, records %v", r.board.states, r.memory.stored)
			}
		})
	})
	t.Run("lets go of an entry that moved", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			stuck(r, in("new"), "release b has to be uninstalled from the cluster of secret ns/gone before release b is installed in the cluster of secret ns/new: "+errBad.Error()+
				"; if the cluster of secret ns/gone is gone for good, set suspend: true, take the entry out when that has been read, and put it in again when it is no longer listed: "+
				"then what is there is left behind")
			r.Set(in("new", suspended))
			r.want()
			r.Set(nil)
			r.want("delete helmrelease/b release b in secret ns/gone suspended")
			r.Set(in("new"))
			r.want("helmrelease/b@1")
		})
	})
}
