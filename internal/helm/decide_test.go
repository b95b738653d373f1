package helm

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(decision{})); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
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
