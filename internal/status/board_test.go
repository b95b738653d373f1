package status

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/towline/towline/internal/deploy"
)

func TestLastReady(t *testing.T) {
	past := func(p deploy.Phase) []deploy.Past { return []deploy.Past{{Phase: p}} }
	for _, tt := range []struct {
		name          string
		state         deploy.TargetState
		before, known bool
		want          bool
	}{
		{"ready is ready", deploy.TargetState{Phase: deploy.PhaseReady}, false, true, true},
		{"failed is not", deploy.TargetState{Phase: deploy.PhaseFailed}, true, true, false},
		{"degraded is not", deploy.TargetState{Phase: deploy.PhaseDegraded}, true, true, false},
		{"pending is not", deploy.TargetState{Phase: deploy.PhasePending}, true, true, false},
		{"a run after a good one stays ready", deploy.TargetState{Phase: deploy.PhaseApplying}, true, true, true},
		{"a run after a bad one stays not ready", deploy.TargetState{Phase: deploy.PhaseApplying}, false, true, false},
		{"a run that retries a failure is not ready, whatever was before", deploy.TargetState{Phase: deploy.PhaseApplying, Failures: 1}, true, true, false},
		{"suspending keeps it", deploy.TargetState{Phase: deploy.PhaseSuspended}, true, true, true},
		{"after a restart the history says it", deploy.TargetState{Phase: deploy.PhaseBuilding, History: past(deploy.PhaseReady)}, false, false, true},
		{"after a restart a bad history says it too", deploy.TargetState{Phase: deploy.PhaseBuilding, History: past(deploy.PhaseFailed)}, false, false, false},
		{"the first run is not ready", deploy.TargetState{Phase: deploy.PhaseBuilding}, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := lastReady(tt.state, tt.before, tt.known); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBoard(t *testing.T) {
	t.Run("sorts by name and counts", func(t *testing.T) {
		s := fullBoard().Status()
		var names []string
		for _, x := range s.Sources {
			names = append(names, x.Name.String())
		}
		for _, x := range s.Targets {
			names = append(names, x.Name.String())
		}
		equal(t, "names", []string{"source/apps/db-chart", "source/apps/web", "helmrelease/apps/db", "kustomization/apps/base", "kustomization/apps/web"}, names)
		equal(t, "summary", Summary{
			Sources: SourceCounts{Total: 2, Ready: 1, Failing: 1},
			Targets: TargetCounts{Total: 3, Ready: 1, Pending: 1, Failed: 1},
		}, s.Summary)
	})
	t.Run("every phase is counted once", func(t *testing.T) {
		var targets []deploy.TargetState
		for _, p := range []deploy.Phase{
			deploy.PhaseBuilding, deploy.PhasePlanning, deploy.PhaseApplying, deploy.PhaseWaiting, deploy.PhasePruning, deploy.PhasePending,
			deploy.PhaseReady, deploy.PhaseDegraded, deploy.PhaseFailed, deploy.PhaseSuspended, deploy.PhaseDeleting,
		} {
			targets = append(targets, deploy.TargetState{Phase: p})
		}
		want := TargetCounts{Total: 11, Ready: 1, Running: 5, Pending: 1, Degraded: 1, Failed: 1, Suspended: 1, Deleting: 1}
		equal(t, "counts", want, summarize(nil, targets).Targets)
	})
	t.Run("a refused config is shown until the next good one", func(t *testing.T) {
		b := fullBoard()
		b.ConfigFailed(errors.New("config.yaml:3: unknown key"))
		want := Config{Hash: "c0ffee", Sources: 2, Targets: 3, LoadedAt: b.config.LoadedAt, Error: "config.yaml:3: unknown key", FailedAt: noon}
		equal(t, "after a bad one", want, b.Status().Config)
		if !b.Status().Ready {
			t.Error("the agent is no longer ready, though the old config is in force")
		}
		b.ConfigFailed(nil)
		equal(t, "after no error", want, b.Status().Config)
		b.ConfigLoaded("beef", 1, 1, noon)
		equal(t, "after a good one", Config{Hash: "beef", Sources: 1, Targets: 1, LoadedAt: noon}, b.Status().Config)
	})
	t.Run("is ready when all gates are open", func(t *testing.T) {
		b := New(Options{Gates: []string{"records"}})
		equal(t, "at first", []string{"cluster", "config", "records"}, b.Status().Missing)
		b.SetReady(GateCluster, true)
		b.SetReady("records", true)
		b.ConfigLoaded("h", 0, 0, noon)
		if s := b.Status(); !s.Ready || s.Missing != nil {
			t.Errorf("ready %v, missing %v", s.Ready, s.Missing)
		}
		b.SetReady("records", false)
		equal(t, "after closing one", []string{"records"}, b.Status().Missing)
	})
	t.Run("cuts passwords out of addresses", func(t *testing.T) {
		b := emptyBoard()
		b.SourceState(deploy.SourceState{Name: source("a"), URL: "oci://user:hunter2@registry.example.com/a"})
		b.SourceState(deploy.SourceState{Name: source("b"), URL: "oci://us%er:hunter2@registry.example.com/b"})
		s := b.Status()
		equal(t, "addresses", []string{"oci://registry.example.com/a", "(not a URL)"}, []string{s.Sources[0].URL, s.Sources[1].URL})
	})
	t.Run("forgets what is gone, and does not mind what never was", func(t *testing.T) {
		b := fullBoard()
		b.SourceGone(source("web"))
		b.TargetGone(manifests("web"))
		before := b.seq
		b.SourceGone(source("none"))
		b.TargetGone(manifests("none"))
		s := b.Status()
		if len(s.Sources) != 1 || len(s.Targets) != 2 || b.seq != before {
			t.Errorf("%d sources, %d targets, %d changes for nothing", len(s.Sources), len(s.Targets), b.seq-before)
		}
	})
	t.Run("takes reports from many goroutines at once, and never blocks on a watcher that does not look", func(t *testing.T) {
		b := emptyBoard()
		_, stop := b.watch()
		defer stop()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 50 {
					n := manifests(fmt.Sprintf("t%d-%d", i, j))
					b.TargetState(deploy.TargetState{Name: n, Phase: deploy.PhaseReady})
					_ = b.Status()
					b.TargetGone(n)
				}
			})
		}
		wg.Wait()
		if s := b.Status(); len(s.Targets) != 0 {
			t.Errorf("%d targets are left", len(s.Targets))
		}
	})
}

