package applier

import (
	"context"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// landing is the longest that a deletion waits for other targets to say what they want. Building and planning take milliseconds, seldom seconds.
const landing = 10 * time.Second

// flight is an attempt of which it is not yet known what it wants: it has begun to plan, but its inventory does not have the objects.
type flight struct {
	began  time.Time
	landed chan struct{} // closed
}

// depart notes that a target begins to plan. A plan that nobody applies stays in the air, and is not waited for after a while.
func (e *Engine) depart(n deploy.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.flights[n]; old != nil {
		close(old.landed)
	}
	e.flights[n] = &flight{began: time.Now(), landed: make(chan struct{})}
}

// land notes that what a target wants is in its inventory, or that it wants nothing.
func (e *Engine) land(n deploy.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f := e.flights[n]; f != nil {
		close(f.landed)
		delete(e.flights, n)
	}
}

// awaitOthers waits for the targets that are planning right now. An object that moves from one target to another by one push, or with a target's new name, is
// dropped and wanted at about the same time: what wants it has to be heard before it is deleted.
func (e *Engine) awaitOthers(ctx context.Context, self deploy.Name) {
	e.mu.Lock()
	var others []*flight
	for n, f := range e.flights {
		if n != self {
			others = append(others, f)
		}
	}
	e.mu.Unlock()
	for _, f := range others {
		ended, cancel := context.WithDeadline(ctx, f.began.Add(landing))
		select {
		case <-f.landed:
		case <-ended.Done():
		}
		cancel()
	}
}
