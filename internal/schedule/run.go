package schedule

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// Run works until ctx ends; then it cancels what may be cancelled, gives the rest Limits.Grace, and returns nil. It leaves no goroutine.
func (s *Scheduler) Run(ctx context.Context) error {
	l := &loop{
		Scheduler: s,
		state:     newState(s.limits),
		records:   make(map[deploy.Name]deploy.Record),
		results:   make(chan result),
		loaded:    make(chan loaded),
		shown:     make(map[deploy.Name]deploy.TargetState),
		touched:   make(map[deploy.Name]bool),
	}
	// Attempts outlive ctx by the grace period, so they get a context of their own; values such as traces stay.
	var stop context.CancelFunc
	l.work, stop = context.WithCancel(context.WithoutCancel(ctx))
	defer l.workers.Wait()
	defer stop()
	l.workers.Go(func() { l.load(ctx) })
	l.run(ctx)
	l.drain(stop)
	return nil
}

// loop is the scheduler's goroutine and what it owns.
type loop struct {
	*Scheduler
	state *state
	// records are those of targets that no Set has named yet.
	records map[deploy.Name]deploy.Record
	work    context.Context // of all jobs; a field because it belongs to the run, not to a call
	workers sync.WaitGroup
	results chan result
	loaded  chan loaded
	running int
	waiters []chan<- []deploy.TargetState
	shown   map[deploy.Name]deploy.TargetState
	// touched names the targets whose state on the board may have changed; all: every one.
	touched map[deploy.Name]bool
	all     bool
}

// loaded is one try to read the records.
type loaded struct {
	records []deploy.Record
	err     error
	done    bool
}

func (l *loop) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Stop()
		if wake := l.step(); !wake.IsZero() {
			timer.Reset(time.Until(wake))
		}
		select {
		case <-ctx.Done():
			return
		case <-l.inbox.signal:
			l.read(l.inbox.take())
		case r := <-l.results:
			l.finished(r)
		case r := <-l.loaded:
			l.remembered(r)
		case <-timer.C:
		}
		l.gather()
	}
}

// gather takes what else has come in, so that many events at once make one decision.
func (l *loop) gather() {
	for {
		select {
		case <-l.inbox.signal:
			l.read(l.inbox.take())
		case r := <-l.results:
			l.finished(r)
		default:
			return
		}
	}
}

// step does what next decides and shows the result. It returns when to look again; the zero time: only news matters.
func (l *loop) step() (wake time.Time) {
	now := time.Now()
	d := next(now, l.state)
	for _, n := range d.cancel {
		l.cancel(n)
	}
	for _, st := range d.start {
		l.start(now, st)
	}
	l.show(now)
	if len(l.waiters) > 0 && len(d.start) == 0 && l.state.loaded && l.state.configured && l.running == 0 {
		l.settle()
	}
	return d.wake
}

func (l *loop) cancel(n deploy.Name) {
	j := l.state.targets[n].job
	if j.gate.tryCancel() {
		j.canceled = true
		l.log.Debug("attempt superseded", zap.Stringer("target", n), zap.String("stage", string(j.stage.phase)))
	}
}

// drain ends the run: what may be cancelled is, what changes the cluster has until the grace period is over, and records that are behind get a last try.
func (l *loop) drain(stop context.CancelFunc) {
	l.state.stopping = true
	l.inbox.close()
	l.read(l.inbox.take())
	for _, t := range l.state.targets {
		t.refuse(errStopping)
	}
	grace := time.NewTimer(l.limits.Grace)
	defer grace.Stop()
	for l.running > 0 {
		l.step()
		select {
		case <-l.inbox.signal:
			l.read(l.inbox.take())
		case r := <-l.results:
			l.finished(r)
		case <-grace.C:
			l.log.Warn("stopping attempts that did not end within the grace period", zap.Int("attempts", l.running), zap.Duration("grace", l.limits.Grace))
			stop()
		}
	}
	l.show(time.Now()) // how what was let finish has ended: alerts still go out
	l.flush()
}

// flush tries once more to store what could not be stored.
func (l *loop) flush() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.work), saveTimeout)
	defer cancel()
	for _, n := range l.state.order {
		t := l.state.targets[n]
		if t.unsaved() { // it could not be written, or the entry changed while something ran
			if err := l.memory.Save(ctx, t.rec); err != nil {
				l.log.Warn("the last outcome of a target is not recorded: it is tried anew at the next start", zap.Stringer("target", n), zap.Error(err))
			}
		}
	}
}

// settle answers everybody who waits for quiet.
func (l *loop) settle() {
	states := make([]deploy.TargetState, 0, len(l.state.targets))
	now := time.Now()
	for _, n := range l.state.order {
		states = append(states, l.state.show(now, l.state.targets[n]))
	}
	slices.SortFunc(states, func(a, b deploy.TargetState) int { return a.Name.Compare(b.Name) })
	for _, w := range l.waiters {
		w <- states // has room for one
	}
	l.waiters = nil
}

// load reads the records until it succeeds or ctx ends.
func (l *loop) load(ctx context.Context) {
	for failures := 1; ; failures++ {
		records, err := l.memory.Load(ctx)
		var partial interface{ Partial() bool }
		done := err == nil || (errors.As(err, &partial) && partial.Partial())
		select {
		case l.loaded <- loaded{records, err, done}:
		case <-ctx.Done():
			return
		}
		if done {
			return
		}
		select {
		case <-time.After(backoff(failures, maxLoadBackoff, l.jitter())):
		case <-ctx.Done():
			return
		}
	}
}
