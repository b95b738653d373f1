package notify

import (
	"slices"
	"time"

	"github.com/towline/towline/internal/deploy"
)

const (
	// queueSize bounds what one sink may leave unsent: enough for a rollout of every target of a usual node, small enough to forget about (some KiB each at worst).
	queueSize = 64
	// quietTime is within which the same words about the same object are sent once, as in Flux.
	quietTime = 5 * time.Minute
)

// words are what makes two events the same.
type words struct {
	object          deploy.Name
	reason, message string
}

func wordsOf(e deploy.Event) words { return words{e.Object, e.Reason, e.Message} }

// thread is a line of events of which each makes the one before it untrue: being suspended is one, how it goes is the other.
type thread struct {
	object     deploy.Name
	suspension bool
}

func threadOf(e deploy.Event) thread {
	return thread{e.Object, e.Reason == reasonSuspended || e.Reason == reasonResumed}
}

// queued is an event that waits.
type queued struct {
	event deploy.Event
	// held until then; the zero time: not held.
	held time.Time
}

// queue holds the events of one sink, oldest first. Its methods take the time, and do nothing but think; the outlet locks.
type queue struct {
	quiet   time.Duration
	waiting []queued
	// said is when the same words were let through last, and last which words of a thread were the last ones. Both hold what is younger than quiet.
	said    map[words]time.Time
	last    map[thread]words
	dropped int
}

func newQueue(quiet time.Duration) *queue {
	return &queue{quiet: quiet, said: map[words]time.Time{}, last: map[thread]words{}}
}

// put queues an event; what has no room left is dropped, oldest first. Words that were said a moment ago are held back until the quiet time is over, and then said
// only if nothing else has been said since: what is heard last is always what is true, however fast something flaps.
func (q *queue) put(e deploy.Event, now time.Time) {
	item := queued{event: e}
	if q.quiet > 0 {
		q.forget(now)
		w, t := wordsOf(e), threadOf(e)
		q.waiting = slices.DeleteFunc(q.waiting, func(other queued) bool { return !other.held.IsZero() && threadOf(other.event) == t })
		if last, ok := q.last[t]; ok && last == w {
			return
		}
		if at, ok := q.said[w]; ok {
			item.held = at.Add(q.quiet)
		} else {
			q.said[w], q.last[t] = now, w
		}
	}
	if len(q.waiting) >= queueSize {
		q.waiting = slices.Delete(q.waiting, 0, 1)
		q.dropped++
	}
	q.waiting = append(q.waiting, item)
}

// take removes the first event that is not held any more. Where there is none, wait says how long the next one still is; 0: there is none at all.
func (q *queue) take(now time.Time) (e deploy.Event, ok bool, wait time.Duration) {
	for i, item := range q.waiting {
		if d := item.held.Sub(now); !item.held.IsZero() && d > 0 {
			if wait == 0 || d < wait {
				wait = d
			}
			continue
		}
		q.waiting = slices.Delete(q.waiting, i, i+1)
		if !item.held.IsZero() { // let through only now; nothing newer of its thread is there, or it would not be
			q.said[wordsOf(item.event)], q.last[threadOf(item.event)] = now, wordsOf(item.event)
		}
		return item.event, true, 0
	}
	return deploy.Event{}, false, wait
}

// release holds nothing back any more.
func (q *queue) release() {
	for i := range q.waiting {
		q.waiting[i].held = time.Time{}
	}
}

// forget drops the memory of what was said too long ago to matter.
func (q *queue) forget(now time.Time) {
	for w, at := range q.said {
		if now.Sub(at) >= q.quiet {
			delete(q.said, w)
		}
	}
	for t, w := range q.last {
		if _, ok := q.said[w]; !ok {
			delete(q.last, t)
		}
	}
}
