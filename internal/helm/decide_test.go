package helm

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
)

func TestDecide(t *testing.T) {
	const us, them, lock = "helmrelease.apps.web", "helmrelease.apps.other", 5 * time.Minute
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	rev := func(version int, status release.Status) revision {
		return revision{version: version, status: status, target: us, fingerprint: "v1.c.v.n", stamped: true, writer: deploy.FieldManager, touched: now.Add(-time.Second)}
	}
	with := func(r revision, edit func(*revision)) revision { edit(&r); return r }
	foreign := func(r revision) revision { r.writer, r.stamped = "helm", false; return r }
	tests := []struct {
		name string
		seen observation
		want decision
		err  string
	}{
		{"installs what is absent", nil, decision{do: doInstall}, ""},
		{"leaves alone what is deployed as wanted", observation{rev(1, release.StatusDeployed)}, decision{}, ""},
		{"leaves alone what is deployed as wanted behind superseded revisions", observation{rev(1, release.StatusSuperseded), rev(2, release.StatusDeployed)}, decision{}, ""},
		{"upgrades when the chart differs", observation{with(rev(1, release.StatusDeployed), func(r *revision) { r.fingerprint = "v1.x.v.n" })},
			decision{do: doUpgrade, why: "chart changed"}, ""},
		{"upgrades when the values differ", observation{with(rev(1, release.StatusDeployed), func(r *revision) { r.fingerprint = "v1.c.x.n" })},
			decision{do: doUpgrade, why: "values changed"}, ""},
		{"adopts by upgrade what another client deployed", observation{{version: 4, status: release.StatusDeployed, writer: "helm"}},
			decision{do: doUpgrade, why: "another Helm client changed it"}, ""},
		{"upgrades when another client rolled back and copied our labels", observation{rev(1, release.StatusSuperseded), foreign(rev(2, release.StatusDeployed))},
			decision{do: doUpgrade, why: "another Helm client changed it"}, ""},
		{"refuses a release of another target", observation{with(rev(1, release.StatusDeployed), func(r *revision) { r.target = them })}, decision{}, "belongs to " + deploy.LabelledTarget(them)},
		{"installs over another target's uninstalled release", observation{with(rev(1, release.StatusUninstalled), func(r *revision) { r.target = them })},
			decision{do: doInstall, replace: true, why: "it was uninstalled"}, ""},
		{"installs again what never came to be", observation{rev(1, release.StatusFailed)}, decision{do: doInstall, replace: true, why: "revision 1 is failed"}, ""},
		{"installs again after several failures", observation{rev(1, release.StatusFailed), rev(2, release.StatusFailed)},
			decision{do: doInstall, replace: true, why: "revision 2 is failed"}, ""},
		{"upgrades after a failed upgrade", observation{rev(1, release.StatusDeployed), rev(2, release.StatusFailed)}, decision{do: doUpgrade, why: "revision 2 is failed"}, ""},
		{"upgrades where only superseded revisions are left", observation{rev(1, release.StatusSuperseded)}, decision{do: doUpgrade, why: "revision 1 is superseded"}, ""},
		{"installs what was uninstalled with its history kept", observation{rev(1, release.StatusSuperseded), rev(2, release.StatusUninstalled)},
			decision{do: doInstall, replace: true, why: "it was uninstalled"}, ""},
		{"recovers its own interrupted install at once", observation{rev(1, release.StatusPendingInstall)},
			decision{do: doInstall, recover: true, replace: true, why: "revision 1 is pending-install"}, ""},
		{"recovers its own interrupted upgrade at once", observation{rev(1, release.StatusDeployed), rev(2, release.StatusPendingUpgrade)},
			decision{do: doUpgrade, recover: true, why: "revision 2 is pending-upgrade"}, ""},
		{"never installs over an interrupted upgrade, even if no deployed revision is left", observation{rev(2, release.StatusPendingUpgrade)},
			decision{do: doUpgrade, recover: true, why: "revision 2 is pending-upgrade"}, ""},
		{"upgrades what an interrupted uninstallation left", observation{rev(3, release.StatusUninstalling)},
			decision{do: doUpgrade, recover: true, why: "revision 3 is uninstalling"}, ""},
		{"keeps off while another client upgrades", observation{rev(1, release.StatusDeployed), foreign(rev(2, release.StatusPendingUpgrade))}, decision{}, "another Helm client (helm)"},
		{"keeps off while another client uninstalls our revision", observation{with(rev(1, release.StatusUninstalling), func(r *revision) { r.writer = "Helm" })}, decision{}, "another Helm client (Helm)"},
		{"takes over what another client left for longer than the lock", observation{rev(1, release.StatusDeployed),
			with(foreign(rev(2, release.StatusPendingRollback)), func(r *revision) { r.touched = now.Add(-lock - time.Second) })},
			decision{do: doUpgrade, recover: true, why: "revision 2 is pending-rollback"}, ""},
		{"upgrades from a status that it does not know", observation{rev(1, release.StatusUnknown)}, decision{do: doUpgrade, recover: true, why: "revision 1 is unknown"}, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := decide(tc.seen, wanted{target: us, fingerprint: "v1.c.v.n", lock: lock}, now)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tc.want.do != doNothing {
				tc.want.try = 1
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(decision{}, policy{})); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDecideAfterFailure has every policy, at every number of failures, after everything that can have happened to an attempt.
func TestDecideAfterFailure(t *testing.T) {
	const us = "helmrelease.apps.web"
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	rev := func(version int, status release.Status, number int) revision {
		return revision{
			version: version, status: status, target: us, fingerprint: "v1.c", stamped: true, writer: deploy.FieldManager, touched: now, try: try{number, "spec"},
		}
	}
	old := func(version int, status release.Status) revision {
		r := rev(version, status, 1)
		r.fingerprint = "v1.old"
		return r
	}
	back := func(version int, status release.Status, number int) revision {
		r := old(version, status)
		r.rejected, r.try.number = "v1.c", number
		return r
	}
	tested := func(r revision, word string) revision { r.tested = word; return r }
	with := func(r revision, edit func(*revision)) revision { edit(&r); return r }
	forever, twice := policy{}, policy{undo: undoRollback, retries: 2, last: true}
	leaves := policy{undo: undoRollback, retries: 0}
	endless := policy{undo: undoRollback, retries: -1, last: true}
	anew := policy{undo: undoUninstall, retries: 1}
	failedInstall := observation{rev(1, release.StatusFailed, 1)}
	failedUpgrade := func(number int) observation {
		return observation{old(1, release.StatusDeployed), rev(2, release.StatusFailed, number)}
	}
	rolledBack := func(number int) observation {
		return observation{old(1, release.StatusSuperseded), rev(2, release.StatusFailed, number), back(3, release.StatusDeployed, number)}
	}
	for _, tc := range []struct {
		name             string
		seen             observation
		install, upgrade policy
		edit             func(*wanted)
		// want is the act, the try, and the revision to go back to: install#2, undo#1→1.
		want string
	}{
		{"install, without a policy: again, for ever", observation{rev(7, release.StatusFailed, 7)}, forever, forever, nil, "install#8"},
		{"install: undone first where the attempt could not", failedInstall, anew, forever, nil, "undo#1→0"},
		{"install: the last try is left as it is", observation{rev(1, release.StatusFailed, 2)}, anew, forever, nil, "it failed 2 times, and no retries are left"},
		{"install: the last try is undone where the policy says so", observation{rev(1, release.StatusFailed, 2)}, policy{undo: undoUninstall, retries: 1, last: true}, forever, nil, "undo#2→0"},
		{"install: again after it was undone", nil, anew, forever, func(w *wanted) { w.undone = undone{"v1.c", try{1, "spec"}, nil} }, "install#2"},
		{"install: no more after all were undone", nil, anew, forever, func(w *wanted) { w.undone = undone{"v1.c", try{2, "spec"}, io.EOF} }, "was undone, and no retries are left"},
		{"install: news start anew", nil, anew, forever, func(w *wanted) { w.undone = undone{"v1.other", try{2, "spec"}, nil} }, "install#1"},
		{"install: another spec starts anew", nil, anew, forever, func(w *wanted) { w.undone = undone{"v1.c", try{2, "other"}, nil} }, "install#1"},
		{"install: somebody asks", observation{rev(1, release.StatusFailed, 2)}, anew, forever, func(w *wanted) { w.asked = true }, "install#1"},
		{"install: old records are not to be replaced", observation{rev(1, release.StatusUninstalled, 1)}, forever, forever, func(w *wanted) { w.keepOld = true }, "install.replace is false"},
		{"install: nor failed ones", failedInstall, forever, forever, func(w *wanted) { w.keepOld = true }, "install.replace is false"},
		{"install: interrupted, which is no failure", observation{rev(1, release.StatusPendingInstall, 2)}, anew, forever, nil, "install#2 recover"},

		{"upgrade, without a policy: again, for ever", failedUpgrade(9), forever, forever, nil, "upgrade#10"},
		{"upgrade: undone first where the attempt could not", failedUpgrade(1), forever, twice, nil, "undo#1→1"},
		{"upgrade: again after the rollback", rolledBack(1), forever, twice, nil, "upgrade#2"},
		{"upgrade: the last retry", rolledBack(2), forever, twice, nil, "upgrade#3"},
		{"upgrade: no retries left", rolledBack(3), forever, twice, nil, "it failed 3 times and was undone, and no retries are left"},
		{"upgrade: the last try is undone", failedUpgrade(3), forever, twice, nil, "undo#3→1"},
		{"upgrade: the only try is left as it is", failedUpgrade(1), forever, leaves, nil, "it failed, and no retries are left"},
		{"upgrade: retries without end", rolledBack(50), forever, endless, nil, "upgrade#51"},
		{"upgrade: by uninstalling", failedUpgrade(1), forever, anew, nil, "undo#1→0"},
		{"upgrade: more retries than before", rolledBack(3), forever, policy{undo: undoRollback, retries: 3, last: true}, nil, "upgrade#4"},
		{"upgrade: another spec starts anew", rolledBack(3), forever, twice, func(w *wanted) { w.spec = "other" }, "upgrade#1"},
		{"upgrade: another chart starts anew", rolledBack(3), forever, twice, func(w *wanted) { w.fingerprint = "v1.new" }, "upgrade#1"},
		{"upgrade: somebody asks", rolledBack(3), forever, twice, func(w *wanted) { w.asked = true }, "upgrade#1"},
		{"upgrade: somebody asks after the last try", failedUpgrade(1), forever, leaves, func(w *wanted) { w.asked = true }, "upgrade#1"},
		{"upgrade: no good revision to go back to", observation{rev(2, release.StatusPendingUpgrade, 1)}, forever, twice, nil, "upgrade#1 recover"},
		{"upgrade: interrupted, which is no failure", observation{old(1, release.StatusDeployed), rev(2, release.StatusPendingUpgrade, 2)}, forever, twice, nil, "upgrade#2 recover"},
		{"upgrade: interrupted at the first try", observation{old(1, release.StatusDeployed), rev(2, release.StatusPendingUpgrade, 1)}, forever, leaves, nil, "upgrade#1 recover"},
		{"upgrade: a failure of something else", observation{old(1, release.StatusDeployed), old(2, release.StatusFailed)}, forever, leaves, nil, "upgrade#1"},

		{
			"rollback: interrupted", observation{old(1, release.StatusSuperseded), rev(2, release.StatusFailed, 1), back(3, release.StatusPendingRollback, 1)},
			forever, twice, nil, "undo#1→1 recover",
		},
		{"rollback: failed", observation{old(1, release.StatusDeployed), rev(2, release.StatusFailed, 1), back(3, release.StatusFailed, 1)}, forever, twice, nil, "undo#1→1"},
		{
			"rollback: interrupted, and something else is wanted by now",
			observation{old(1, release.StatusSuperseded), rev(2, release.StatusFailed, 1), back(3, release.StatusPendingRollback, 1)},
			forever, twice, func(w *wanted) { w.fingerprint = "v1.new" }, "upgrade#1 recover",
		},
		{"rollback by hand: held", observation{rev(1, release.StatusSuperseded, 1), with(back(2, release.StatusDeployed, 0), func(r *revision) { r.held = true })}, forever, forever, nil, "by hand"},
		{
			"rollback by hand: held without end, whatever the policy", observation{rev(1, release.StatusSuperseded, 1), with(back(2, release.StatusDeployed, 9), func(r *revision) { r.held = true })},
			forever, twice, nil, "by hand",
		},
		{
			"rollback by hand: somebody asks", observation{rev(1, release.StatusSuperseded, 1), with(back(2, release.StatusDeployed, 0), func(r *revision) { r.held = true })},
			forever, forever, func(w *wanted) { w.asked = true }, "upgrade#1",
		},
		{
			"rollback by hand: news", observation{rev(1, release.StatusSuperseded, 1), with(back(2, release.StatusDeployed, 0), func(r *revision) { r.held = true })},
			forever, forever, func(w *wanted) { w.fingerprint = "v1.new" }, "upgrade#1",
		},
		{
			"rollback by hand: the config follows", observation{rev(1, release.StatusSuperseded, 1), with(back(2, release.StatusDeployed, 0), func(r *revision) { r.held = true })},
			forever, forever, func(w *wanted) { w.fingerprint = "v1.old" }, "nothing",
		},

		{"tests: have not run", observation{rev(1, release.StatusDeployed, 1)}, forever, forever, func(w *wanted) { w.tests = true }, "test#1"},
		{"tests: nobody wants them", observation{rev(1, release.StatusDeployed, 1)}, forever, forever, nil, "nothing"},
		{"tests: passed", observation{tested(rev(1, release.StatusDeployed, 1), testsPassed)}, forever, forever, func(w *wanted) { w.tests = true }, "nothing"},
		{"tests: ignored", observation{tested(rev(1, release.StatusDeployed, 1), testsIgnored)}, forever, forever, func(w *wanted) { w.tests = true }, "nothing"},
		{"tests: failed, without a policy: tested again, without a new revision", observation{tested(rev(1, release.StatusDeployed, 1), testsFailed)}, forever, forever, func(w *wanted) { w.tests = true }, "test#2"},
		{"tests: failed after the installation", observation{tested(rev(1, release.StatusDeployed, 1), testsFailed)}, anew, twice, func(w *wanted) { w.tests = true }, "undo#1→0"},
		{
			"tests: failed after an upgrade", observation{old(1, release.StatusSuperseded), tested(rev(2, release.StatusDeployed, 1), testsFailed)},
			anew, twice, func(w *wanted) { w.tests = true }, "undo#1→1",
		},
		{
			"tests: a revision whose tests failed is none to go back to",
			observation{old(1, release.StatusSuperseded), tested(old(2, release.StatusSuperseded), testsFailed), rev(3, release.StatusFailed, 1)}, anew, twice, nil, "undo#1→1",
		},
		{"labels that another client copied count for nothing", observation{with(back(3, release.StatusDeployed, 3), func(r *revision) { r.stamped = false })}, forever, twice, nil, "upgrade#1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := wanted{target: us, fingerprint: "v1.c", spec: "spec", lock: time.Minute, install: tc.install, upgrade: tc.upgrade}
			if tc.edit != nil {
				tc.edit(&want)
			}
			d, err := decide(tc.seen, want, now)
			if err != nil {
				if !strings.Contains(err.Error(), tc.want) {
					t.Fatalf("error %v, want %s", err, tc.want)
				}
				return
			}
			got := map[act]string{doNothing: "nothing", doInstall: "install", doUpgrade: "upgrade", doUndo: "undo", doTest: "test"}[d.do]
			if d.do != doNothing {
				got += fmt.Sprintf("#%d", d.try)
			}
			if d.do == doUndo {
				got += fmt.Sprintf("→%d", d.to)
			}
			if d.recover {
				got += " recover"
			}
			wantEqual(t, "decision", got, tc.want)
		})
	}
}

func TestPolicies(t *testing.T) {
	yes, no := true, false
	retry := &deploy.Strategy{Name: deploy.StrategyRetry, RetryInterval: &metav1.Duration{Duration: time.Minute}}
	remediate := &deploy.Strategy{Name: deploy.StrategyRemediate}
	for _, tc := range []struct {
		name             string
		spec             deploy.HelmReleaseSpec
		install, upgrade policy
	}{
		{"nothing is said", deploy.HelmReleaseSpec{}, policy{}, policy{}},
		{
			"remediation without more", deploy.HelmReleaseSpec{Install: &deploy.Install{Remediation: &deploy.InstallRemediation{}}, Upgrade: &deploy.Upgrade{Remediation: &deploy.UpgradeRemediation{}}},
			policy{undo: undoUninstall}, policy{undo: undoRollback},
		},
		{
			"with retries", deploy.HelmReleaseSpec{
				Install: &deploy.Install{Remediation: &deploy.InstallRemediation{Retries: 3, RemediateLastFailure: &yes}},
				Upgrade: &deploy.Upgrade{Remediation: &deploy.UpgradeRemediation{Retries: 2, Strategy: deploy.RemediateUninstall}},
			},
			policy{undo: undoUninstall, retries: 3, last: true}, policy{undo: undoUninstall, retries: 2, last: true},
		},
		{
			"the last failure is left", deploy.HelmReleaseSpec{Upgrade: &deploy.Upgrade{Remediation: &deploy.UpgradeRemediation{Retries: -1, RemediateLastFailure: &no}}},
			policy{}, policy{undo: undoRollback, retries: -1},
		},
		{
			"strategies", deploy.HelmReleaseSpec{Install: &deploy.Install{Strategy: retry}, Upgrade: &deploy.Upgrade{Strategy: remediate}},
			policy{pause: time.Minute}, policy{undo: undoRollback},
		},
		{
			"failed tests", deploy.HelmReleaseSpec{
				Test: &deploy.Test{IgnoreFailures: true}, Install: &deploy.Install{Remediation: &deploy.InstallRemediation{IgnoreTestFailures: &no}},
				Upgrade: &deploy.Upgrade{Remediation: &deploy.UpgradeRemediation{}},
			},
			policy{undo: undoUninstall}, policy{undo: undoRollback, ignoreTests: true},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target := deploy.Target{HelmRelease: &tc.spec}
			wantEqual(t, "install", installPolicy(target), tc.install)
			wantEqual(t, "upgrade", upgradePolicy(target), tc.upgrade)
		})
	}
}

func TestDecideDelete(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	target := deploy.Target{Name: deploy.Name{Kind: deploy.KindHelmRelease, Namespace: "apps", Name: "web"}, HelmRelease: &deploy.HelmReleaseSpec{}}
	keeping := target
	keeping.HelmRelease = &deploy.HelmReleaseSpec{Uninstall: &deploy.Uninstall{KeepHistory: true}}
	ours := revision{version: 1, status: release.StatusDeployed, target: target.Name.LabelValue(), stamped: true, writer: deploy.FieldManager}
	status := func(s release.Status) revision { r := ours; r.status = s; return r }
	other := ours
	other.target = "helmrelease.apps.other"
	busy := revision{version: 2, status: release.StatusPendingUpgrade, target: ours.target, writer: "helm", touched: now}
	tests := []struct {
		name   string
		target deploy.Target
		seen   observation
		want   bool
		err    bool
	}{
		{"has nothing to do where nothing is", target, nil, false, false},
		{"uninstalls its own release", target, observation{ours}, true, false},
		{"uninstalls its own failed release", target, observation{status(release.StatusFailed)}, true, false},
		{"uninstalls its own pending release", target, observation{status(release.StatusPendingInstall)}, true, false},
		{"ends an interrupted uninstallation", target, observation{status(release.StatusUninstalling)}, true, false},
		{"leaves another target's release alone", target, observation{other}, false, false},
		{"leaves a release without our label alone", target, observation{{version: 1, status: release.StatusDeployed}}, false, false},
		{"leaves a kept history alone", keeping, observation{status(release.StatusUninstalled)}, false, false},
		{"purges a history that is not to be kept any more", target, observation{status(release.StatusUninstalled)}, true, false},
		{"waits for another client", target, observation{ours, busy}, true, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := decideDelete(tc.seen, tc.target, now, time.Minute)
			if (err != nil) != tc.err {
				t.Fatalf("error %v, want one: %v", err, tc.err)
			}
			if got != tc.want {
				t.Errorf("uninstall %v, want %v", got, tc.want)
			}
		})
	}
}
