// Package enginetest is the contract that every engine passes: one suite, run by each engine's tests against a real cluster.
package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/reconcile"
)

// Fixture is what an engine's tests bring: how to make an engine, and targets for it.
type Fixture struct {
	// Engine makes an engine that remembers nothing, as after a restart, on the cluster that the cases are for.
	Engine func(testing.TB) reconcile.Engine
	// Case makes a target of its own, in a namespace of its own, with nothing in the cluster yet.
	Case func(*testing.T) Case
}

// Case is one target.
type Case struct {
	// First and Second are two versions of the target, of different digests, that differ in at least one object.
	First, Second deploy.Work
	// Slow is a version that is applied but does not become healthy within a minute.
	Slow deploy.Work
	// Broken is a version that cannot be planned or that the server refuses.
	Broken deploy.Work
	// At returns nil when the cluster is as the version says, all of it: version is one of the above, or nil for "nothing of the target is left".
	At func(version *deploy.Work) error
}

// prompt is how soon an engine must return once its context has ended: the time of a few requests, with room for a busy machine.
const prompt = 10 * time.Second

// patience is how long the suite waits for the cluster itself, which deletes in the background.
const patience = 90 * time.Second

// Run runs the suite.
func Run(t *testing.T, f Fixture) {
	for _, tc := range []struct {
		name string
		test func(*suite)
	}{
		{"plans without changing anything", (*suite).planChangesNothing},
		{"installs, and then has nothing to do, also after a restart", (*suite).install},
		{"changes what changed", (*suite).change},
		{"deletes, twice if need be, and what was never there", (*suite).remove},
		{"installs again after a deletion", (*suite).reinstall},
		{"gives a reason for what it cannot do, and recovers", (*suite).broken},
		{"does nothing for a context that has ended", (*suite).ended},
		{"returns promptly when its context ends, and recovers", (*suite).cancelled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.test(&suite{T: t, fixture: f, Case: f.Case(t), engine: f.Engine(t)})
		})
	}
}

// suite is one run of one test.
type suite struct {
	*testing.T
	Case
	fixture Fixture
	engine  reconcile.Engine
}

// restart replaces the engine by one that remembers nothing.
func (s *suite) restart() { s.engine = s.fixture.Engine(s) }

func (s *suite) plan(w deploy.Work) *deploy.Plan {
	s.Helper()
	p, err := s.engine.Plan(s.Context(), w)
	if err != nil {
		s.Fatalf("plan: %v", err)
	}
	return p
}

// apply brings the target to a version; it fails the test unless there was something to do and it worked.
func (s *suite) apply(w deploy.Work) {
	s.Helper()
	p := s.plan(w)
	if p.Empty() {
		s.Fatalf("the plan for %s is empty", w.Revision)
	}
	changes, err := s.engine.Apply(s.Context(), w, p, func(deploy.Phase, string) {})
	if err != nil {
		s.Fatalf("apply %s: %v", w.Revision, err)
	}
	if len(changes) == 0 {
		s.Errorf("apply of %s names no changes", w.Revision)
	}
	s.is(&w)
}

// nothingToDo fails the test unless the plan is empty.
func (s *suite) nothingToDo(w deploy.Work) {
	s.Helper()
	if p := s.plan(w); !p.Empty() {
		s.Errorf("the plan for %s (full: %t) has %d changes, the first is %s %s; want none", w.Revision, w.Full, len(p.Changes), p.Changes[0].Action, p.Changes[0].Object)
	}
}

// delete deletes as it is done after the target left the config: with the target from a record, which has no values.
func (s *suite) delete() {
	s.Helper()
	if err := s.engine.Delete(s.Context(), recorded(s, s.First.Target), func(deploy.Phase, string) {}); err != nil {
		s.Fatalf("delete: %v", err)
	}
	s.is(nil)
}

// is waits until the cluster is at a version.
func (s *suite) is(version *deploy.Work) {
	s.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := s.At(version)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.Fatal(err)
		}
		select {
		case <-s.Context().Done():
			s.Fatal(s.Context().Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *suite) planChangesNothing() {
	if s.plan(s.First).Empty() {
		s.Error("the plan of an installation is empty")
	}
	s.is(nil)
}

func (s *suite) install() {
	s.apply(s.First)
	full := s.First
	full.Full = true
	s.nothingToDo(s.First)
	s.nothingToDo(full)
	s.restart()
	s.nothingToDo(s.First)
	s.nothingToDo(full)
}

func (s *suite) change() {
	s.apply(s.First)
	s.apply(s.Second)
	s.nothingToDo(s.Second)
	s.restart()
	s.apply(s.First)
	s.nothingToDo(s.First)
}

func (s *suite) remove() {
	s.delete()
	s.apply(s.First)
	s.restart()
	s.delete()
	s.delete()
	s.restart()
	s.delete()
}

func (s *suite) reinstall() {
	s.apply(s.First)
	s.delete()
	s.apply(s.First)
	s.nothingToDo(s.First)
}

func (s *suite) broken() {
	p, err := s.engine.Plan(s.Context(), s.Broken)
	if err == nil {
		_, err = s.engine.Apply(s.Context(), s.Broken, p, func(deploy.Phase, string) {})
	}
	var failure *deploy.Failure
	if !errors.As(err, &failure) || failure.Reason == "" {
		s.Fatalf("got %v, want a *deploy.Failure with a reason", err)
	}
	s.apply(s.First)
	s.nothingToDo(s.First)
}

func (s *suite) ended() {
	ctx, cancel := context.WithCancel(s.Context())
	p := s.plan(s.First)
	cancel()
	start := time.Now()
	_, err := s.engine.Apply(ctx, s.First, p, func(deploy.Phase, string) {})
	s.promptly(start, err)
	s.is(nil)
	s.apply(s.First)
	start = time.Now()
	s.promptly(start, s.engine.Delete(ctx, recorded(s, s.First.Target), func(deploy.Phase, string) {}))
	s.is(&s.First)
	s.apply(s.Second)
}

func (s *suite) cancelled() {
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	p := s.plan(s.Slow)
	var since time.Time
	_, err := s.engine.Apply(ctx, s.Slow, p, func(phase deploy.Phase, _ string) {
		if phase == deploy.PhaseWaiting && since.IsZero() {
			since = time.Now()
			cancel()
		}
	})
	if since.IsZero() {
		s.Fatalf("it never said that it waits; it returned %v", err)
	}
	s.promptly(since, err)
	s.restart()
	s.apply(s.First)
	s.nothingToDo(s.First)
}

// promptly fails the test unless there is an error, and soon after the context ended.
func (s *suite) promptly(since time.Time, err error) {
	s.Helper()
	if err == nil {
		s.Error("it returned no error")
	}
	if took := time.Since(since); took > prompt {
		s.Errorf("it took %s to return", took)
	}
}

// recorded is a target as it comes back from its record.
func recorded(t testing.TB, target deploy.Target) deploy.Target {
	t.Helper()
	b, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	var out deploy.Target
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if out.HelmRelease != nil {
		out.HelmRelease.Values = nil
	}
	return out
}
