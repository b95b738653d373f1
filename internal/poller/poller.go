// Package poller knows the newest revision of each source: it asks registries at intervals, fetches what is new and tells a listener.
package poller

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// Registry answers for all sources. Its methods return soon after their context ends. An error with a method RetryAfter() (time.Duration, bool) delays the next
// try by at least that long.
type Registry interface {
	// Resolve says which digest a source's reference means now. One cheap request for a tag, none for a digest. With an error, the pin still holds the policy where
	// that could be read.
	Resolve(context.Context, deploy.Source) (deploy.Pin, error)
	// Fetch brings the artifact to disk, verified as the source demands now, which the revision's policy tells; what is there already costs no request.
	Fetch(context.Context, deploy.Source, deploy.Pin) (deploy.Revision, error)
	// Cached is the newest revision that a Fetch for an equal source left on the disk, verified as the source demands now. It asks no registry. An error says that
	// there is none, or that it is not good any more.
	Cached(context.Context, deploy.Source) (deploy.Pin, deploy.Revision, error)
}

// Listener hears what is new. Its methods are called from many goroutines, for one source from one at a time, and never block.
type Listener interface {
	// Revised tells a revision that differs from the one before it.
	Revised(deploy.Revision)
	// Withdrawn tells that the revision told last must not be used any more, though there is none in its place.
	Withdrawn(deploy.Name)
	// SourceState tells how a poll went.
	SourceState(deploy.SourceState)
}

// Poller runs one loop per source.
type Poller struct {
	registry Registry
	listener Listener
	log      *zap.Logger
	changed  chan struct{} // capacity 1: sources is not what it was

	// mu guards everything below. Only Run writes loops.
	mu      sync.Mutex
	sources []deploy.Source
	loops   map[deploy.Name]*loop
}

// New makes a poller without sources.
func New(r Registry, l Listener, log *zap.Logger) *Poller {
	return &Poller{registry: r, listener: l, log: log, changed: make(chan struct{}, 1)}
}

// Run polls until the context ends, and leaves no goroutine. It may be run once at a time.
func (p *Poller) Run(ctx context.Context) error {
	var running sync.WaitGroup
	ending := map[deploy.Name]*loop{} // what was told to end, and may not have yet
	for ctx.Err() == nil {
		p.reconcile(ctx, &running, ending)
		select {
		case <-ctx.Done():
		case <-p.changed:
		}
	}
	running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loops = nil
	return nil
}

// Set makes these the sources. Those whose entry is the same keep running untouched; the others start with a poll at once, or end. It does not wait.
func (p *Poller) Set(sources []deploy.Source) {
	p.mu.Lock()
	p.sources = slices.Clone(sources)
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default: // Run has not looked since the last change
	}
}

// Drop ends the loop of a source. When it returns, nothing is told of the source any more, until it is among those of a later Set.
func (p *Poller) Drop(name deploy.Name) {
	p.mu.Lock()
	p.sources = slices.DeleteFunc(slices.Clone(p.sources), func(s deploy.Source) bool { return s.Name == name })
	l := p.loops[name]
	p.mu.Unlock()
	if l != nil {
		l.retire()
	}
}

// Poke makes a source be polled now. It reports whether the source is known. A suspended one stays suspended.
func (p *Poller) Poke(name deploy.Name) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.ContainsFunc(p.sources, func(s deploy.Source) bool { return s.Name == name }) {
		return false
	}
	if l := p.loops[name]; l != nil { // otherwise its first poll is still to come
		select {
		case l.poke <- struct{}{}:
		default: // it has been poked already
		}
	}
	return true
}

// PokeAll makes every source be polled now, for what all of them may have waited for has come back. Suspended ones stay suspended.
func (p *Poller) PokeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.loops {
		select {
		case l.poke <- struct{}{}:
		default: // it has been poked already
		}
	}
}

// PollOnce polls every source once, all at the same time, and waits for them. The error joins those of the sources that failed.
func (p *Poller) PollOnce(ctx context.Context) error {
	p.mu.Lock()
	sources := p.sources
	p.mu.Unlock()
	errs := make([]error, len(sources))
	var wg sync.WaitGroup
	for i, s := range sources {
		wg.Go(func() {
			l := p.newLoop(s)
			if !s.Spec.Suspend {
				errs[i] = l.poll(ctx, false) // no answer is older than this
			}
			l.publish()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// reconcile starts and ends loops so that they are those of the sources.
func (p *Poller) reconcile(ctx context.Context, running *sync.WaitGroup, ending map[deploy.Name]*loop) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.loops
	p.loops = make(map[deploy.Name]*loop, len(p.sources))
	for _, s := range p.sources {
		l := old[s.Name]
		if l != nil && l.source.Hash == s.Hash && !l.isRetired() {
			p.loops[s.Name] = l
			delete(old, s.Name)
		}
	}
	for name, l := range old {
		l.cancel()
		ending[name] = l
	}
	for _, s := range p.sources {
		if p.loops[s.Name] == nil {
			p.loops[s.Name] = p.start(ctx, s, ending[s.Name], running)
		}
	}
	maps.DeleteFunc(ending, func(_ deploy.Name, l *loop) bool { return l.ended() })
}

// start starts a loop. Where it takes the place of another one, it begins when that one has ended, so that old news never follows new.
func (p *Poller) start(ctx context.Context, s deploy.Source, before *loop, running *sync.WaitGroup) *loop {
	l := p.newLoop(s)
	l.replaces = before != nil
	ctx, l.cancel = context.WithCancel(ctx)
	running.Go(func() {
		defer close(l.done)
		defer l.cancel()
		if before != nil {
			<-before.done
		}
		l.run(ctx)
	})
	return l
}
