package notify

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

const (
	// sinkPatience is how long one event is tried for at a receiver that answers: one that is being updated is back by then, and what comes behind is not held up for
	// good by an event that it cannot take.
	sinkPatience = 10 * time.Minute
	// clusterPatience is the same for Kubernetes: an Event of long ago tells nobody anything, and the API server is busy when it comes back.
	clusterPatience = 30 * time.Second
	firstBackoff    = time.Second
	maxBackoff      = time.Minute
	// maxRetryAfter bounds how long a receiver can make us wait: a wrong header must not switch a sink off.
	maxRetryAfter = 5 * time.Minute
)

// sender sends one event, once. It returns soon after its context ends. Its errors can be logged as they are: no secret and nothing of what a receiver answered is
// in them. One call at a time.
type sender interface {
	send(context.Context, deploy.Event) error
}

// permanent is an error that trying again cannot mend.
type permanent struct{ error }

// later is an error that comes with a time to wait for.
type later struct {
	error
	after time.Duration
}

// unreached is an error of the way to the receiver. Another event would fare no better, so the one at hand is not given up: sites are cut off for days.
type unreached struct{ error }

func (p permanent) Unwrap() error { return p.error }
func (l later) Unwrap() error     { return l.error }
func (u unreached) Unwrap() error { return u.error }

// outlet sends the events of one sink, one after the other. Others' troubles are none of its.
type outlet struct {
	hash     string
	filter   *Filter
	sender   sender
	patience time.Duration
	log      *zap.Logger
	wake     chan struct{} // capacity 1: the queue is not what it was

	outage bool // its failures have been logged; only run's goroutine touches it

	// mu guards everything below.
	mu      sync.Mutex
	queue   *queue
	current *deploy.Event // being sent, and no longer in the queue
	retired bool
	cancel  context.CancelFunc // of what runs; nil before
}

func newOutlet(s sender, patience, quiet time.Duration, log *zap.Logger) *outlet {
	return &outlet{sender: s, patience: patience, log: log, wake: make(chan struct{}, 1), queue: newQueue(quiet)}
}

// put queues an event that is for this sink.
func (o *outlet) put(e deploy.Event) {
	if !o.filter.Match(e) {
		return
	}
	o.mu.Lock()
	o.queue.put(e, time.Now())
	o.mu.Unlock()
	signal(o.wake)
}

// retire ends the outlet at once, with all that it has not sent.
func (o *outlet) retire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retired = true
	if o.cancel != nil {
		o.cancel()
	}
	signal(o.wake)
}

// handOver gives what is not sent yet to an outlet that nobody else knows yet. What is being sent right now may arrive twice.
func (o *outlet) handOver(to *outlet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.current != nil && to.filter.Match(*o.current) {
		to.queue.waiting = append(to.queue.waiting, queued{event: *o.current})
	}
	for _, q := range o.queue.waiting {
		if to.filter.Match(q.event) {
			to.queue.waiting = append(to.queue.waiting, q)
		}
	}
	to.queue.said, to.queue.last, to.queue.dropped = o.queue.said, o.queue.last, o.queue.dropped
	o.queue = newQueue(o.queue.quiet)
}

func (o *outlet) lost() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue.dropped
}

// run sends until it is retired or ctx ends. Once closing is closed, each event that is left is tried once more.
func (o *outlet) run(ctx context.Context, closing <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o.mu.Lock()
	o.cancel = cancel
	o.mu.Unlock()
	for {
		e, ok := o.next(ctx, closing)
		if !ok {
			break
		}
		o.deliver(ctx, closing, e)
		o.mu.Lock()
		o.current = nil
		o.mu.Unlock()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if left := len(o.queue.waiting); left > 0 && !o.retired {
		o.queue.dropped += left
		o.log.Warn("events not sent before the end", zap.Int("events", left))
	}
}

// next waits for an event. It reports false when there will be none.
func (o *outlet) next(ctx context.Context, closing <-chan struct{}) (deploy.Event, bool) {
	for {
		over := closed(closing)
		o.mu.Lock()
		if o.retired || ctx.Err() != nil {
			o.mu.Unlock()
			return deploy.Event{}, false
		}
		if over {
			o.queue.release()
		}
		e, ok, wait := o.queue.take(time.Now())
		if ok {
			o.current = &e
		}
		o.mu.Unlock()
		if ok || over {
			return e, ok
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-o.wake:
		case <-due:
		case <-closing:
		case <-ctx.Done():
		}
	}
}

// deliver sends an event, again and again until it is there, cannot get there or has been tried for long enough at a receiver that answers.
func (o *outlet) deliver(ctx context.Context, closing <-chan struct{}, e deploy.Event) {
	end := time.Now().Add(o.patience)
	pause := backoff.ExponentialBackOff{
		InitialInterval: firstBackoff, MaxInterval: maxBackoff,
		Multiplier: backoff.DefaultMultiplier, RandomizationFactor: backoff.DefaultRandomizationFactor,
	}
	for {
		err := o.sender.send(ctx, e)
		if err == nil {
			o.sent()
			return
		}
		wait := pause.NextBackOff()
		if errors.As(err, new(unreached)) {
			end = time.Now().Add(wait + o.patience)
		}
		var asked later
		if errors.As(err, &asked) { // never earlier than asked
			wait = max(wait, min(asked.after, maxRetryAfter))
		}
		hopeless := errors.As(err, new(permanent)) || closed(closing) || ctx.Err() != nil || time.Now().Add(wait).After(end)
		if !o.failed(e, err, hopeless) || hopeless {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-closing: // the last try is now
		case <-ctx.Done():
		}
		timer.Stop()
		if closed(closing) && asked.error != nil { // which would be earlier than asked
			o.failed(e, err, true)
			return
		}
	}
}

// sent notes that the receiver is there.
func (o *outlet) sent() {
	if o.outage {
		o.log.Info("events are delivered again", zap.Int("lost", o.lost()))
	}
	o.outage = false
}

// failed notes a failure: the first of an outage is logged, and an event that is given up is counted. It reports false where the outlet is retired: the event is
// another's then.
func (o *outlet) failed(e deploy.Event, err error, lost bool) bool {
	o.mu.Lock()
	retired := o.retired
	if lost && !retired {
		o.queue.dropped++
	}
	o.mu.Unlock()
	if retired {
		return false
	}
	say := o.log.Warn
	if o.outage {
		say = o.log.Debug
	}
	o.outage = true
	say("event not delivered", zap.Stringer("object", e.Object), zap.String("reason", e.Reason), zap.Bool("givenUp", lost), zap.Error(err))
	return true
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
