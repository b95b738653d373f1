package artifact

import (
	"sync"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// answersAge is how long answers are remembered at most: no interval that anybody would share is longer.
const answersAge = 24 * time.Hour

// answers remembers what registries said last, for sources that ask the same.
type answers struct {
	// mu guards pins.
	mu   sync.Mutex
	pins map[string]answer
}

type answer struct {
	pin deploy.Pin
	at  time.Time
}

// young is the answer to a question, if it is not older than that.
func (a *answers) young(key string, age time.Duration) (deploy.Pin, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	got, ok := a.pins[key]
	return got.pin, ok && time.Since(got.at) < age
}

// keep remembers the answer to a question that was asked at a time. One that was asked later stays.
func (a *answers) keep(key string, pin deploy.Pin, asked time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pins == nil {
		a.pins = map[string]answer{}
	}
	for k, old := range a.pins {
		if time.Since(old.at) > answersAge {
			delete(a.pins, k)
		}
	}
	if !a.pins[key].at.After(asked) {
		a.pins[key] = answer{pin, asked}
	}
}
