package schedule

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/graph"
)

// state is everything that the scheduler knows. Only its goroutine touches it.
type state struct {
	// loaded: the records were read. configured: there was a Set. Nothing starts before both.
	loaded, configured bool
	// loadError is why the records are not read yet.
	loadError error
	stopping  bool
	limits    Limits
	targets   map[deploy.Name]*target
	// order has every target behind what it depends on.
	order []deploy.Name
	graph *graph.Graph
	// cycle is set where the configured targets wait for each other. The config refuses that; here it only has to be said.
	cycle     *graph.CycleError
	revisions map[deploy.Name]deploy.Revision
	sources   map[deploy.Name]deploy.SourceState
}

// version is what a target was or will be brought to.
type version struct {
	digest string
	hash   string // of the target's spec
}

// target is one target with its run state.
type target struct {
	// spec as configured; for a target that is gone from the config, as recorded.
	spec deploy.Target
	// rules judge those dependencies that have a readyExpr; nil where none has.
	rules map[deploy.Name]*readyRule
	// gone: it left the config and is to be deleted.
	gone bool
	job  *job // nil while nothing runs

	// attempted is the version of the last attempt that came to an end in this process.
	attempted *version
	// ready is the version that the target is at; nil while its last attempt did not end Ready.
	ready *version
	// last is how the last attempt ended.
	last deploy.Outcome
	// failures in a row, and when the next attempt may start because of them.
	failures int
	retryAt  time.Time
	// checkAt is when the next full check is due; the zero time: none.
	checkAt time.Time
	// full: the next attempt has to compare with the cluster, since nobody knows what happened there.
	full bool
	// forced is why it starts now, and compares; 0: it does not.
	forced force
	// drifted are what forceDrifted is about.
	drifted drifted
	// contests are the objects that others insist on.
	contests []deploy.Contest
	// order is the rollback to begin with; nil: none.
	order *order
	// held is what keeps it at an earlier revision than its source says, and awaited who waits for it to get there; nil: nothing, nobody.
	held    *deploy.Held
	awaited *order
	// together is what it was at when all of its group were Ready the last time.
	together *deploy.Good

	// rec is what should be remembered, and hash its hash; stored is the hash of what is, empty for nothing.
	rec    deploy.Record
	hash   string
	stored string
	// saveAt is when to try again to store rec after saveFailures in a row.
	saveAt       time.Time
	saveFailures int
}

// recorded reports whether there may be something to delete.
func (t *target) recorded() bool { return t.stored != "" }

// unsaved reports whether memory lags behind. It is asked for every target at every event, so it must not marshal anything.
func (t *target) unsaved() bool { return t.recorded() && t.hash != t.stored }

// note takes a record over.
func (t *target) note(rec deploy.Record) { t.rec, t.hash = rec, deploy.HashOf(rec) }

// take takes an entry of the config over.
func (t *target) take(spec deploy.Target) {
	if t.spec.Hash != spec.Hash || t.rules == nil {
		t.rules = readyRules(spec)
	}
	if t.spec.Interval != spec.Interval {
		t.checkAt = time.Time{} // the attempt that the changed entry is about to have sets it anew: the old one may be hours away
	}
	t.spec = spec
}

// follow lets the record follow a changed entry, the last one where it left the config, so that what is deleted later is deleted by that one's policy. What is recorded in another
// place stays recorded there; only whether it is left alone follows.
func (t *target) follow() {
	if !t.recorded() {
		return
	}
	rec := t.rec
	rec.Held, rec.Together = t.held, t.together
	if t.elsewhere() {
		rec.Target.Suspend = t.spec.Suspend
	} else {
		rec.Target = remembered(t.spec)
	}
	t.note(rec)
}

// moved reports whether running the spec would leave behind what is recorded, a release of another name or objects in another cluster: it has to be deleted first.
func (t *target) moved() bool { return !t.gone && t.recorded() && t.elsewhere() }

