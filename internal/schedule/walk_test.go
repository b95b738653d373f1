package schedule

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// walkRunner takes its time, fails as it likes, and checks the promises that the scheduler makes to it.
type walkRunner struct {
	t *testing.T

	mu      sync.Mutex // guards what follows
	rand    *rand.Rand
	calm    bool
	running map[deploy.Name]bool
	good    map[deploy.Name]version // of targets whose last attempt succeeded
	there   map[deploy.Name]version // of what the cluster has
}

func (r *walkRunner) begin(n deploy.Name) (time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[n] {
		r.t.Errorf("%s runs twice at a time", n)
	}
	r.running[n] = true
	var err error
	if !r.calm && r.rand.IntN(4) == 0 {
		err = errors.New("no luck")
	}
	return time.Duration(r.rand.IntN(20_000)) * time.Millisecond, err
}

func (r *walkRunner) end(n deploy.Name, change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, n)
	change()
}

func (r *walkRunner) checkDependencies(w deploy.Work) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range w.Target.DependsOn {
		v, ok := r.good[d]
		if !ok {
			r.t.Errorf("%s runs though %s is not Ready", w.Target.Name, d)
		}
		if w.Target.Source == src(d.Name[:1]) && v.digest != w.Revision.Digest {
			r.t.Errorf("%s runs at %s while %s of the same source is at %s", w.Target.Name, w.Revision.Digest, d, v.digest)
		}
	}
}

func (r *walkRunner) Reconcile(ctx context.Context, w deploy.Work, progress deploy.Progress) deploy.Outcome {
	n := w.Target.Name
	took, err := r.begin(n)
	r.checkDependencies(w)
	out := deploy.Outcome{Target: n, Digest: w.Revision.Digest, Revision: w.Revision.String(), Hash: w.Target.Hash, Phase: deploy.PhaseReady, Started: time.Now()}
	progress(deploy.PhaseApplying, "")
	time.Sleep(took / 2)
	if ctx.Err() != nil {
		r.t.Errorf("%s was cancelled while it applied", n)
	}
	r.mu.Lock()
	r.there[n] = version{w.Revision.Digest, w.Target.Hash}
	r.mu.Unlock()
	progress(deploy.PhaseWaiting, "")
	select {
	case <-time.After(took / 2):
	case <-ctx.Done():
		err = ctx.Err()
	}
	out.Finished, out.Err = time.Now(), err
	switch {
	case errors.Is(err, context.Canceled):
		out.Phase, out.Reason = deploy.PhaseFailed, deploy.ReasonCanceled
	case err != nil:
		out.Phase, out.Reason = deploy.PhaseFailed, deploy.ReasonApplyFailed
	}
	r.end(n, func() {
		switch {
		case err == nil:
			r.good[n] = version{w.Revision.Digest, w.Target.Hash}
		case out.Reason != deploy.ReasonCanceled:
			delete(r.good, n)
		}
	})
	return out
}

func (*walkRunner) Rollback(context.Context, deploy.Target, int, deploy.Progress) (int, error) {
	return 0, nil
}

func (r *walkRunner) Move(ctx context.Context, was, _ deploy.Target, progress deploy.Progress) deploy.Outcome {
	return r.Delete(ctx, was, progress)
}

func (r *walkRunner) Delete(_ context.Context, t deploy.Target, _ deploy.Progress) deploy.Outcome {
	took, err := r.begin(t.Name)
	time.Sleep(took)
	out := deploy.Outcome{Target: t.Name, Phase: deploy.PhaseReady, Finished: time.Now(), Err: err}
	if err != nil {
		out.Phase, out.Reason = deploy.PhaseFailed, deploy.ReasonPruneFailed
	}
	r.end(t.Name, func() {
		if err == nil {
			delete(r.good, t.Name)
			delete(r.there, t.Name)
		}
	})
	return out
}

// walkMemory loses a write now and then.
type walkMemory struct {
	*fakeMemory
	rand *rand.Rand
	calm bool
}

func (m *walkMemory) unlucky() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.calm && m.rand.IntN(5) == 0 {
		return errors.New("server is away")
	}
	return nil
}

func (m *walkMemory) Save(ctx context.Context, rec deploy.Record) error {
	if err := m.unlucky(); err != nil {
		return err
	}
	return m.fakeMemory.Save(ctx, rec)
}

func (m *walkMemory) Forget(ctx context.Context, n deploy.Name) error {
	if err := m.unlucky(); err != nil {
		return err
	}
	return m.fakeMemory.Forget(ctx, n)
}

