package inputs

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/metadata"

	"github.com/towline/towline/internal/deploy"
)

const (
	// settle is how long changes are gathered before they are told: several inputs of a target are often written together.
	settle = 300 * time.Millisecond
	// deniedPause is how long an input that may not be watched is left alone at first before it is tried again: an API server that has just started denies what it will allow in a
	// moment. The pause doubles up to longestPause. Until then its changes are found by the targets' full checks.
	deniedPause  = 10 * time.Second
	longestPause = 10 * time.Minute
	// prompt is how soon after it was named an input is usually looked at. Later, a target may have been made of what was there before.
	prompt = 2 * time.Second
)

// Watcher watches the inputs of targets. Objects cost one watch each, of their metadata and by name, so that the right to watch that one object is enough.
type Watcher struct {
	client  metadata.Interface
	changed func(deploy.Name)
	log     *zap.Logger
	// look is how often files are looked at.
	look time.Duration
	// pause is the first one after a denial.
	pause time.Duration

	// signal has capacity 1: one pending wake-up is enough.
	signal chan struct{}
	mu     sync.Mutex // guards what follows
	users  map[ref][]deploy.Name
	news   map[ref]bool
}

// New makes a watcher that tells each target of which an input changed. No request is made before Run.
func New(client metadata.Interface, changed func(deploy.Name), log *zap.Logger) *Watcher {
	return &Watcher{client: client, changed: changed, log: log, look: lookEvery, pause: deniedPause, signal: make(chan struct{}, 1), news: map[ref]bool{}}
}

// Set replaces the targets whose inputs are watched. Suspended ones have none.
func (w *Watcher) Set(targets []deploy.Target) {
	users := map[ref][]deploy.Name{}
	for _, t := range targets {
		if t.Suspend {
			continue
		}
		for _, r := range refsOf(t) {
			users[r] = append(users[r], t.Name)
		}
	}
	w.mu.Lock()
	w.users = users
	w.mu.Unlock()
	w.wake()
}

func (w *Watcher) wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// note says that an input changed.
func (w *Watcher) note(r ref) {
	w.mu.Lock()
	w.news[r] = true
	w.mu.Unlock()
	w.wake()
}

// Run watches until ctx ends, and returns when everything that it started has ended. The error is nil.
func (w *Watcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	stops := map[ref]context.CancelFunc{}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	timer := time.NewTimer(settle)
	timer.Stop()
	defer timer.Stop()
	gathering := false // the timer runs: further news does not put it off
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			gathering = false
			w.tell()
		case <-w.signal:
			users, pending := w.state()
			for r, stop := range stops {
				if _, wanted := users[r]; !wanted {
					stop()
					delete(stops, r)
				}
			}
			for r := range users {
				if _, watched := stops[r]; watched {
					continue
				}
				mine, stop := context.WithCancel(ctx)
				stops[r] = stop
				running.Go(func() { w.follow(mine, r) })
			}
			if pending && !gathering {
				gathering = true
				timer.Reset(settle)
			}
		}
	}
}

func (w *Watcher) state() (users map[ref][]deploy.Name, pending bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.users, len(w.news) > 0
}

// tell tells each target once, whatever the number of its inputs that changed.
func (w *Watcher) tell() {
	w.mu.Lock()
	changed := w.news
	w.news = map[ref]bool{}
	told := map[deploy.Name]bool{}
	for r := range changed {
		for _, n := range w.users[r] {
			told[n] = true
		}
	}
	w.mu.Unlock()
	for n := range maps.Keys(told) {
		w.log.Debug("an input changed", zap.Stringer("target", n))
		w.changed(n)
	}
}

func (w *Watcher) follow(ctx context.Context, r ref) {
	if r.file != "" {
		w.followFile(ctx, r)
		return
	}
	w.followObject(ctx, r)
}
