// Package schedule decides which target runs now.
//
// One goroutine owns all run state: it folds news into it, asks next, a pure function, what to do, and starts workers that hand their results back.
package schedule

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// Runner makes attempts. Its methods block until the attempt is over, end promptly when their context does, and are never called for one target twice at a time.
type Runner interface {
	Reconcile(context.Context, deploy.Work, deploy.Progress) deploy.Outcome
	Delete(context.Context, deploy.Target, deploy.Progress) deploy.Outcome
	// Move deletes what an earlier entry of a target made, unless it is where today's entry wants it.
	Move(ctx context.Context, was, today deploy.Target, progress deploy.Progress) deploy.Outcome
	// Rollback brings a release back to an earlier revision of its own, 0 being the last good one before the newest, and says to which.
	Rollback(ctx context.Context, t deploy.Target, revision int, progress deploy.Progress) (to int, err error)
}

// Memory keeps records across restarts. Calls for different targets may overlap.
type Memory interface {
	// Load reads every record. An error with the method Partial() bool that returns true comes with the records that could be read.
	Load(context.Context) ([]deploy.Record, error)
	Save(context.Context, deploy.Record) error
	// Forget removes a record; one that is not there is no error.
	Forget(context.Context, deploy.Name) error
}

// Board is shown what happens. It never blocks.
type Board interface {
	TargetState(deploy.TargetState)
	TargetGone(deploy.Name)
}

// Limits bounds what the scheduler does at once.
type Limits struct {
	// Kustomizations and HelmReleases are how many attempts of each kind run at once. Defaults: 8 and 2.
	Kustomizations, HelmReleases int
	// Resync is the least time between full checks of targets that are watched. Default: their interval.
	Resync time.Duration
	// Grace is how long Run lets attempts that are changing the cluster go on after its context ended. Default: 20s.
	Grace time.Duration
}

// The defaults of Limits: applying is bound by round trips, Helm by memory (a large chart takes 100 MB and more); a Pod gets 30 s to end unless told otherwise.
const (
	defaultKustomizations = 8
	defaultHelmReleases   = 2
	defaultGrace          = 20 * time.Second
)

// Scheduler starts attempts for targets. Its methods may be called from any goroutine, before and while Run runs, and never block; Run, Settle and Rollback do.
type Scheduler struct {
	runner Runner
	memory Memory
	board  Board
	limits Limits
	log    *zap.Logger
	inbox  *inbox
	// jitter returns a number in [0, 1).
	jitter func() float64
}

// New makes a Scheduler. Nothing happens before Run.
func New(runner Runner, memory Memory, board Board, limits Limits, log *zap.Logger) *Scheduler {
	if limits.Kustomizations <= 0 {
		limits.Kustomizations = defaultKustomizations
	}
	if limits.HelmReleases <= 0 {
		limits.HelmReleases = defaultHelmReleases
	}
	if limits.Grace <= 0 {
		limits.Grace = defaultGrace
	}
	return &Scheduler{runner: runner, memory: memory, board: board, limits: limits, log: log.Named("schedule"), inbox: newInbox(), jitter: rand.Float64}
}

// Set replaces the targets. Entries with the same hash keep running untouched. Targets that are recorded but not among these are deleted by their recorded
// policy: call it with a config that is good as a whole only.
func (s *Scheduler) Set(targets []deploy.Target) { s.inbox.putTargets(targets) }

// Revised is news from the poller: the revision that a source has now.
func (s *Scheduler) Revised(r deploy.Revision) { s.inbox.putRevision(r) }

// Unknown says that a source now means another artifact, or is gone: its revision so far is not for the targets of the next Set.
func (s *Scheduler) Unknown(source deploy.Name) { s.inbox.putUnknown(source) }

// SourceState tells why a source has no revision, for the words that a waiting target is shown with.
func (s *Scheduler) SourceState(st deploy.SourceState) { s.inbox.putSource(st) }

// Reconcile asks for a full attempt now, whatever the backoff says; with again also for what is held back until there is news: a quarantined revision, or a release whose retries are used
// up or that was rolled back by hand. It returns false for a target that no Set named.
func (s *Scheduler) Reconcile(n deploy.Name, again bool) bool {
	if again {
		return s.inbox.putForced(n, forceAsked|forceAgain)
	}
	return s.inbox.putForced(n, forceAsked)
}

// Changed is news about something else that a target is made of than its artifact: it is compared with the cluster now, and a wait for health ends for that.
func (s *Scheduler) Changed(n deploy.Name) { s.inbox.putForced(n, forceChanged) }

// Drifted is news that somebody changed what the target put into the cluster: it is compared with the cluster and put right as soon as no attempt for it is under way. One that fails keeps
// its pace of retries. Without objects it is not known which they are.
func (s *Scheduler) Drifted(n deploy.Name, objects ...deploy.ObjectID) {
	s.inbox.putDrifted(n, objects)
}

// Contested says which objects of a target others insist on from now on; none: they gave in.
func (s *Scheduler) Contested(n deploy.Name, list []deploy.Contest) {
	s.inbox.put(func(m *mail) { m.contests[n] = list })
}

// Settle blocks until no target can make progress without a retry or news, and returns how they all are. The error is the context's.
func (s *Scheduler) Settle(ctx context.Context) ([]deploy.TargetState, error) {
	answer := make(chan []deploy.TargetState, 1)
	s.inbox.putWaiter(answer)
	select {
	case states := <-answer:
		return states, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
