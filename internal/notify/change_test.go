package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
)

var (
	app = deploy.Name{Kind: deploy.KindSource, Namespace: "default", Name: "app"}
	web = deploy.Name{Kind: deploy.KindKustomization, Namespace: "default", Name: "web"}
)

// digest makes a digest of one repeated character.
func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// brief is an event in a line: severity and reason.
func brief(events []deploy.Event) string {
	var out []string
	for _, e := range events {
		out = append(out, e.Severity+" "+e.Reason)
	}
	return strings.Join(out, ", ")
}

func good(c string) deploy.SourceState {
	return deploy.SourceState{Name: app, Ready: true, Revision: "v1@" + digest(c), Digest: digest(c)}
}

// bad is a source that holds a revision, or none where c is empty, and whose last n polls failed.
func bad(c, reason, message string, n int) deploy.SourceState {
	s := deploy.SourceState{Name: app, Reason: reason, Message: message, Failures: n}
	if c != "" {
		s.Revision, s.Digest = "v1@"+digest(c), digest(c)
	}
	return s
}

func suspended(s deploy.SourceState) deploy.SourceState {
	s.Suspended, s.Ready = true, false
	return s
}

func cached(s deploy.SourceState) deploy.SourceState {
	s.Cached = true
	return s
}

func TestSourceChanges(t *testing.T) {
	type step struct {
		state deploy.SourceState
		want  string
	}
	for name, steps := range map[string][]step{
		"a new revision is told once": {
			{good("a"), "info NewRevision"}, {good("a"), ""}, {good("b"), "info NewRevision"}, {good("b"), ""},
		},
		"what is on the disk at the start is no news, and neither is finding it in the registry": {
			{cached(bad("a", deploy.SourceNetwork, "no answer", 1)), ""}, {good("a"), ""}, {good("b"), "info NewRevision"},
		},
		"a bad signature is told at once, and a repeat in other numbers is not": {
			{good("a"), "info NewRevision"},
			{bad("a", deploy.SourceUnverified, digest("b")+" refused at 10:01", 1), "error VerificationFailed"},
			{bad("a", deploy.SourceUnverified, digest("b")+" refused at 10:02", 2), ""},
			{good("a"), "info Recovered"},
			{good("a"), ""},
		},
		"another artifact with the same fault is told": {
			{bad("a", deploy.SourceUnverified, digest("b")+" refused", 1), "info NewRevision, error VerificationFailed"},
			{bad("a", deploy.SourceUnverified, digest("c")+" refused", 2), "error VerificationFailed"},
		},
		"unsigned and badly signed are two things": {
			{good("a"), "info NewRevision"},
			{bad("a", deploy.SourceUnsigned, "no signature", 1), "error SignatureMissing"},
			{bad("a", deploy.SourceUnverified, "bad signature", 2), "error VerificationFailed"},
			{good("b"), "info Recovered, info NewRevision"},
		},
		"two hiccups of the network are not told, and no recovery from them": {
			{good("a"), "info NewRevision"},
			{bad("a", deploy.SourceNetwork, "no answer", 1), ""}, {bad("a", deploy.SourceTimeout, "no answer", 2), ""}, {good("a"), ""},
			{bad("a", deploy.SourceUnavailable, "503", 1), ""}, {good("a"), ""},
		},
		"the third failure in a row is told, as one outage, and its end": {
			{good("a"), "info NewRevision"},
			{bad("a", deploy.SourceNetwork, "no answer", 1), ""}, {bad("a", deploy.SourceNetwork, "no answer", 2), ""},
			{bad("a", deploy.SourceNetwork, "no answer", 3), "error NetworkError"}, {bad("a", deploy.SourceTimeout, "no answer", 4), ""},
			{bad("a", deploy.SourceRateLimited, "429", 5), ""}, {good("a"), "info Recovered"},
		},
		"a state that comes twice counts once": {
			{good("a"), "info NewRevision"},
			{bad("a", deploy.SourceNetwork, "no answer", 2), ""}, {bad("a", deploy.SourceNetwork, "no answer", 2), ""}, {bad("a", deploy.SourceNetwork, "no answer", 2), ""},
		},
		"without any revision the first failure is told": {
			{bad("", deploy.SourceNetwork, "no answer", 1), "error NetworkError"}, {bad("", deploy.SourceNetwork, "no answer", 2), ""},
			{good("a"), "info Recovered, info NewRevision"},
		},
		"a hiccup between two refusals of one artifact repeats nothing": {
			{bad("a", deploy.SourceUnverified, "refused", 1), "info NewRevision, error VerificationFailed"},
			{bad("a", deploy.SourceNetwork, "no answer", 2), ""}, {bad("a", deploy.SourceUnverified, "refused", 3), ""},
		},
		"a withdrawn revision that comes back is no new one": {
			{good("a"), "info NewRevision"}, {bad("", deploy.SourceNoPolicy, "key unreadable", 1), "error PolicyInvalid"}, {good("a"), "info Recovered"},
		},
		"suspending and resuming are told, being suspended at the start is not": {
			{suspended(deploy.SourceState{Name: app}), ""}, {good("a"), "info Resumed, info NewRevision"}, {suspended(good("a")), "info Suspended"}, {suspended(good("a")), ""},
		},
		"a failure outlives a suspension": {
			{bad("a", deploy.SourceUnverified, "refused", 1), "info NewRevision, error VerificationFailed"}, {suspended(deploy.SourceState{Name: app}), "info Suspended"},
			{bad("a", deploy.SourceUnverified, "refused", 1), "info Resumed"}, {good("a"), "info Recovered"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var m sourceMemory
			for i, s := range steps {
				var events []deploy.Event
				m, events = sourceChanges(m, s.state)
				if diff := cmp.Diff(s.want, brief(events)); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i+1, diff)
				}
			}
		})
	}
	t.Run("an event says what, where and who vouched for it", func(t *testing.T) {
		s := good("a")
		s.VerifiedBy, s.LastPoll = "cosign key cosign.pub", time.Unix(1, 0)
		_, events := sourceChanges(sourceMemory{}, s)
		want := []deploy.Event{{
			Object: app, Severity: "info", Reason: "NewRevision", Revision: s.Revision, Digest: s.Digest, At: s.LastPoll,
			Message: "new revision " + s.Revision + ", verified by cosign key cosign.pub",
		}}
		if diff := cmp.Diff(want, events); diff != "" {
			t.Error(diff)
		}
	})
}

