package artifact

import (
	"context"
	"sync"
	"time"
)

// flights lets callers that want the same thing at the same time share one piece of work. The work lives as long as one of them still wants it: a caller that
// goes away does not spoil it for the others.
type flights[T any] struct {
	// mu guards running and the waiters in it.
	mu      sync.Mutex
	running map[string]*flight[T]
}

type flight[T any] struct {
	waiters int
	cancel  context.CancelFunc
	done    chan struct{} // closed when result and err are set
	result  T
	err     error
}

// budgetKey is where the end of the time that the first caller has is kept. It ends nothing: others may wait longer. But what asks several places shares it out.
type budgetKey struct{}

func withBudget(ctx, caller context.Context) context.Context {
	end, ok := caller.Deadline()
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, budgetKey{}, end)
}

// budget is when the time of whoever waits is over, if it is bounded.
func budget(ctx context.Context) (end time.Time, bounded bool) {
	if end, bounded = ctx.Deadline(); bounded {
		return end, true
	}
	end, bounded = ctx.Value(budgetKey{}).(time.Time)
	return end, bounded
}

func (f *flights[T]) do(ctx context.Context, key string, work func(context.Context) (T, error)) (T, error) {
	f.mu.Lock()
	if f.running == nil {
		f.running = map[string]*flight[T]{}
	}
	fl := f.running[key]
	if fl == nil {
		own, cancel := context.WithCancel(withBudget(context.WithoutCancel(ctx), ctx))
		fl = &flight[T]{cancel: cancel, done: make(chan struct{})}
		f.running[key] = fl
		go func() {
			fl.result, fl.err = work(own)
			cancel()
			f.mu.Lock()
			if f.running[key] == fl {
				delete(f.running, key)
			}
			f.mu.Unlock()
			close(fl.done)
		}()
	}
	fl.waiters++
	f.mu.Unlock()

	select {
	case <-fl.done:
		return fl.result, fl.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	fl.waiters--
	last := fl.waiters == 0
	if last && f.running[key] == fl {
		delete(f.running, key) // whoever comes now starts anew
	}
	f.mu.Unlock()
	if last {
		fl.cancel()
		<-fl.done // nothing runs on behind the caller's back
	}
	var none T
	return none, context.Cause(ctx)
}
