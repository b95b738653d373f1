package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ks(name string) deploy.Name {
	return deploy.Name{Kind: deploy.KindKustomization, Namespace: "ns", Name: name}
}

func hr(name string) deploy.Name {
	return deploy.Name{Kind: deploy.KindHelmRelease, Namespace: "ns", Name: name}
}

func src(name string) deploy.Name {
	return deploy.Name{Kind: deploy.KindSource, Namespace: "ns", Name: name}
}

// entry makes a target of a source with that name.
func entry(n deploy.Name, source string, change ...func(*deploy.Target)) deploy.Target {
	t := deploy.Target{Name: n, Source: src(source), Interval: time.Hour, RetryInterval: 10 * time.Second, Timeout: time.Minute}
	if n.Kind == deploy.KindHelmRelease {
		t.HelmRelease = &deploy.HelmReleaseSpec{}
	} else {
		t.Kustomization = &deploy.KustomizationSpec{}
	}
	for _, c := range change {
		c(&t)
	}
	t.Hash = deploy.HashOf(t)
	return t
}

func needs(names ...deploy.Name) func(*deploy.Target) {
	return func(t *deploy.Target) { t.DependsOn = names }
}

func suspended(t *deploy.Target) { t.Suspend = true }

func revision(source, digest string) deploy.Revision {
	return deploy.Revision{Source: src(source), Ref: "v", Digest: "sha256:" + digest}
}

// attempt is a call of the runner that is still going on.
type attempt struct {
	ctx      context.Context
	work     deploy.Work
	progress deploy.Progress
	done     chan error
}

// end lets the attempt end.
func (a *attempt) end(err error) { a.done <- err }

// fakeRunner ends attempts at once and well, unless it is told to hold or fail them.
type fakeRunner struct {
	mu      sync.Mutex // guards what follows
	log     []string
	hold    map[deploy.Name]bool
	fail    map[deploy.Name]error
	changes map[deploy.Name]int
	// sick are the digests with which targets do not become healthy; releases go back by themselves then.
	sick map[deploy.Name]string
	// watched are the targets that are.
	watched map[deploy.Name]bool
	running map[deploy.Name]*attempt
	most    int
}

func newRunner() *fakeRunner {
	return &fakeRunner{hold: map[deploy.Name]bool{}, fail: map[deploy.Name]error{}, changes: map[deploy.Name]int{}, sick: map[deploy.Name]string{}, watched: map[deploy.Name]bool{}, running: map[deploy.Name]*attempt{}}
}

func (r *fakeRunner) begin(a *attempt, n deploy.Name, line string) (hold bool, changes int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[n] != nil {
		line = "OVERLAP " + line
	}
	r.log = append(r.log, line)
	r.running[n] = a
	r.most = max(r.most, len(r.running))
	return r.hold[n], r.changes[n], r.fail[n]
}

func (r *fakeRunner) finish(n deploy.Name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, n)
}

func (r *fakeRunner) Reconcile(ctx context.Context, w deploy.Work, progress deploy.Progress) deploy.Outcome {
	started := time.Now()
	n := w.Target.Name
	line := n.Short("ns") + "@" + strings.TrimPrefix(w.Revision.Digest, "sha256:")
	if w.Full {
		line += " full"
	}
	a := &attempt{ctx: ctx, work: w, progress: progress, done: make(chan error)}
	hold, changes, err := r.begin(a, n, line)
	defer r.finish(n)
	if hold {
		select {
		case err = <-a.done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	out := deploy.Outcome{
		Target: n, Digest: w.Revision.Digest, Revision: w.Revision.String(), Hash: w.Target.Hash, Phase: deploy.PhaseReady,
		Changes: make([]deploy.Change, changes), Started: started, Finished: time.Now(), Err: err,
	}
	r.mu.Lock()
	out.Watched = r.watched[n]
	sick := r.sick[n] == strings.TrimPrefix(out.Digest, "sha256:")
	r.mu.Unlock()
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		out.Phase, out.Reason = deploy.PhaseFailed, deploy.ReasonCanceled
	case sick:
		out.Phase, out.Reason, out.Err, out.FellBack = deploy.PhaseFailed, deploy.ReasonHealthCheckFailed, errSick, w.Target.HelmRelease != nil
	case err != nil:
		out.Phase, out.Reason = deploy.PhaseFailed, deploy.ReasonApplyFailed
	}
	return out
}

// Rollback logs and ends like Reconcile; from 0 it goes to 1.
func (r *fakeRunner) Rollback(ctx context.Context, t deploy.Target, revision int, progress deploy.Progress) (int, error) {
	a := &attempt{ctx: ctx, progress: progress, done: make(chan error)}
	hold, _, err := r.begin(a, t.Name, fmt.Sprintf("rollback %s to %d", t.Name.Short("ns"), revision))
	defer r.finish(t.Name)
	if hold {
		select {
		case err = <-a.done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return 0, err
	}
	return max(revision, 1), nil
}

func (r *fakeRunner) Move(ctx context.Context, was, _ deploy.Target, progress deploy.Progress) deploy.Outcome {
	return r.Delete(ctx, was, progress)
}

func (r *fakeRunner) Delete(ctx context.Context, t deploy.Target, progress deploy.Progress) deploy.Outcome {
	n := t.Name
	a := &attempt{ctx: ctx, progress: progress, done: make(chan error)}
	line := "delete " + n.Short("ns")
	if t.HelmRelease != nil {
		line += " release " + t.Release().Name
	}
	if t.Cluster() != "" {
		line += " in " + t.Cluster()
	}
	if t.Kustomization != nil && t.Kustomization.DeletionPolicy != "" {
		line += " " + string(t.Kustomization.DeletionPolicy)
	}
	if t.Suspend {
		line += " suspended"
	}
	hold, _, err := r.begin(a, n, line)
	defer r.finish(n)
	if hold {
		select {
		case err = <-a.done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	out := deploy.Outcome{Target: n, Phase: deploy.PhaseReady, Finished: time.Now(), Err: err}
	if err != nil {
		out.Phase, out.Reason = deploy.PhaseFailed, deploy.ReasonPruneFailed
	}
	return out
}

// fakeMemory keeps records as JSON, as the real one does.
type fakeMemory struct {
	mu      sync.Mutex // guards what follows
	stored  map[deploy.Name]string
	saves   int
	forgets int
	err     error
	partial error // beside the records
}

func newMemory() *fakeMemory { return &fakeMemory{stored: map[deploy.Name]string{}} }

func (m *fakeMemory) Load(context.Context) ([]deploy.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	var out []deploy.Record
	for _, text := range m.stored {
		var rec deploy.Record
		if err := json.Unmarshal([]byte(text), &rec); err != nil {
			return nil, err
		}
		out = append(out, rec)
	}
	return out, m.partial
}

func (m *fakeMemory) Save(_ context.Context, rec deploy.Record) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saves++
	if m.err != nil {
		return m.err
	}
	m.stored[rec.Target.Name] = string(b)
	return nil
}

func (m *fakeMemory) Forget(_ context.Context, n deploy.Name) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgets++
	if m.err != nil {
		return m.err
	}
	delete(m.stored, n)
	return nil
}

func (m *fakeMemory) fails(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// taken returns how many writes there were since the last call.
func (m *fakeMemory) taken() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.saves + m.forgets
	m.saves, m.forgets = 0, 0
	return n
}

func (m *fakeMemory) record(t *testing.T, n deploy.Name) (rec deploy.Record, ok bool) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	text, ok := m.stored[n]
	if ok {
		if err := json.Unmarshal([]byte(text), &rec); err != nil {
			t.Fatal(err)
		}
	}
	return rec, ok
}

// fakeBoard keeps the last state of each target.
type fakeBoard struct {
	mu     sync.Mutex // guards what follows
	states map[deploy.Name]deploy.TargetState
	shown  int
}

func (b *fakeBoard) TargetState(st deploy.TargetState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.states[st.Name] = st
	b.shown++
}

func (b *fakeBoard) TargetGone(n deploy.Name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.states, n)
}