// target is a target's state after an attempt: lastGood is the revision that was good last, with the hash of the entry; attempts are an hour apart.
func target(phase deploy.Phase, reason, revision, lastGood string) deploy.TargetState {
	s := deploy.TargetState{Name: web, Phase: phase, Reason: reason, Message: reason, Started: time.Unix(7200, 0), Finished: time.Unix(7260, 0)}
	if revision != "" {
		s.Revision = "v1@" + digest(revision)
	}
	if lastGood != "" {
		rev, hash, _ := strings.Cut(lastGood, "/")
		s.LastGood = &deploy.Good{Revision: "v1@" + digest(rev), Digest: digest(rev), Hash: hash, At: time.Unix(3600, 0)}
	}
	return s
}

func reachedNow(s deploy.TargetState) deploy.TargetState {
	s.LastGood.At = s.Finished
	return s
}

func suspendedTarget(s deploy.TargetState) deploy.TargetState {
	s.Suspended, s.Phase = true, deploy.PhaseSuspended
	return s
}

func deletionFailed(s deploy.TargetState) deploy.TargetState {
	s.Failures = 1
	return s
}

// heldTarget is at a in place of b.
func heldTarget(why string, t deploy.TargetState) deploy.TargetState {
	t.Held = &deploy.Held{Digest: digest("a"), Revision: "v1@" + digest("a"), Instead: digest("b"), InsteadRevision: "v1@" + digest("b"), Why: why, Reason: "HealthCheckFailed", Message: "no"}
	return t
}

