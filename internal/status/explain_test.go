package status

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deploy"
)

func contested(t deploy.TargetState) deploy.TargetState {
	t.Contested = []deploy.Contest{{Object: deploy.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "apps", Name: "web"}, By: `"hpa"`, Pause: 120}}
	return t
}

func TestWhy(t *testing.T) {
	web := &deploy.SourceState{Name: source("web"), Ready: true}
	held := deploy.Held{Why: deploy.HeldByFailure, Digest: "sha256:1", Revision: "v1@sha256:1", InsteadRevision: "v2@sha256:2", Reason: "HealthCheckFailed", Message: "no"}
	for _, tt := range []struct {
		name string
		x    Explanation
		want []string
	}{
		{"a ready target says at what", Explanation{Target: readyTarget("web"), Source: web},
			[]string{"The cluster is as latest@sha256:2c26b46b68ff says; last checked 1m ago.", "The next check is in 9m."}},
		{"one that others insist on names them", Explanation{Target: contested(readyTarget("web")), Source: web},
			[]string{
				"The cluster is as latest@sha256:2c26b46b68ff says; last checked 1m ago.",
				`Others insist: "hpa" change Deployment.apps/apps/web again and again: it is put right every 2m0s at most; leave the field to them with ignore, or stop them.`,
				"The next check is in 9m.",
			}},
		{"one that is held back says why",
			Explanation{Source: web, Target: deploy.TargetState{Name: manifests("web"), Source: source("web"), Phase: deploy.PhaseDegraded, Reason: deploy.ReasonRolledBack, Held: &held, Message: held.String(), Revision: held.Revision, Next: noon.Add(time.Minute)}},
			[]string{
				"It is back at v1@sha256:1, the last good one, since v2@sha256:2 failed (HealthCheckFailed: no), which is quarantined until its source means another artifact, its entry changes, or somebody says towline reconcile --force.",
				"The next check is in 1m.",
			}},
		{"one that goes back says so",
			Explanation{Source: web, Target: deploy.TargetState{Name: manifests("web"), Source: source("web"), Phase: deploy.PhaseApplying, Held: &held, Revision: held.Revision}},
			[]string{
				"An attempt at v1@sha256:1 is running, in stage Applying.",
				"It is back at v1@sha256:1, the last good one, since v2@sha256:2 failed (HealthCheckFailed: no), which is quarantined until its source means another artifact, its entry changes, or somebody says towline reconcile --force.",
			}},
		{"a failed one says what failed, what was good, when it is tried again and who waits",
			Explanation{Target: failedTarget("web"), Source: web, Dependents: []deploy.Name{manifests("late"), release("db")}},
			[]string{
				"The attempt at latest@sha256:2c26b46b68ff failed, 30s ago, with ApplyFailed: 1 of 2 objects failed.",
				"That was failure 2 in a row.",
				"It was last good at latest@sha256:9f86d081884c, 2h ago.",
				"The next attempt is in 1m30s.",
				"Waiting for it: helmrelease/db.",
			}},
		{"a running one says its stage and for how long",
			Explanation{Source: web, Target: deploy.TargetState{Name: manifests("web"), Source: source("web"), Phase: deploy.PhaseWaiting, Revision: "v1@" + newDigest,
				Stage: "Deployment.apps/apps/web: 1 of 2 replicas", Started: noon.Add(-75 * time.Second)}},
			[]string{"An attempt at v1@sha256:2c26b46b68ff is running, in stage Waiting, for 1m15s: Deployment.apps/apps/web: 1 of 2 replicas."}},
		{"a waiting one repeats what the scheduler says, and adds why the source fails",
			Explanation{
				Target:       deploy.TargetState{Name: release("db"), Source: source("web"), Phase: deploy.PhasePending, WaitsFor: []string{"source/web, which has no revision yet"}},
				Source:       &deploy.SourceState{Name: source("web"), Failures: 1, Message: "401 Unauthorized", NextPoll: noon.Add(time.Minute)},
				Dependencies: []Dependency{{Name: manifests("base"), Phase: deploy.PhaseFailed}},
			},
			[]string{
				"It was not tried yet.",
				"It waits for source/web, which has no revision yet.",
				"source/web cannot be polled: 401 Unauthorized. The next poll is in 1m.",
			}},
		{"without word from the scheduler, the dependencies that are not ready are named",
			Explanation{
				Target:       deploy.TargetState{Name: release("db"), Source: source("web"), Phase: deploy.PhasePending, Finished: noon.Add(-time.Hour), Message: "a dependency changed"},
				Source:       web,
				Dependencies: []Dependency{{Name: manifests("base"), Phase: deploy.PhaseReady, Ready: true}, {Name: manifests("web"), Phase: deploy.PhaseFailed}, {Name: manifests("lost")}},
			},
			[]string{
				"The last attempt ended 1h ago and the next has not begun: a dependency changed.",
				"It waits for kustomization/web, which is Failed.",
				"It waits for kustomization/lost, which is not in the config.",
			}},
		{"why a source fails is said once",
			Explanation{
				Target: deploy.TargetState{Name: release("db"), Source: source("web"), Phase: deploy.PhaseReady, Revision: "v1@" + newDigest, WaitsFor: []string{"source/web, which has no revision yet: 401 Unauthorized"}},
				Source: &deploy.SourceState{Name: source("web"), Failures: 1, Message: "401 Unauthorized", NextPoll: noon.Add(time.Minute)},
			},
			[]string{
				"The cluster was as v1@sha256:2c26b46b68ff says when the agent last ran; it was not checked since.",
				"It waits for source/web, which has no revision yet: 401 Unauthorized.",
				"The next poll is in 1m.",
			}},
		{"one that is tried again says how often that failed",
			Explanation{Source: web, Target: deploy.TargetState{Name: manifests("web"), Source: source("web"), Phase: deploy.PhaseApplying, Revision: "v1@" + newDigest, Failures: 2}},
			[]string{"An attempt at v1@sha256:2c26b46b68ff is running, in stage Applying.", "Before it, 2 attempts in a row failed."}},
		{"a source that is nowhere is said",
			Explanation{Target: deploy.TargetState{Name: release("db"), Source: source("gone"), Phase: deploy.PhasePending}},
			[]string{"It was not tried yet.", "It waits for source/gone, which is not in the config."}},
		{"a suspended one says only that", Explanation{Source: web, Target: deploy.TargetState{Name: release("db"), Phase: deploy.PhaseReady, Suspended: true, Next: noon.Add(time.Hour), WaitsFor: []string{"x"}}},
			[]string{"It is suspended: nothing is reconciled until it is resumed."}},
		{"one that is being deleted says so, and does not miss its source", Explanation{Target: deploy.TargetState{Name: release("db"), Source: source("web"), Phase: deploy.PhaseDeleting}},
			[]string{"It left the config and is being deleted."}},
		{"one that is being deleted says what that waits for",
			Explanation{Target: deploy.TargetState{Name: manifests("web"), Phase: deploy.PhaseDeleting, Stage: "waiting for ConfigMap/ns/x: it is being deleted: it waits for example.org/f"}},
			[]string{"It left the config and is being deleted: waiting for ConfigMap/ns/x: it is being deleted: it waits for example.org/f."}},
		{"one whose deletion failed says why",
			Explanation{Target: deploy.TargetState{Name: manifests("web"), Phase: deploy.PhaseDeleting, Failures: 1, Finished: noon.Add(-time.Minute), Message: "prune 1 of 3 objects failed"}},
			[]string{"It left the config and is being deleted; the last attempt failed, 1m ago: prune 1 of 3 objects failed."}},
		{"one that makes room for itself says so",
			Explanation{Source: web, Target: deploy.TargetState{Name: manifests("web"), Phase: deploy.PhaseDeleting, Replacing: true, Stage: "deleting 3 objects"}},
			[]string{"What its earlier entry made is being deleted first: deleting 3 objects."}},
		{"a degraded one succeeded in part", Explanation{Source: web, Target: deploy.TargetState{Name: release("db"), Phase: deploy.PhaseDegraded, Finished: noon}},
			[]string{"The attempt at no revision succeeded in part, just now."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.x.At = noon
			waiting := slices.DeleteFunc(slices.Clone(tt.x.Dependents), func(n deploy.Name) bool { return n.Name == "late" }) // that one was there before
			equal(t, "sentences", tt.want, why(tt.x, waiting, "apps"))
		})
	}
}

