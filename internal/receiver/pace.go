package receiver

import (
	"sync"
	"time"
)

// minPause is the least time between two polls that webhooks of a source lead to: a push of many tags, or somebody who repeats a webhook, must not become a load test of
// the registry.
const minPause = time.Second

// pace spaces out what a flood of webhooks leads to. The first runs at once, and the last is never lost.
type pace struct {
	// mu guards the rest.
	mu    sync.Mutex
	last  time.Time   // when something was run
	timer *time.Timer // of what waits; nil: nothing does
}

// run runs f, now or when the pause is over. What waits already stands for this one, too.
func (p *pace) run(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		return
	}
	wait := minPause - time.Since(p.last)
	if wait <= 0 {
		p.last = time.Now()
		f()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.timer != timer { // it was stopped at the last moment
			return
		}
		p.last, p.timer = time.Now(), nil
		f()
	})
	p.timer = timer
}

// stop forgets what waits.
func (p *pace) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}