// contestedTarget is a state with objects that others insist on.
func contestedTarget(t deploy.TargetState, names ...string) deploy.TargetState {
	for _, n := range names {
		t.Contested = append(t.Contested, deploy.Contest{Object: deploy.ObjectID{Kind: "ConfigMap", Name: n}, By: "others", Pause: 60})
	}
	return t
}

func TestTargetChanges(t *testing.T) {
	const ready, failed, degraded, pending = deploy.PhaseReady, deploy.PhaseFailed, deploy.PhaseDegraded, deploy.PhasePending
	type step struct {
		state deploy.TargetState
		want  string
	}
	for name, steps := range map[string][]step{
		"a first rollout is told when it is ready, its stages are not": {
			{target(pending, "", "", ""), ""}, {target(deploy.PhaseApplying, "", "a", ""), ""}, {target(deploy.PhaseWaiting, "", "a", ""), ""},
			{target(ready, "", "a", "a"), "info ReconciliationSucceeded"}, {target(ready, "", "a", "a"), ""},
		},
		"what was good before a restart is not told again": {
			{target(pending, "", "", "a"), ""}, {target(ready, "", "a", "a"), ""}, {target(ready, "", "b", "b"), "info ReconciliationSucceeded"},
		},
		"a first state that is ready was reached now or long ago": {
			{target(ready, "", "a", "a"), ""}, {target(ready, "", "a", "a"), ""},
		},
		"a first state that became ready in this attempt is told": {
			{reachedNow(target(ready, "", "a", "a")), "info ReconciliationSucceeded"},
		},
		"a changed entry at the same revision is told": {
			{target(ready, "", "a", "a/1"), ""}, {target(ready, "", "a", "a/2"), "info ReconciliationSucceeded"},
		},
		"a failure is told once per reason and revision": {
			{target(pending, "", "", "a"), ""},
			{target(failed, deploy.ReasonHealthCheckFailed, "b", "a"), "error HealthCheckFailed"}, {target(deploy.PhaseApplying, "", "b", "a"), ""},
			{target(failed, deploy.ReasonHealthCheckFailed, "b", "a"), ""}, {target(degraded, deploy.ReasonApplyFailed, "b", "a"), "error ApplyFailed"},
			{target(degraded, deploy.ReasonApplyFailed, "c", "a"), "error ApplyFailed"}, {target(pending, "", "c", "a"), ""},
			{target(ready, "", "c", "c"), "info Recovered, info ReconciliationSucceeded"}, {target(ready, "", "c", "c"), ""},
		},
		"going back to what was good is a recovery only": {
			{target(ready, "", "a", "a"), ""}, {target(degraded, deploy.ReasonPruneBlocked, "b", "a"), "error PruneBlocked"}, {target(ready, "", "a", "a"), "info Recovered"},
		},
		"an attempt that was cancelled is no failure": {
			{target(pending, "", "", "a"), ""}, {target(failed, deploy.ReasonCanceled, "b", "a"), ""}, {target(ready, "", "b", "b"), "info ReconciliationSucceeded"},
		},
		"suspending and resuming are told": {
			{target(ready, "", "a", "a"), ""}, {suspendedTarget(target(ready, "", "a", "a")), "info Suspended"}, {target(ready, "", "a", "a"), "info Resumed"},
		},
		"a fall to the last good revision is told when it begins, and not again when it is there": {
			{target(ready, "", "a", "a"), ""}, {heldTarget(deploy.HeldByFailure, target(deploy.PhasePending, "", "b", "a")), "error RolledBack"},
			{heldTarget(deploy.HeldByFailure, target(deploy.PhaseApplying, "", "a", "a")), ""}, {heldTarget(deploy.HeldByFailure, target(deploy.PhaseDegraded, deploy.ReasonRolledBack, "a", "a")), ""},
			{target(ready, "", "c", "c"), "info Recovered, info ReconciliationSucceeded"},
		},
		"a rollback by hand is no error, and a fall that fails is another one": {
			{target(ready, "", "b", "b"), ""}, {heldTarget(deploy.HeldByHand, target(deploy.PhaseApplying, "", "a", "b")), "info RolledBack"},
			{heldTarget(deploy.HeldByHand, target(deploy.PhaseFailed, deploy.ReasonApplyFailed, "a", "b")), "error ApplyFailed"},
		},
		"a contested object is told once, and again after a calm": {
			{target(ready, "", "a", "a"), ""}, {contestedTarget(target(ready, "", "a", "a"), "web"), "error Contested"},
			{contestedTarget(target(deploy.PhaseApplying, "", "a", "a"), "web"), ""}, {contestedTarget(target(ready, "", "a", "a"), "web", "db"), "error Contested"},
			{target(ready, "", "a", "a"), ""}, {contestedTarget(target(ready, "", "a", "a"), "db"), "error Contested"},
		},
		"a deletion that fails is told once": {
			{target(ready, "", "a", "a"), ""}, {target(deploy.PhaseDeleting, "HealthCheckFailed", "a", "a"), ""},
			{deletionFailed(target(deploy.PhaseDeleting, deploy.ReasonPruneFailed, "a", "a")), "error PruneFailed"},
			{deletionFailed(target(deploy.PhaseDeleting, deploy.ReasonPruneFailed, "a", "a")), ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var m targetMemory
			for i, s := range steps {
				var events []deploy.Event
				m, events = targetChanges(m, s.state)
				if diff := cmp.Diff(s.want, brief(events)); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i+1, diff)
				}
			}
		})
	}
	t.Run("success says how much changed", func(t *testing.T) {
		for n, want := range map[int]string{0: "no changes", 1: "1 change", 3: "3 changes"} {
			s := reachedNow(target(ready, "", "a", "a"))
			s.Changes = make([]deploy.Change, n)
			_, events := targetChanges(targetMemory{}, s)
			want := []deploy.Event{{
				Object: web, Severity: "info", Reason: "ReconciliationSucceeded", Revision: s.Revision, Digest: digest("a"), At: s.Finished,
				Message: fmt.Sprintf("revision %s is applied: %s", s.Revision, want),
			}}
			if diff := cmp.Diff(want, events); diff != "" {
				t.Error(diff)
			}
		}
	})
	t.Run("the end of a target is told, unless it never was anything", func(t *testing.T) {
		m, _ := targetChanges(targetMemory{}, target(deploy.PhaseDeleting, "", "a", "a"))
		if e, ok := targetGone(web, m); !ok || e.Reason != "Deleted" || e.Digest != digest("a") {
			t.Errorf("got %+v, %v", e, ok)
		}
		m, _ = targetChanges(targetMemory{}, target(pending, "", "", ""))
		if e, ok := targetGone(web, m); ok {
			t.Errorf("told %+v", e)
		}
	})
}

func TestConfigChange(t *testing.T) {
	for name, c := range map[string]struct{ before, after, want string }{
		"a good config at the start is no news": {"", "", ""},
		"a refused one is":                      {"", "line 3: unknown key", "error ConfigInvalid"},
		"the same fault again is not":           {"line 3: unknown key", "line 3: unknown key", ""},
		"another fault is":                      {"line 3: unknown key", "line 9: unknown key", "error ConfigInvalid"},
		"its correction is":                     {"line 3: unknown key", "", "info Recovered"},
	} {
		t.Run(name, func(t *testing.T) {
			var events []deploy.Event
			if e, ok := configChange(web, c.before, c.after); ok {
				events = append(events, e)
			}
			if diff := cmp.Diff(c.want, brief(events)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
