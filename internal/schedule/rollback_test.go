package schedule

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// asking is a call of Rollback that is still going on.
type asking struct {
	to   string
	err  error
	done chan struct{}
}

func (r *rig) rollback(ctx context.Context, n deploy.Name, revision string) *asking {
	a := &asking{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.to, a.err = r.Rollback(ctx, n, revision)
	}()
	synctest.Wait()
	return a
}

// ended checks how the call ended.
func (a *asking) ended(t *testing.T, to string, err error) {
	t.Helper()
	synctest.Wait()
	select {
	case <-a.done:
	default:
		t.Fatal("the call is still waiting")
	}
	if a.to != to || !errors.Is(a.err, err) {
		t.Errorf("it returned %q, %v; want %q, %v", a.to, a.err, to, err)
	}
}

func (a *asking) waits(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case <-a.done:
		t.Fatalf("the call returned %q, %v", a.to, a.err)
	default:
	}
}

func TestRollback(t *testing.T) {
	release := entry(hr("a"), "s")
	settled := func(r *rig) {
		r.Set([]deploy.Target{release})
		r.Revised(revision("s", "1"))
		r.want("helmrelease/a@1")
	}
	t.Run("runs at once, and a full attempt behind it says how the target is", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			settled(r)
			r.hold(hr("a"), true)
			a := r.rollback(r.t.Context(), hr("a"), "3")
			r.want("rollback helmrelease/a to 3")
			r.says(hr("a"), deploy.PhaseApplying)
			a.waits(t)
			held := r.held(hr("a"))
			r.hold(hr("a"), false)
			held.end(nil)
			a.ended(t, "3", nil)
			r.want("helmrelease/a@1 full")
		})
	})
	t.Run("says why it failed, and what runs after it is not asked for", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			settled(r)
			r.hold(hr("a"), true)
			a := r.rollback(r.t.Context(), hr("a"), "")
			r.want("rollback helmrelease/a to 0")
			r.held(hr("a")).end(errBad)
			a.ended(t, "", errBad)
			r.want("helmrelease/a@1 full")
			if r.held(hr("a")).work.Asked {
				t.Error("the attempt would undo what was rolled back by hand")
			}
			r.held(hr("a")).end(nil)
		})
	})
	t.Run("cuts a wait for health short, and not what changes the cluster", func(t *testing.T) {
		for phase, waits := range map[deploy.Phase]bool{deploy.PhaseWaiting: false, deploy.PhaseApplying: true} {
			bubble(t, Limits{}, nil, func(r *rig) {
				r.hold(hr("a"), true)
				settled(r)
				attempt := r.held(hr("a"))
				attempt.progress(phase, "")
				synctest.Wait()
				a := r.rollback(r.t.Context(), hr("a"), "")
				if waits {
					r.want()
					attempt.end(nil)
				}
				r.want("rollback helmrelease/a to 0")
				r.hold(hr("a"), false)
				r.held(hr("a")).end(nil)
				a.ended(t, "1", nil)
				r.want("helmrelease/a@1 full")
			})
		}
	})
	t.Run("goes before others where there is no room for all", func(t *testing.T) {
		bubble(t, Limits{HelmReleases: 1}, nil, func(r *rig) {
			settled(r)
			r.hold(hr("b"), true)
			r.Set([]deploy.Target{release, entry(hr("b"), "s"), entry(hr("c"), "s")})
			r.want("helmrelease/b@1")
			a := r.rollback(r.t.Context(), hr("a"), "2")
			r.want()
			r.held(hr("b")).end(nil)
			r.want("rollback helmrelease/a to 2", "helmrelease/c@1", "helmrelease/a@1 full")
			a.ended(t, "2", nil)
		})
	})
	t.Run("needs no revision of the source, and runs for what is suspended", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.Set([]deploy.Target{entry(hr("a"), "s", suspended)})
			a := r.rollback(r.t.Context(), hr("a"), "2")
			r.want("rollback helmrelease/a to 2")
			a.ended(t, "2", nil)
		})
	})
	t.Run("is one at a time", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			settled(r)
			r.hold(hr("a"), true)
			first := r.rollback(r.t.Context(), hr("a"), "2")
			r.want("rollback helmrelease/a to 2")
			r.rollback(r.t.Context(), hr("a"), "1").ended(t, "", ErrBusy)
			held := r.held(hr("a"))
			r.hold(hr("a"), false)
			held.end(nil)
			first.ended(t, "2", nil)
			r.want("helmrelease/a@1 full")
		})
	})
	t.Run("of an unknown target is refused", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			settled(r)
			r.rollback(r.t.Context(), hr("b"), "1").ended(t, "", ErrUnknown)
		})
	})
	t.Run("goes on when nobody waits for it any more", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			settled(r)
			r.hold(hr("a"), true)
			ctx, cancel := context.WithCancel(r.t.Context())
			a := r.rollback(ctx, hr("a"), "2")
			r.want("rollback helmrelease/a to 2")
			cancel()
			a.ended(t, "", context.Canceled)
			held := r.held(hr("a"))
			r.hold(hr("a"), false)
			held.end(nil)
			r.want("helmrelease/a@1 full")
		})
	})
	t.Run("that has not begun is refused when its target leaves the config", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(hr("a"), true)
			settled(r)
			attempt := r.held(hr("a"))
			attempt.progress(deploy.PhaseApplying, "")
			a := r.rollback(r.t.Context(), hr("a"), "2")
			a.waits(t)
			r.Set(nil)
			a.ended(t, "", errLeft)
			r.hold(hr("a"), false)
			attempt.end(nil)
			r.want("delete helmrelease/a release a")
		})
	})
	t.Run("that has not begun is refused when the agent stops, as is every later one", func(t *testing.T) {
		bubble(t, Limits{}, nil, func(r *rig) {
			r.hold(hr("a"), true)
			settled(r)
			attempt := r.held(hr("a"))
			attempt.progress(deploy.PhaseApplying, "")
			a := r.rollback(r.t.Context(), hr("a"), "2")
			a.waits(t)
			r.stop()
			a.ended(t, "", errStopping)
			r.rollback(r.t.Context(), hr("a"), "2").ended(t, "", errStopping)
			attempt.end(nil)
		})
	})
	t.Run("that runs when the agent stops is let finish", func(t *testing.T) {
		bubble(t, Limits{Grace: time.Minute}, nil, func(r *rig) {
			settled(r)
			r.hold(hr("a"), true)
			a := r.rollback(r.t.Context(), hr("a"), "2")
			r.want("rollback helmrelease/a to 2")
			r.stop()
			a.waits(t)
			r.held(hr("a")).end(nil)
			a.ended(t, "2", nil)
		})
	})
}
