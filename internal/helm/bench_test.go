package helm

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// BenchmarkReleases installs, upgrades, looks at and uninstalls b.N releases of three objects, three at once, and reports requests per release and the memory of this process:
// its peak meanwhile, and what it settles at. The budgets: 12 requests for an install, 17 for an upgrade, with and without waiting.
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
	m := startMemory()
	b.ResetTimer()
	each("requests/install", func(i int) error { _, err := e.run(b.Context(), named(i), one, false); return err })
	each("requests/upgrade", func(i int) error { _, err := e.run(b.Context(), named(i), two, false); return err })
	each("requests/unchanged", func(i int) error { _, err := e.run(b.Context(), named(i), two, false); return err })
	each("requests/full", func(i int) error { _, err := e.run(b.Context(), named(i), two, true); return err })
	each("requests/uninstall", func(i int) error { return e.engine.Delete(b.Context(), named(i), nil) })
	b.StopTimer()
	m.report(b)
}

// memory reads what Linux says of this process; elsewhere it reports nothing.
type memory struct{ before float64 }

func startMemory() memory {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // the peak begins anew; where that is not allowed, it is that since the start
	return memory{before: rss("VmRSS")}
}

func (m memory) report(b *testing.B) {
	peak := rss("VmHWM")
	debug.FreeOSMemory()
	if m.before > 0 {
		b.ReportMetric(m.before, "MiB-before")
		b.ReportMetric(peak, "MiB-peak")
		b.ReportMetric(rss("VmRSS"), "MiB-settled")
	}
}

// rss is a field of /proc/self/status in MiB, 0 where there is none.
func rss(field string) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == field+":" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib / 1024
		}
	}
	return 0
}

// BenchmarkReadiness is how long after a Deployment got ready its release is recorded as deployed, in ms. A watcher of the test's own is the clock.
func BenchmarkReadiness(b *testing.B) {
	e := newEnv(b)
	var total, worst time.Duration
	for i := range b.N {
		name := fmt.Sprintf("web-%d", i)
		t := e.target(`{"podAnnotations":{"kubelet.towline.dev/ready-after":"500ms"}}`, func(s *deploy.HelmReleaseSpec) { s.ReleaseName = name })
		t.Name.Name = name
		w, err := e.set.AppsV1().Deployments(e.ns).Watch(b.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		e.must(err)
		ready := make(chan time.Time, 1)
		go func() {
			for event := range w.ResultChan() {
				if d, ok := event.Object.(*appsv1.Deployment); ok && d.Status.ReadyReplicas == 1 {
					ready <- time.Now()
					return
				}
			}
		}()
		e.bring(t, e.revision(web("1.0.0", nil)))
		took := max(0, time.Since(<-ready))
		w.Stop()
		total, worst = total+took, max(worst, took)
	}
	b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms/noticed")
	b.ReportMetric(float64(worst.Milliseconds()), "ms-worst")
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