func TestSince(t *testing.T) {
	t.Run("holds what changed and nothing else", func(t *testing.T) {
		b := fullBoard()
		_, seq := b.snapshot()
		b.TargetState(readyTarget("web"))
		b.TargetGone(manifests("base"))
		d, newest, complete := b.since(seq)
		if !complete || d.head != nil || len(d.sources) != 0 || newest != b.seq {
			t.Errorf("complete %v, head %v, %d sources, change %d of %d", complete, d.head, len(d.sources), newest, b.seq)
		}
		equal(t, "targets", []deploy.TargetState{readyTarget("web")}, d.targets)
		equal(t, "gone", []deploy.Name{manifests("base")}, d.gone)
		if d, _, _ := b.since(newest); d.head != nil || d.gone != nil || d.sources != nil || d.targets != nil {
			t.Errorf("nothing changed, yet there is %+v", d)
		}
	})
	t.Run("says so when too much left to be remembered", func(t *testing.T) {
		b := emptyBoard()
		for i := range maxTombstones + 1 {
			n := manifests(fmt.Sprint(i))
			b.TargetState(deploy.TargetState{Name: n})
			b.TargetGone(n)
		}
		if _, _, complete := b.since(0); complete {
			t.Error("claims to know everything since the beginning")
		}
		d, _, complete := b.since(b.goneFloor)
		if !complete || len(d.gone) != maxTombstones {
			t.Errorf("complete %v, %d gone", complete, len(d.gone))
		}
	})
}