// rig is a running scheduler inside of a synctest bubble.
type rig struct {
	*Scheduler
	t       *testing.T
	runner  *fakeRunner
	memory  *fakeMemory
	board   *fakeBoard
	stop    context.CancelFunc
	stopped chan struct{}
}

// bubble runs a test on a scheduler whose clock is the bubble's.
func bubble(t *testing.T, limits Limits, memory *fakeMemory, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, limits, memory)
		test(r)
		r.end()
	})
}

func startRig(t *testing.T, limits Limits, memory *fakeMemory) *rig {
	t.Helper()
	if memory == nil {
		memory = newMemory()
	}
	r := &rig{t: t, runner: newRunner(), memory: memory, board: &fakeBoard{states: map[deploy.Name]deploy.TargetState{}}, stopped: make(chan struct{})}
	r.Scheduler = New(r.runner, memory, r.board, limits, zap.NewNop())
	r.jitter = func() float64 { return 0.5 } // none
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() {
		defer close(r.stopped)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return r
}

// end stops the scheduler and waits for it.
func (r *rig) end() {
	r.stop()
	<-r.stopped
}

// settle waits until everything is blocked, without moving the clock.
func (r *rig) settle() { synctest.Wait() }

// pass moves the clock.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d) // the bubble's clock: it takes no time
	synctest.Wait()
}

// ran returns what the runner was asked for since the last call.
func (r *rig) ran() []string {
	r.settle()
	r.runner.mu.Lock()
	defer r.runner.mu.Unlock()
	log := r.runner.log
	r.runner.log = nil
	return log
}

// want fails the test unless the runner was asked for exactly this since the last time.
func (r *rig) want(lines ...string) {
	r.t.Helper()
	if got := r.ran(); !slices.Equal(got, lines) {
		r.t.Fatalf("ran %q, want %q", got, lines)
	}
}

// wantAny is want for attempts that start at the same time.
func (r *rig) wantAny(lines ...string) {
	r.t.Helper()
	got := r.ran()
	slices.Sort(got)
	slices.Sort(lines)
	if !slices.Equal(got, lines) {
		r.t.Fatalf("ran %q, want %q in any order", got, lines)
	}
}

func (r *rig) state(n deploy.Name) deploy.TargetState {
	r.settle()
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	return r.board.states[n]
}

// says fails the test unless the board shows the phase and the words.
func (r *rig) says(n deploy.Name, phase deploy.Phase, words ...string) {
	r.t.Helper()
	st := r.state(n)
	if st.Phase != phase || fmt.Sprint(st.WaitsFor) != fmt.Sprint(words) {
		r.t.Fatalf("%s is %s, waits for %q; want %s, %q", n, st.Phase, st.WaitsFor, phase, words)
	}
}

func (r *rig) hold(n deploy.Name, hold bool) {
	r.runner.mu.Lock()
	defer r.runner.mu.Unlock()
	r.runner.hold[n] = hold
}

func (r *rig) fail(n deploy.Name, err error) {
	r.runner.mu.Lock()
	defer r.runner.mu.Unlock()
	r.runner.fail[n] = err
}

// held is the attempt of a target that is going on.
func (r *rig) held(n deploy.Name) *attempt {
	r.t.Helper()
	r.settle()
	r.runner.mu.Lock()
	defer r.runner.mu.Unlock()
	a := r.runner.running[n]
	if a == nil {
		r.t.Fatalf("%s is not running", n)
	}
	return a
}
