package schedule

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
)

func TestDriftedObjects(t *testing.T) {
	one, two := deploy.ObjectID{Kind: "ConfigMap", Name: "one"}, deploy.ObjectID{Kind: "ConfigMap", Name: "two"}
	// caught fails the test unless the attempt that runs now is a full one for these objects, and ends it.
	caught := func(r *rig, err error, objects ...deploy.ObjectID) {
		r.t.Helper()
		r.want("kustomization/a@1 full")
		a := r.held(ks("a"))
		if d := cmp.Diff(objects, a.work.Drifted); d != "" || !a.work.Full {
			r.t.Fatalf("full %t, for (-want +got):\n%s", a.work.Full, d)
		}
		a.end(err)
	}
	settled := func(t *testing.T, memory *fakeMemory, test func(*rig)) {
		bubble(t, Limits{}, memory, func(r *rig) {
			r.Set([]deploy.Target{entry(ks("a"), "s")})
			r.Revised(revision("s", "1"))
			r.want("kustomization/a@1")
			r.hold(ks("a"), true)
			test(r)
		})
	}
	t.Run("are what an attempt is for, each once", func(t *testing.T) {
		settled(t, nil, func(r *rig) {
			r.Drifted(ks("a"), one)
			r.Drifted(ks("a"), two, one)
			caught(r, nil, one, two)
			r.want()
			r.Drifted(ks("a"), two)
			caught(r, nil, two)
		})
	})
	t.Run("that are not known, or beside something else, make it one for all", func(t *testing.T) {
		settled(t, nil, func(r *rig) {
			r.Drifted(ks("a"))
			r.Drifted(ks("a"), one)
			caught(r, nil)
			r.Drifted(ks("a"), one)
			r.Changed(ks("a"))
			caught(r, nil)
		})
	})
	t.Run("whose repair failed are not all that is looked at next", func(t *testing.T) {
		settled(t, nil, func(r *rig) {
			r.Drifted(ks("a"), one)
			caught(r, errBad, one)
			r.Drifted(ks("a"), two)
			r.pass(2 * time.Second)
			caught(r, nil)
		})
	})
	t.Run("whose repair was cut short are looked at with the rest", func(t *testing.T) {
		settled(t, nil, func(r *rig) {
			r.Drifted(ks("a"), one)
			r.want("kustomization/a@1 full")
			r.held(ks("a")).progress(deploy.PhaseWaiting, "")
			r.Changed(ks("a"))
			r.settle()
			r.Drifted(ks("a"), two)
			caught(r, nil)
		})
	})
	t.Run("put off no check that is due", func(t *testing.T) {
		settled(t, nil, func(r *rig) {
			r.pass(59 * time.Minute)
			r.Drifted(ks("a"), one)
			caught(r, nil, one)
			r.want()
			r.pass(2 * time.Minute)
			caught(r, nil)
		})
	})
	t.Run("are written down a moment after they were put right, also where the agent ends before", func(t *testing.T) {
		memory := newMemory()
		settled(t, memory, func(r *rig) {
			memory.taken()
			r.runner.mu.Lock()
			r.runner.changes[ks("a")] = 1
			r.runner.mu.Unlock()
			for range 2 {
				r.Drifted(ks("a"), one)
				caught(r, nil, one)
				r.settle()
			}
			if n := memory.taken(); n != 0 {
				t.Errorf("%d writes at once", n)
			}
			r.pass(2 * repairNoted)
			if n := memory.taken(); n != 1 {
				t.Errorf("%d writes, want one for both", n)
			}
			r.Drifted(ks("a"), one)
			caught(r, nil, one)
			r.settle()
			r.end()
			if rec, _ := memory.record(t, ks("a")); len(rec.History) != 4 {
				t.Errorf("recorded %d outcomes, want the first and three repairs", len(rec.History))
			}
		})
	})
}

func TestResync(t *testing.T) {
	for name, c := range map[string]struct {
		watched bool
		second  time.Duration
	}{
		"where a target is watched, checks are rare once one has shown that all is well": {true, 3 * time.Hour},
		"where it is not, the interval holds":                                            {false, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Limits{Resync: 3 * time.Hour}, nil, func(r *rig) {
				r.runner.mu.Lock()
				r.runner.watched[ks("a")] = c.watched
				r.runner.mu.Unlock()
				r.Set([]deploy.Target{entry(ks("a"), "s")}) // interval 1h
				r.Revised(revision("s", "1"))
				r.want("kustomization/a@1")
				r.pass(61 * time.Minute)
				r.want("kustomization/a@1 full")
				r.pass(c.second - 2*time.Minute)
				r.want()
				r.pass(3 * time.Minute)
				r.want("kustomization/a@1 full")
			})
		})
	}
}
