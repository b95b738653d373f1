package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// script is a sender that answers as told, the last answer for ever, and notes what it was given.
type script struct {
	mu      sync.Mutex
	answers []error
	got     []string
	last    time.Time
}

func (s *script) send(_ context.Context, e deploy.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.answers[min(len(s.got), len(s.answers)-1)]
	s.got, s.last = append(s.got, e.Message), time.Now()
	return err
}

// sent is what it was given since the beginning or the last call of heal, and when the last time was.
func (s *script) sent() ([]string, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got), s.last
}

// heal makes it take everything.
func (s *script) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers, s.got = []error{nil}, nil
}

func say(words string) deploy.Event { return deploy.Event{Object: app, Reason: "R", Message: words} }

// running runs an outlet with a sender until the function has ended, and says how long its end took.
func running(t *testing.T, s sender, patience time.Duration, f func(o *outlet)) (o *outlet, ending time.Duration) {
	t.Helper()
	closing, over := make(chan struct{}), make(chan struct{})
	o = newOutlet(s, patience, 0, zap.NewNop())
	go func() {
		o.run(t.Context(), closing)
		close(over)
	}()
	f(o)
	began := time.Now()
	close(closing)
	<-over
	return o, time.Since(began)
}

func TestPatience(t *testing.T) {
	busy := errors.New("answered 500")
	t.Run("a receiver that answers with an error gets an event for ten minutes, and then the next one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answers: []error{busy}}
			running(t, s, sinkPatience, func(o *outlet) {
				o.put(say("first"))
				o.put(say("second"))
				began := time.Now()
				time.Sleep(sinkPatience + time.Second)
				synctest.Wait()
				if n := o.lost(); n != 1 {
					t.Errorf("%d lost", n)
				}
				got, _ := s.sent()
				if last := got[len(got)-1]; last != "second" {
					t.Errorf("it is still at %q after %s", last, time.Since(began))
				}
				if n := len(got); n < 10 || n > 30 {
					t.Errorf("%d tries in ten minutes", n)
				}
			})
		})
	})
	t.Run("one that cannot be reached is waited for, days on end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answers: []error{unreached{errors.New("no answer in time")}}}
			running(t, s, sinkPatience, func(o *outlet) {
				o.put(say("first"))
				o.put(say("second"))
				time.Sleep(72 * time.Hour)
				synctest.Wait()
				if _, last := s.sent(); time.Since(last) > 2*maxBackoff {
					t.Errorf("the last try was %s ago", time.Since(last))
				}
				s.heal()
				time.Sleep(2 * maxBackoff)
				synctest.Wait()
				got, _ := s.sent()
				if diff := cmp.Diff([]string{"first", "second"}, got); diff != "" || o.lost() != 0 {
					t.Errorf("%d lost, %s", o.lost(), diff)
				}
			})
		})
	})
	t.Run("what cannot be mended is tried once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answers: []error{permanent{busy}, nil}}
			running(t, s, sinkPatience, func(o *outlet) {
				o.put(say("first"))
				o.put(say("second"))
				synctest.Wait()
				got, _ := s.sent()
				if diff := cmp.Diff([]string{"first", "second"}, got); diff != "" || o.lost() != 1 {
					t.Errorf("%d lost, %s", o.lost(), diff)
				}
			})
		})
	})
	t.Run("a receiver that asks for a year gets five minutes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answers: []error{later{busy, 365 * 24 * time.Hour}, nil}}
			running(t, s, sinkPatience, func(o *outlet) {
				o.put(say("first"))
				time.Sleep(maxRetryAfter - time.Second)
				if got, _ := s.sent(); len(got) != 1 {
					t.Errorf("tried %d times before", len(got))
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if got, _ := s.sent(); len(got) != 2 {
					t.Errorf("tried %d times", len(got))
				}
			})
		})
	})
}

func TestOrderlyEnd(t *testing.T) {
	t.Run("each event that waits is tried once more, at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answers: []error{unreached{errors.New("no answer in time")}}}
			o, took := running(t, s, sinkPatience, func(o *outlet) {
				o.put(say("first"))
				o.put(say("second"))
				synctest.Wait()
			})
			if diff := cmp.Diff([]string{"first", "first", "second"}, s.got); diff != "" || took != 0 || o.lost() != 2 {
				t.Errorf("took %s, %d lost, %s", took, o.lost(), diff)
			}
		})
	})
	t.Run("but not earlier than the receiver asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answers: []error{later{errors.New("answered 429"), time.Minute}}}
			o, _ := running(t, s, sinkPatience, func(o *outlet) {
				o.put(say("first"))
				synctest.Wait()
			})
			if diff := cmp.Diff([]string{"first"}, s.got); diff != "" || o.lost() != 1 {
				t.Errorf("%d lost, %s", o.lost(), diff)
			}
		})
	})
	t.Run("what was held back because it flaps is said, if it is true", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answers: []error{nil}}
			running(t, s, sinkPatience, func(o *outlet) {
				o.queue = newQueue(quietTime)
				for _, words := range []string{"down", "up", "down"} {
					o.put(say(words))
				}
				synctest.Wait()
			})
			if diff := cmp.Diff([]string{"down", "up", "down"}, s.got); diff != "" {
				t.Error(diff)
			}
		})
	})
}

func TestJudge(t *testing.T) {
	for status, want := range map[int]string{
		200: "sent", 204: "sent", 301: "again", 307: "again", 400: "refused", 401: "again", 403: "again", 404: "again", 405: "refused", 407: "again", 408: "again",
		410: "again", 413: "refused", 422: "refused", 429: "again", 500: "again", 503: "again",
	} {
		t.Run(fmt.Sprintf("%d means %s", status, want), func(t *testing.T) {
			got := "again"
			switch err := judge(status, "", time.Now(), "https://a.example"); {
			case err == nil:
				got = "sent"
			case errors.As(err, new(permanent)):
				got = "refused"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{"7": 7 * time.Second, "Sun, 01 Mar 2026 12:01:00 GMT": time.Minute, "Sun, 01 Mar 2026 11:00:00 GMT": 0} {
		t.Run("Retry-After: "+header, func(t *testing.T) {
			var asked later
			if err := judge(503, header, now, ""); !errors.As(err, &asked) || asked.after != want {
				t.Errorf("got %v", asked.after)
			}
		})
	}
	for _, header := range []string{"", "-1", "soon"} {
		t.Run("no Retry-After: "+header, func(t *testing.T) {
			if errors.As(judge(503, header, now, ""), new(later)) {
				t.Error("it is one")
			}
		})
	}
}