func TestWords(t *testing.T) {
	for _, tt := range []struct{ name, got, want string }{
		{"a moment", span(300 * time.Millisecond), "less than 1s"},
		{"seconds", span(59 * time.Second), "59s"},
		{"whole minutes", span(2 * time.Minute), "2m"},
		{"hours and minutes", span(3*time.Hour + 5*time.Minute), "3h5m"},
		{"days and hours", span(51 * time.Hour), "2d3h"},
		{"never", ago(noon, time.Time{}), "never"},
		{"a clock that was set back", ago(noon, noon.Add(time.Minute)), "just now"},
		{"overdue", in(noon, noon.Add(-time.Minute)), "due now"},
		{"not planned", in(noon, time.Time{}), "not planned"},
		{"no revision", shortRevision(""), "no revision"},
		{"a digest alone", shortRevision(newDigest), "sha256:2c26b46b68ff"},
		{"no digest at all", shortRevision("6.9.0"), "6.9.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got != tt.want {
				t.Errorf("got %q, want %q", tt.got, tt.want)
			}
		})
	}
}

func TestMessagesForTables(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	for message, want := range map[string]string{
		"fetch registry.example.org/web:v1@sha256:012345: " + digest + " is not signed": "sha256:0123456789ab is not signed",
		"resolve registry.example.org:5000/web: tag v1: not found":                      "tag v1: not found",
		"the blob " + digest + "0 is odd":                                               "the blob " + digest + "0 is odd", // no digest
		"resolve it":                                                                    "resolve it",
	} {
		if got := Brief(message); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
