package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/schedule"
	"github.com/towline/towline/internal/status"
)

// reloadRequest asks the goroutine that owns the config to read it again; the answer says what was wrong with it.
type reloadRequest struct{ answer chan error }

// reloadLoop reads the config again when its files change, on SIGHUP and on request. One goroutine does it, so that configs are adopted in order.
func (a *agent) reloadLoop(ctx context.Context, requests <-chan reloadRequest, signals *signals) error {
	changed := make(chan struct{}, 1) // latest wins: one pending reload reads everything
	watch := make(chan error, 1)
	go func() {
		watch <- config.Watch(ctx, a.settings.Config, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	for {
		select {
		case err := <-watch:
			if ctx.Err() == nil {
				return fmt.Errorf("watch the config: %w", err)
			}
			return nil //nolint:nilerr // it ended because the agent does
		case <-changed:
			_ = a.reload("file changed") // said and shown there: nobody waits for the answer
		case <-signals.hangup:
			signals.notifyReloading() // systemctl reload waits for what follows
			_ = a.reload("SIGHUP")    // as above
			signals.notifyReady()
		case r := <-requests:
			r.answer <- a.reload("asked to")
		case <-ctx.Done():
			return <-watch // nil: it ends with ctx
		}
	}
}

// reload adopts the config if it is good; if it is not, what runs goes on and the error is shown.
func (a *agent) reload(why string) error {
	cfg, err := config.Load(a.settings.Config)
	if err == nil && cfg.Namespace != a.namespace {
		err = fmt.Errorf("namespace changed from %s to %s: restart the agent for that", a.namespace, cfg.Namespace)
	}
	if err != nil {
		a.board.ConfigFailed(err)
		a.notifier.ConfigFailed(err)
		a.log.Error("config refused, the old one stays in force", zap.String("why", why), zap.Error(err))
		return err
	}
	if cfg.Hash == a.current.Hash {
		a.board.ConfigLoaded(cfg.Hash, len(cfg.Sources), len(cfg.Targets), time.Now())
		a.notifier.ConfigLoaded()
		a.log.Debug("config read again, nothing changed", zap.String("why", why))
		return nil
	}
	a.adopt(cfg)
	a.missReceivers(cfg)
	a.log.Info("config reloaded", zap.String("why", why), zap.Int("sources", len(cfg.Sources)), zap.Int("targets", len(cfg.Targets)))
	return nil
}

// controls is what the status server may do to the agent.
type controls struct {
	agent   *agent
	reloads chan<- reloadRequest
}

// Reload reads the config again and says what was wrong with it.
func (c controls) Reload(ctx context.Context) error {
	r := reloadRequest{answer: make(chan error, 1)}
	select {
	case c.reloads <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errUnknown says that the config has no such entry.
var errUnknown = fmt.Errorf("%w: not in the config (towline status lists what is)", status.ErrUnknown)

// Reconcile runs a target, or polls a source, now.
func (c controls) Reconcile(_ context.Context, name deploy.Name, how status.Haste) error {
	if name.Kind == deploy.KindSource {
		if s, known := c.agent.cache.source(name); known && s.Spec.Suspend {
			return status.ErrSuspended
		}
		if !c.agent.poller.Poke(name) {
			return fmt.Errorf("%s: %w", name, errUnknown)
		}
		return nil
	}
	x, ok := c.agent.board.Explain(name)
	if ok && x.Target.Suspended {
		return status.ErrSuspended
	}
	if ok && how.WithSource {
		source, known := c.agent.cache.source(x.Target.Source)
		if known && source.Spec.Suspend {
			return fmt.Errorf("its source %s: %w", source.Name, status.ErrSuspended)
		}
		if known {
			c.agent.asked.after(source.Name, name, how.Force)
			if c.agent.poller.Poke(source.Name) {
				return nil
			}
		}
	}
	if !c.agent.scheduler.Reconcile(name, how.Force) {
		return fmt.Errorf("%s: %w", name, errUnknown)
	}
	return nil
}

// Rollback brings a target back to an earlier revision.
func (c controls) Rollback(ctx context.Context, name deploy.Name, revision string) (string, error) {
	if err := canRollBack(name); err != nil {
		return "", err
	}
	to, err := c.agent.scheduler.Rollback(ctx, name, revision)
	if errors.Is(err, schedule.ErrUnknown) {
		return "", errUnknown
	}
	return to, err
}

// asked holds the targets that somebody wants to run after the next poll of their source.
type asked struct {
	scheduler *schedule.Scheduler

	mu      sync.Mutex                           // guards targets
	targets map[deploy.Name]map[deploy.Name]bool // by source; true: what is held back is to be tried again, too
}

func newAsked(s *schedule.Scheduler) *asked {
	return &asked{scheduler: s, targets: map[deploy.Name]map[deploy.Name]bool{}}
}

// after lets a target run when its source has been polled.
func (a *asked) after(source, target deploy.Name, again bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.targets[source] == nil {
		a.targets[source] = map[deploy.Name]bool{}
	}
	a.targets[source][target] = a.targets[source][target] || again
}

// polled runs what waited for a poll, however that went. What it found was told to the scheduler before.
func (a *asked) polled(source deploy.Name) {
	a.mu.Lock()
	targets := a.targets[source]
	delete(a.targets, source)
	a.mu.Unlock()
	for t, again := range targets {
		a.scheduler.Reconcile(t, again) // false: it left the config meanwhile
	}
}
