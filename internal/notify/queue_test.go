package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
)

func TestQueueQuiet(t *testing.T) {
	about := func(reason string) deploy.Event { return deploy.Event{Object: app, Reason: reason, Message: "words"} }
	start := time.Unix(1000, 0)
	type said struct {
		at     int // minutes after the start
		reason string
	}
	for name, c := range map[string]struct{ put, want []said }{
		"says the same words once within five minutes": {
			put: []said{{0, "F"}, {1, "F"}, {4, "F"}}, want: []said{{0, "F"}},
		},
		"says them again afterwards": {
			put: []said{{0, "F"}, {5, "F"}}, want: []said{{0, "F"}, {5, "F"}},
		},
		"says what is true in the end, late, when something flaps": {
			put: []said{{0, "F"}, {1, "R"}, {2, "F"}}, want: []said{{0, "F"}, {1, "R"}, {5, "F"}},
		},
		"says nothing more when it flaps back to what was said last": {
			put: []said{{0, "F"}, {1, "R"}, {2, "F"}, {3, "R"}}, want: []said{{0, "F"}, {1, "R"}},
		},
		"other words take the place of what is held": {
			put: []said{{0, "F"}, {1, "R"}, {2, "F"}, {3, "N"}}, want: []said{{0, "F"}, {1, "R"}, {3, "N"}},
		},
		"a suspension does not take the place of a failure": {
			put: []said{{0, "F"}, {1, "R"}, {2, "F"}, {3, reasonSuspended}}, want: []said{{0, "F"}, {1, "R"}, {3, reasonSuspended}, {5, "F"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(quietTime)
			var got []said
			for minute := range 12 {
				now := start.Add(time.Duration(minute) * time.Minute)
				for _, s := range c.put {
					if s.at == minute {
						q.put(about(s.reason), now)
					}
				}
				for {
					e, ok, _ := q.take(now)
					if !ok {
						break
					}
					got = append(got, said{minute, e.Reason})
				}
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(said{})); diff != "" {
				t.Error(diff)
			}
			if len(q.waiting) > 0 {
				t.Errorf("left: %v", q.waiting)
			}
			q.forget(start.Add(time.Hour))
			if len(q.said)+len(q.last) > 0 {
				t.Errorf("remembered for ever: %v %v", q.said, q.last)
			}
		})
	}
	t.Run("what waits for its turn is not taken for what was said last", func(t *testing.T) {
		q := newQueue(quietTime)
		q.put(about("F"), start)
		q.put(about("R"), start)
		if e, _, _ := q.take(start); e.Reason != "F" {
			t.Fatal(e)
		}
		q.put(about("F"), start)
		if e, _, _ := q.take(start); e.Reason != "R" {
			t.Fatal(e)
		}
		if _, ok, wait := q.take(start); ok || wait != quietTime {
			t.Errorf("the failure is not held: %v %v", ok, wait)
		}
	})
}

func TestQueueDropsTheOldest(t *testing.T) {
	q := newQueue(0)
	for i := range queueSize + 3 {
		q.put(deploy.Event{Object: app, Message: fmt.Sprint(i)}, time.Now())
	}
	e, ok, _ := q.take(time.Now())
	if !ok || e.Message != "3" || q.dropped != 3 {
		t.Errorf("first is %q, %d dropped", e.Message, q.dropped)
	}
}

func TestCut(t *testing.T) {
	for name, c := range map[string]struct {
		in    string
		limit int
		want  string
	}{
		"leaves a short text alone":          {"short", 5, "short"},
		"keeps within the limit":             {"much too long", 8, "much …"[:5] + "…"},
		"breaks no character":                {"ääää", 6, "ä…"},
		"a limit that is less than the mark": {strings.Repeat("x", 9), 3, "…"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, cut(c.in, c.limit)); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("takes credentials out of URLs and keeps digests of images", func(t *testing.T) {
		got := presentable("pull oci://user:pw@registry.example/app@sha256:12 failed")
		if diff := cmp.Diff("pull oci://registry.example/app@sha256:12 failed", got); diff != "" {
			t.Error(diff)
		}
	})
}
