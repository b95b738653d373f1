package helm

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/deploy"
)

func TestThreeOperationsAtOnce(t *testing.T) {
	e := newEnv(t)
	one, two := e.revision(web("1.0.0", nil)), e.revision(web("1.1.0", nil))
	named := func(i int) deploy.Target {
		target := e.target(fmt.Sprintf(`{"replicaCount":%d}`, i), func(s *deploy.HelmReleaseSpec) { s.ReleaseName = fmt.Sprintf("web-%d", i) })
		target.Name.Name = fmt.Sprintf("web-%d", i)
		return target
	}
	all := func(do func(i int) error) {
		t.Helper()
		var g errgroup.Group
		g.SetLimit(3)
		for i := 1; i <= 6; i++ {
			g.Go(func() error { return do(i) })
		}
		e.must(g.Wait())
	}
	all(func(i int) error { _, err := e.run(t.Context(), named(i), one, false); return err })
	all(func(i int) error { _, err := e.run(t.Context(), named(i), two, false); return err })
	for i := 1; i <= 6; i++ {
		name := fmt.Sprintf("web-%d", i)
		wantEqual(t, "history of "+name, e.history(e.ns, name), "1:superseded 2:deployed")
		wantEqual(t, "replicas of "+name, *e.deployment(name).Spec.Replicas, int32(i))
	}
	all(func(i int) error { return e.engine.Delete(t.Context(), named(i), nil) })
	wantEqual(t, "objects", e.configMaps(e.ns), "")
}

// TestRequests holds the budget of requests for a chart of three objects, of which one gets ready later than it is sent.
func TestRequests(t *testing.T) {
	for _, wait := range []bool{false, true} {
		name := "not waiting"
		if wait {
			name = "waiting, the default"
		}
		t.Run(name, func(t *testing.T) { holdBudget(t, wait) })
	}
}

func holdBudget(t *testing.T, wait bool) {
	e := newEnv(t)
	release := func(values string) deploy.Target {
		return e.target(values, func(s *deploy.HelmReleaseSpec) {
			s.Install, s.Upgrade, s.Uninstall = &deploy.Install{DisableWait: !wait}, &deploy.Upgrade{DisableWait: !wait}, &deploy.Uninstall{DisableWait: !wait}
		})
	}
	r := e.revision(web("1.0.0", nil))
	warm := release("")
	warm.Name.Name, warm.HelmRelease.ReleaseName = "warm", "warm"
	e.bring(warm, r) // discovery is read once per process
	within := func(what string, budget int, do func()) {
		t.Helper()
		e.counter.take()
		do()
		got := e.counter.take()
		t.Logf("%s: %d requests\n  %s", what, len(got), strings.Join(got, "\n  "))
		if len(got) > budget {
			t.Errorf("%s: %d requests, the budget is %d", what, len(got), budget)
		}
		for _, q := range got {
			if strings.Contains(q, "openapi") {
				t.Errorf("%s reads OpenAPI documents: %s", what, q)
			}
		}
	}
	slow := `{"replicaCount":2,"big":5,"podAnnotations":{"kubelet.towline.dev/ready-after":"1s"}}`
	within("install", 12, func() { e.bring(release(""), r) })
	within("upgrade that changes every object", 17, func() { e.bring(release(slow), e.revision(web("1.1.0", nil))) })
	unused := strings.Replace(slow, "{", `{"unused":1,`, 1)
	within("upgrade that changes nothing", 17, func() { e.bring(release(unused), e.revision(web("1.1.0", nil))) })
	within("full look", 1, func() {
		_, err := e.run(t.Context(), release(unused), e.revision(web("1.1.0", nil)), true)
		e.must(err)
	})
	within("uninstall", 12, func() { e.must(e.engine.Delete(t.Context(), release(""), nil)) })
}
