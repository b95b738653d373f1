package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// faults are what a receiver was told of the config, in order, without repeats.
func (r *receiver) faults() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, b := range r.bodies {
		_, after, _ := strings.Cut(b, "stays in force: ")
		fault, _, _ := strings.Cut(after, `"`)
		if !slices.Contains(out, fault) {
			out = append(out, fault)
		}
	}
	return out
}

func (r *receiver) awaitFaults(t *testing.T, want ...string) {
	t.Helper()
	testenv.Await(t, 20*time.Second, "the faults", func() error {
		if diff := cmp.Diff(want, r.faults()); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

func TestSet(t *testing.T) {
	fail := func(n *Notifier, faults ...string) {
		for _, f := range faults {
			n.ConfigFailed(errors.New(f))
		}
	}
	t.Run("a changed address gets what the old one did not take, in order", func(t *testing.T) {
		down, up := newReceiver(t, answer(500)), newReceiver(t)
		n := run(t, Options{}, sink(deploy.SinkGeneric, down.URL))
		fail(n, "one", "two", "three")
		down.await(t, 1)
		n.Set([]deploy.Sink{sink(deploy.SinkGeneric, up.URL)})
		fail(n, "four")
		up.awaitFaults(t, "one", "two", "three", "four")
		if d := n.Dropped(); d["default/generic"] != 0 {
			t.Errorf("dropped %v", d)
		}
	})
	t.Run("a narrower filter lets go of what it does not want", func(t *testing.T) {
		down, up := newReceiver(t, answer(500)), newReceiver(t)
		n := run(t, Options{}, sink(deploy.SinkGeneric, down.URL))
		fail(n, "one", "two")
		down.await(t, 1)
		s := sink(deploy.SinkGeneric, up.URL)
		s.Spec.ExclusionList = []string{": one$"}
		n.Set([]deploy.Sink{s})
		up.awaitFaults(t, "two")
	})
	t.Run("an equal entry keeps its connection, queue and retries", func(t *testing.T) {
		r := newReceiver(t, answer(500), answer(200))
		s := sink(deploy.SinkGeneric, r.URL)
		n := run(t, Options{}, s)
		fail(n, "one")
		r.await(t, 1)
		n.Set([]deploy.Sink{s})
		r.await(t, 2)
		r.mu.Lock()
		defer r.mu.Unlock()
		if d := r.at[1].Sub(r.at[0]); d < firstBackoff/2 {
			t.Errorf("tried again after %s", d)
		}
	})
	t.Run("a suspended one is sent nothing, nor later what it missed", func(t *testing.T) {
		r := newReceiver(t)
		s := sink(deploy.SinkGeneric, r.URL)
		off := s
		off.Hash, off.Spec.Suspend = "off", true
		n := run(t, Options{}, off)
		fail(n, "one")
		n.Set([]deploy.Sink{s})
		fail(n, "two")
		r.awaitFaults(t, "two")
	})
	t.Run("a renamed one begins anew", func(t *testing.T) {
		down, up := newReceiver(t, answer(500)), newReceiver(t)
		n := run(t, Options{}, sink(deploy.SinkGeneric, down.URL))
		fail(n, "one")
		down.await(t, 1)
		s := sink(deploy.SinkGeneric, up.URL)
		s.Name = "other"
		n.Set([]deploy.Sink{s})
		fail(n, "two")
		up.awaitFaults(t, "two")
		if diff := cmp.Diff(map[string]int{"default/other": 0}, n.Dropped()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("one name in two namespaces is two", func(t *testing.T) {
		here, there := newReceiver(t), newReceiver(t)
		a, b := sink(deploy.SinkGeneric, here.URL), sink(deploy.SinkGeneric, there.URL)
		b.Namespace = "staging"
		n := run(t, Options{}, a, b)
		fail(n, "one")
		here.awaitFaults(t, "one")
		there.awaitFaults(t, "one")
		n.Set([]deploy.Sink{b})
		fail(n, "two")
		there.awaitFaults(t, "one", "two")
	})
	t.Run("before Run, as often as one likes", func(t *testing.T) {
		first, last := newReceiver(t), newReceiver(t)
		n := New(Options{})
		n.Set([]deploy.Sink{sink(deploy.SinkGeneric, first.URL)})
		fail(n, "one")
		n.Set([]deploy.Sink{sink(deploy.SinkGeneric, last.URL)})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := n.Run(ctx); err != nil { // the end alone sends what waits
			t.Fatal(err)
		}
		last.awaitFaults(t, "one")
		if len(first.faults()) > 0 {
			t.Error("the old address was told too")
		}
	})
}

// TestManyAtOnce is for the race detector: states, configs and a scraper all at once.
func TestManyAtOnce(t *testing.T) {
	r := newReceiver(t)
	n := run(t, Options{}, sink(deploy.SinkGeneric, r.URL))
	done := make(chan struct{})
	for worker := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 50 {
				s := good(fmt.Sprintf("%x", i%16))
				s.Name.Name = fmt.Sprint("app", worker)
				n.SourceState(s)
				t := target(deploy.PhaseReady, "", fmt.Sprintf("%x", i%16), fmt.Sprintf("%x/1", i%16))
				t.Name.Name = fmt.Sprint("web", worker)
				n.TargetState(t)
				n.Dropped()
				changed := sink(deploy.SinkGeneric, r.URL+"/"+fmt.Sprint(i))
				n.Set([]deploy.Sink{changed})
			}
			n.SourceGone(app)
			n.TargetGone(web)
		}()
	}
	for range 4 {
		<-done
	}
	r.await(t, 1)
}

func TestSuspensionIsNow(t *testing.T) {
	r := newReceiver(t)
	n := run(t, Options{}, sink(deploy.SinkGeneric, r.URL))
	old := good("a")
	old.LastPoll = time.Unix(0, 0)
	n.SourceState(old)
	n.SourceState(suspended(old))
	r.await(t, 2)
	if !strings.Contains(r.bodies[0], "1970-01-01") || strings.Contains(r.bodies[1], "1970-01-01") {
		t.Errorf("got %s", r.bodies)
	}
}
