package helm

import (
	"fmt"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/deploy"
)

// BenchmarkReleases installs, upgrades, looks at and uninstalls b.N releases of three objects, three at once, and reports requests per release. The budgets: 12 for an
// install, 17 for an upgrade; the waited ones look for readiness on top.
func BenchmarkReleases(b *testing.B) {
	for _, wait := range []bool{false, true} {
		b.Run("wait="+strconv.FormatBool(wait), func(b *testing.B) { benchmarkReleases(b, wait) })
	}
}

func benchmarkReleases(b *testing.B, wait bool) {
	e := newEnv(b)
	one, two := e.revision(web("1.0.0", nil)), e.revision(web("1.1.0", nil))
	named := func(i int) deploy.Target {
		t := e.target("", func(s *deploy.HelmReleaseSpec) {
			s.ReleaseName = fmt.Sprintf("web-%d", i)
			s.Install, s.Upgrade = &deploy.Install{DisableWait: !wait}, &deploy.Upgrade{DisableWait: !wait}
		})
		t.Name.Name = fmt.Sprintf("web-%d", i)
		return t
	}
	each := func(metric string, do func(i int) error) {
		e.counter.take()
		var g errgroup.Group
		g.SetLimit(3)
		for i := range b.N {
			g.Go(func() error { return do(i) })
		}
		e.must(g.Wait())
		b.ReportMetric(float64(len(e.counter.take()))/float64(b.N), metric)
	}
	e.bring(named(b.N), one) // discovery
	b.ResetTimer()
	each("requests/install", func(i int) error { _, err := e.run(b.Context(), named(i), one, false); return err })
	each("requests/upgrade", func(i int) error { _, err := e.run(b.Context(), named(i), two, false); return err })
	each("requests/unchanged", func(i int) error { _, err := e.run(b.Context(), named(i), two, false); return err })
	each("requests/full", func(i int) error { _, err := e.run(b.Context(), named(i), two, true); return err })
	each("requests/uninstall", func(i int) error { return e.engine.Delete(b.Context(), named(i), nil) })
}

// BenchmarkUnchangedPlan is the steady state: below 100 µs and without a request.
func BenchmarkUnchangedPlan(b *testing.B) {
	e := newEnv(b)
	w := deploy.Work{Target: e.target("", func(s *deploy.HelmReleaseSpec) { s.Install = &deploy.Install{DisableWait: true} }), Revision: e.revision(web("1.0.0", nil))}
	e.bring(w.Target, w.Revision)
	e.counter.take()
	for b.Loop() {
		if p, err := e.engine.Plan(b.Context(), w); err != nil || !p.Empty() {
			b.Fatal(p, err)
		}
	}
	b.ReportMetric(float64(len(e.counter.take())), "requests")
}