// Whatever happens in whatever order, the promises hold, and once things calm down the cluster is as the last config and the last revisions say.
func TestRandomWalksConverge(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { walk(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func walk(t *testing.T, random *rand.Rand) {
	runner := &walkRunner{t: t, rand: rand.New(rand.NewPCG(random.Uint64(), 2)), running: map[deploy.Name]bool{}, good: map[deploy.Name]version{}, there: map[deploy.Name]version{}}
	memory := &walkMemory{fakeMemory: newMemory(), rand: rand.New(rand.NewPCG(random.Uint64(), 3))}
	board := &fakeBoard{states: map[deploy.Name]deploy.TargetState{}}
	var s *Scheduler
	var stop func()
	var targets []deploy.Target
	digests := map[string]string{}
	begin := func() {
		s = New(runner, memory, board, Limits{Kustomizations: 3, HelmReleases: 2, Grace: time.Hour}, zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		stop = func() { cancel(); <-done }
		s.Set(targets)
		for source, d := range digests {
			s.Revised(revision(source, d))
		}
	}
	begin()
	for range 120 {
		switch random.IntN(8) {
		case 0, 1:
			targets = someTargets(random)
			s.Set(targets)
		case 2, 3:
			source := string("ab"[random.IntN(2)])
			digests[source] = fmt.Sprint(random.IntN(1000))
			s.Revised(revision(source, digests[source]))
		case 4:
			s.Reconcile(walkName(random.IntN(6)), random.IntN(2) == 0)
		case 5:
			if random.IntN(3) == 0 {
				stop()
				begin()
			}
		}
		time.Sleep(time.Duration(random.IntN(30_000)) * time.Millisecond)
	}
	runner.mu.Lock()
	runner.calm = true
	runner.mu.Unlock()
	memory.mu.Lock()
	memory.calm = true
	memory.mu.Unlock()
	for source := range map[string]bool{"a": true, "b": true} {
		digests[source] = "last"
		s.Revised(revision(source, "last"))
	}
	time.Sleep(time.Hour)
	synctest.Wait()
	stop()
	checkEnd(t, targets, runner, memory, board)
}

func checkEnd(t *testing.T, targets []deploy.Target, runner *walkRunner, memory *walkMemory, board *fakeBoard) {
	t.Helper()
	wanted := map[deploy.Name]bool{}
	for _, target := range targets {
		wanted[target.Name] = true
		if got := runner.there[target.Name]; got != (version{"sha256:last", target.Hash}) {
			t.Errorf("%s is at %v", target.Name, got)
		}
		if st := board.states[target.Name]; st.Phase != deploy.PhaseReady || len(st.WaitsFor) > 0 {
			t.Errorf("the board shows %s as %s, waiting for %q", target.Name, st.Phase, st.WaitsFor)
		}
		if rec, _ := memory.record(t, target.Name); rec.Intent != "" || rec.LastGood == nil || rec.LastGood.Hash != target.Hash {
			t.Errorf("the record of %s is %+v", target.Name, rec)
		}
	}
	for n := range runner.there {
		if !wanted[n] {
			t.Errorf("%s is an orphan", n)
		}
	}
	for n := range memory.stored {
		if !wanted[n] {
			t.Errorf("the record of %s was not forgotten", n)
		}
	}
	if len(board.states) != len(targets) {
		t.Errorf("the board shows %d targets, want %d", len(board.states), len(targets))
	}
}

// walkName names a target whose first letter is that of its source.
func walkName(i int) deploy.Name {
	n := ks(fmt.Sprintf("%c%d", "ab"[i%2], i))
	if i%3 == 0 {
		n.Kind = deploy.KindHelmRelease
	}
	return n
}

// someTargets are some of six targets, each depending on some before it.
func someTargets(random *rand.Rand) []deploy.Target {
	var out []deploy.Target
	for i := range 6 {
		if random.IntN(4) == 0 {
			continue
		}
		n := walkName(i)
		target := entry(n, n.Name[:1], func(t *deploy.Target) {
			for _, before := range out {
				if random.IntN(3) == 0 {
					t.DependsOn = append(t.DependsOn, before.Name)
				}
			}
			if t.HelmRelease != nil && random.IntN(3) == 0 {
				t.HelmRelease.ReleaseName = fmt.Sprint("r", random.IntN(2))
			}
			t.Timeout = time.Duration(1 + random.IntN(2))
			t.Interval = 24 * time.Hour // no check is under way when the walk ends
		})
		out = append(out, target)
	}
	return out
}
