package status

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/towline/towline/internal/deploy"
)

var update = flag.Bool("update", false, "write the golden files of testdata anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// oldDigest and newDigest are of the shape that a registry gives.
	oldDigest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	newDigest = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
	// deadline of whatever a test waits for.
	deadline = 20 * time.Second
)

// noon is when the tests' agents think it is.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func source(name string) deploy.Name {
	return deploy.Name{Kind: deploy.KindSource, Namespace: "apps", Name: name}
}

func manifests(name string) deploy.Name {
	return deploy.Name{Kind: deploy.KindKustomization, Namespace: "apps", Name: name}
}

func release(name string) deploy.Name {
	return deploy.Name{Kind: deploy.KindHelmRelease, Namespace: "apps", Name: name}
}

// emptyBoard is a board whose clock stands at noon and that started an hour before.
func emptyBoard() *Board {
	b := New(Options{Version: "v1.2.3", Namespace: "apps"})
	b.now = func() time.Time { return noon }
	b.started = noon.Add(-time.Hour)
	return b
}

// fullBoard has a ready source and one that fails, and targets that are ready, failed and waiting.
func fullBoard() *Board {
	b := emptyBoard()
	b.ConfigLoaded("c0ffee", 2, 3, noon.Add(-30*time.Minute))
	b.SetReady(GateCluster, true)
	b.SourceState(deploy.SourceState{
		Name: source("web"), URL: "oci://registry.example.com/web", Revision: "latest@" + newDigest, Digest: newDigest, Ready: true,
		LastPoll: noon.Add(-time.Minute), NextPoll: noon.Add(9 * time.Minute), Annotations: map[string]string{"org.opencontainers.image.revision": "main/1234"},
	})
	b.SourceState(deploy.SourceState{
		Name: source("db-chart"), URL: "oci://registry.example.com/charts/db", Failures: 3, Message: "resolve >=1.0.0: 401 Unauthorized",
		LastPoll: noon.Add(-10 * time.Second), NextPoll: noon.Add(50 * time.Second),
	})
	b.TargetState(readyTarget("base"))
	b.TargetState(failedTarget("web"))
	b.TargetState(deploy.TargetState{
		Name: release("db"), Source: source("db-chart"), DependsOn: []deploy.Name{manifests("web")}, Phase: deploy.PhasePending,
		WaitsFor: []string{"source/db-chart, which has no revision yet"},
	})
	return b
}

func readyTarget(name string) deploy.TargetState {
	return deploy.TargetState{
		Name: manifests(name), Source: source("web"), Phase: deploy.PhaseReady, Message: "2 objects as wanted", Revision: "latest@" + newDigest,
		LastGood: &deploy.Good{Digest: newDigest, Revision: "latest@" + newDigest, Hash: "aa", At: noon.Add(-20 * time.Minute)},
		Started:  noon.Add(-62 * time.Second), Finished: noon.Add(-60 * time.Second), Next: noon.Add(9 * time.Minute),
		History: []deploy.Past{{Revision: "latest@" + newDigest, Phase: deploy.PhaseReady, Changes: 2, At: noon.Add(-20 * time.Minute), Took: 2}},
	}
}

func failedTarget(name string) deploy.TargetState {
	return deploy.TargetState{
		Name: manifests(name), Source: source("web"), DependsOn: []deploy.Name{manifests("base")}, Phase: deploy.PhaseFailed,
		Reason: deploy.ReasonApplyFailed, Message: "1 of 2 objects failed", Revision: "latest@" + newDigest, Failures: 2,
		LastGood: &deploy.Good{Digest: oldDigest, Revision: "latest@" + oldDigest, Hash: "aa", At: noon.Add(-2 * time.Hour)},
		Changes: []deploy.Change{
			{Action: deploy.ActionApply, Object: deploy.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "apps", Name: "web"}, Fields: []string{"spec.replicas"}},
			{Action: deploy.ActionApply, Object: deploy.ObjectID{Group: "batch", Kind: "Job", Namespace: "apps", Name: "migrate"}, Err: errors.New("spec.template: field is immutable")},
		},
		Started: noon.Add(-35 * time.Second), Finished: noon.Add(-30 * time.Second), Next: noon.Add(90 * time.Second),
		History: []deploy.Past{{Revision: "latest@" + newDigest, Phase: deploy.PhaseFailed, Reason: deploy.ReasonApplyFailed, Message: "1 of 2 objects failed", Changes: 2, At: noon.Add(-5 * time.Minute), Took: 5}},
	}
}

// golden compares with a file of testdata.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		must(t, os.WriteFile(path, got, 0o600))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// equal fails the test with a diff. Errors inside are compared by text: JSON keeps no more of them.
func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	sameText := cmp.Comparer(func(a, b error) bool {
		return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error())
	})
	if d := cmp.Diff(want, got, sameText); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// call is one thing that was asked of controls.
type call struct {
	Name     deploy.Name
	Haste    Haste
	Reload   bool
	Rollback bool
	Revision string
}

// controls remember what was asked and answer with err.
type controls struct {
	calls []call
	err   error
}

func (c *controls) Reconcile(_ context.Context, n deploy.Name, how Haste) error {
	c.calls = append(c.calls, call{Name: n, Haste: how})
	return c.err
}

// Rollback goes to the revision asked for, or to 7.
func (c *controls) Rollback(_ context.Context, n deploy.Name, revision string) (string, error) {
	c.calls = append(c.calls, call{Name: n, Rollback: true, Revision: revision})
	if revision == "" {
		revision = "7"
	}
	return revision, c.err
}

func (c *controls) Reload(context.Context) error {
	c.calls = append(c.calls, call{Reload: true})
	return c.err
}