// elsewhere reports whether what is recorded is in another place than the entry says.
func (t *target) elsewhere() bool {
	was := &t.rec.Target
	if was.Release() != t.spec.Release() {
		return true
	}
	return was.Cluster() != t.spec.Cluster()
}

// action is what a job does.
type action string

const (
	actionRun     action = "run"
	actionDelete  action = "delete"  // the target left the config
	actionReplace action = "replace" // delete what the recorded spec made, because the new one would orphan it
	actionSave    action = "save"    // the record only
	// actionRollback goes back to an earlier revision, because somebody said so.
	actionRollback action = "rollback"
)

// job is one run of a worker.
type job struct {
	name   deploy.Name
	action action
	work   deploy.Work // run
	target deploy.Target
	today  deploy.Target // replace: the entry as it is
	order  *order        // rollback
	forced force         // run: why it started when it did
	held   *deploy.Held  // run: what the target was held by
	rec    deploy.Record
	stored string

	version version
	stage   stage
	started time.Time
	// canceled: the scheduler cancelled it.
	canceled bool
	gate     *gate
}

// gate lets a job be cancelled only in the stages that may be. The worker's goroutine moves the phase, the scheduler's cancels.
type gate struct {
	cancel context.CancelFunc

	mu    sync.Mutex // guards what follows
	phase deploy.Phase
	// touched: the job may have changed the cluster.
	touched bool
}

// enter notes the stage that the attempt is in now.
func (g *gate) enter(p deploy.Phase) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.phase = p
	g.touched = g.touched || p != deploy.PhaseBuilding && p != deploy.PhasePlanning
}

// at is the stage that the attempt got to.
func (g *gate) at() deploy.Phase {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.phase
}

// tryCancel cancels the attempt unless it is changing the cluster right now.
func (g *gate) tryCancel() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.phase.Cancelable() {
		return false
	}
	g.cancel()
	return true
}

func newState(limits Limits) *state {
	return &state{
		limits:    limits,
		targets:   make(map[deploy.Name]*target),
		graph:     graph.New(nil),
		revisions: make(map[deploy.Name]deploy.Revision),
		sources:   make(map[deploy.Name]deploy.SourceState),
	}
}

// arrange rebuilds the graph and the order after targets came or went.
func (s *state) arrange() {
	needs := make(map[deploy.Name][]deploy.Name, len(s.targets))
	for n, t := range s.targets {
		needs[n] = t.spec.DependsOn
	}
	s.graph, s.cycle = graph.New(needs), nil
	order, err := s.graph.Order()
	if err != nil {
		errors.As(err, &s.cycle) // the only error that Order has
		order = order[:0]
		for n := range s.targets {
			order = append(order, n)
		}
		slices.SortFunc(order, deploy.Name.Compare)
	}
	s.order = order
}

// want is the version that a target should be at; false while its source has no revision.
func (s *state) want(t *target) (version, bool) {
	v, ok := s.newest(t)
	if ok && t.held != nil {
		v.digest = t.held.Digest
	}
	return v, ok
}

// newest is the version that a target would be at if nothing held it.
func (s *state) newest(t *target) (version, bool) {
	r, ok := s.revisions[t.spec.Source]
	return version{r.Digest, t.spec.Hash}, ok
}

// revision is the artifact of what a target should be at. Of one that is held only the name is known here.
func (s *state) revision(t *target) deploy.Revision {
	if h := t.held; h != nil {
		ref, _ := strings.CutSuffix(h.Revision, h.Digest)
		return deploy.Revision{Source: t.spec.Source, Ref: strings.TrimSuffix(ref, "@"), Digest: h.Digest}
	}
	return s.revisions[t.spec.Source]
}

// current reports whether a target is Ready at its spec, and at the newest revision where one is known. That covers the rule for targets of one source:
// theirs is the same newest digest. One that is held at another is not.
func (s *state) current(t *target) bool {
	if t.ready == nil || t.gone || t.ready.hash != t.spec.Hash {
		return false
	}
	newest, ok := s.newest(t)
	return t.held == nil && (!ok || newest == *t.ready)
}
