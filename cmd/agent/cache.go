package main

import (
	"context"
	"maps"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
)

// keptRevisions is how many revisions of a source stay in the cache: the one in force and the one before, which an attempt may still be reading.
const keptRevisions = 2

// cacheKeeper removes artifacts that nobody needs any more.
type cacheKeeper struct {
	store *artifact.Store
	log   *zap.Logger
	wake  chan struct{} // capacity 1: the latest news is enough

	// forgetting is held while notes are removed: those of sources that a new config brings must not be among them.
	forgetting sync.Mutex

	// mu guards sources, those of the config, and held: the revisions of each source in the config, newest first; an empty list for one that has none yet.
	mu      sync.Mutex
	held    map[deploy.Name][]deploy.Revision
	sources map[deploy.Name]deploy.Source
	// recorded are the records of targets, which may go back to what was good before; nil while they are not read.
	recorded map[deploy.Name]backlog
}

// backlog is what a target may go back to, or is held at: digests of its source's artifacts.
type backlog struct {
	source  deploy.Name
	digests []string
}

func newCacheKeeper(store *artifact.Store, log *zap.Logger) *cacheKeeper {
	return &cacheKeeper{store: store, log: log.Named("cache"), wake: make(chan struct{}, 1), held: map[deploy.Name][]deploy.Revision{}}
}

// set says which sources there are. The map is not changed afterwards.
func (k *cacheKeeper) set(sources map[deploy.Name]deploy.Source) {
	k.forgetting.Lock()
	defer k.forgetting.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.held
	k.held = make(map[deploy.Name][]deploy.Revision, len(sources))
	k.sources = sources
	for name := range sources {
		k.held[name] = before[name]
	}
}

// source is an entry of the config.
func (k *cacheKeeper) source(n deploy.Name) (deploy.Source, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.sources[n]
	return s, ok
}

// revised takes in a source's newest revision.
func (k *cacheKeeper) revised(r deploy.Revision) {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept, known := k.held[r.Source]
	if !known || len(kept) > 0 && kept[0].Dir == r.Dir {
		return
	}
	kept = append([]deploy.Revision{r}, kept...)
	k.held[r.Source] = kept[:min(len(kept), keptRevisions)]
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// needed is what must stay; not complete while a source has no revision, since what it had before the restart may be all that there will be for a while.
func (k *cacheKeeper) needed() (keep []deploy.Revision, complete bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.recorded == nil {
		return nil, false
	}
	for _, kept := range k.held {
		if len(kept) == 0 {
			return nil, false
		}
		keep = append(keep, kept...)
	}
	for _, b := range k.recorded {
		source, known := k.sources[b.source]
		if !known {
			continue
		}
		for _, digest := range b.digests {
			if r, err := k.store.Place(source, digest); err == nil { // a record that somebody wrote may hold anything
				keep = append(keep, r)
			}
		}
	}
	return keep, true
}

// note takes in what a target may go back to: what it is held at, what was good last and before that, and what it was at when all of its group were Ready.
func (k *cacheKeeper) note(rec deploy.Record) {
	b := backlog{source: rec.Target.Source}
	if g := rec.LastGood; g != nil {
		b.digests = append(b.digests, g.Digest)
	}
	if len(rec.Earlier) > 0 {
		b.digests = append(b.digests, rec.Earlier[0].Digest)
	}
	if g := rec.Together; g != nil {
		b.digests = append(b.digests, g.Digest)
	}
	if h := rec.Held; h != nil {
		b.digests = append(b.digests, h.Digest)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.recorded == nil {
		k.recorded = map[deploy.Name]backlog{}
	}
	k.recorded[rec.Target.Name] = b
}

// noteAll takes in the records that there are, maybe none.
func (k *cacheKeeper) noteAll(records []deploy.Record) {
	k.mu.Lock()
	k.recorded = make(map[deploy.Name]backlog, len(records))
	k.mu.Unlock()
	for _, rec := range records {
		k.note(rec)
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// drop forgets what a target might have gone back to.
func (k *cacheKeeper) drop(n deploy.Name) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.recorded, n)
}

// forget removes what was noted of sources that are not in the config any more.
func (k *cacheKeeper) forget() error {
	k.forgetting.Lock()
	defer k.forgetting.Unlock()
	k.mu.Lock()
	sources := slices.Collect(maps.Values(k.sources))
	k.mu.Unlock()
	return k.store.Forget(sources)
}

// run prunes after news, until ctx ends.
func (k *cacheKeeper) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		}
		keep, complete := k.needed()
		if !complete {
			continue
		}
		if err := k.forget(); err != nil {
			k.log.Warn("notes of sources that left the config could not be removed, tried again with the next revision", zap.Error(err))
		}
		removed, err := k.store.Prune(keep)
		if err != nil {
			k.log.Warn("old artifacts could not be removed, tried again with the next revision", zap.Error(err))
		} else if removed > 0 {
			k.log.Debug("old artifacts removed", zap.Int("artifacts", removed))
		}
	}
}
