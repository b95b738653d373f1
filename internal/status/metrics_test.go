package status

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/towline/towline/internal/deploy"
)

func TestMetrics(t *testing.T) {
	t.Run("shows the board", func(t *testing.T) {
		want := `
# HELP towline_config_valid 1 when the newest config is the one in force, 0 when it was refused or none was loaded yet.
# TYPE towline_config_valid gauge
towline_config_valid 1
# HELP towline_source_failures_total Polls that failed.
# TYPE towline_source_failures_total counter
towline_source_failures_total{name="db-chart",namespace="apps"} 3
towline_source_failures_total{name="web",namespace="apps"} 0
# HELP towline_source_ready 1 when the source has a checked artifact and its last poll went well.
# TYPE towline_source_ready gauge
towline_source_ready{name="db-chart",namespace="apps"} 0
towline_source_ready{name="web",namespace="apps"} 1
# HELP towline_target_last_handled_timestamp_seconds When the last attempt ended, well or not.
# TYPE towline_target_last_handled_timestamp_seconds gauge
towline_target_last_handled_timestamp_seconds{kind="Kustomization",name="base",namespace="apps"} 1.77236634e+09
towline_target_last_handled_timestamp_seconds{kind="Kustomization",name="web",namespace="apps"} 1.77236637e+09
# HELP towline_target_phase 1 for the phase that the target is in; other phases have no series.
# TYPE towline_target_phase gauge
towline_target_phase{kind="HelmRelease",name="db",namespace="apps",phase="Pending"} 1
towline_target_phase{kind="Kustomization",name="base",namespace="apps",phase="Ready"} 1
towline_target_phase{kind="Kustomization",name="web",namespace="apps",phase="Failed"} 1
# HELP towline_target_ready 1 when the last attempt that ended was Ready; it stays while the next one runs.
# TYPE towline_target_ready gauge
towline_target_ready{kind="HelmRelease",name="db",namespace="apps"} 0
towline_target_ready{kind="Kustomization",name="base",namespace="apps"} 1
towline_target_ready{kind="Kustomization",name="web",namespace="apps"} 0
# HELP towline_target_suspended 1 when the target is suspended.
# TYPE towline_target_suspended gauge
towline_target_suspended{kind="HelmRelease",name="db",namespace="apps"} 0
towline_target_suspended{kind="Kustomization",name="base",namespace="apps"} 0
towline_target_suspended{kind="Kustomization",name="web",namespace="apps"} 0
`
		must(t, testutil.GatherAndCompare(fullBoard().metrics.registry, strings.NewReader(want), "towline_config_valid", "towline_source_failures_total",
			"towline_source_ready", "towline_target_last_handled_timestamp_seconds", "towline_target_phase", "towline_target_ready", "towline_target_suspended"))
	})
	t.Run("observes each attempt once, under our name and Flux's", func(t *testing.T) {
		b := emptyBoard()
		again := readyTarget("base")
		b.TargetState(again)
		b.TargetState(again) // told twice: the same attempt
		again.Phase, again.Started = deploy.PhaseBuilding, noon
		b.TargetState(again) // the next one has begun
		must(t, testutil.GatherAndCompare(b.metrics.registry, strings.NewReader(histograms), "towline_reconcile_duration_seconds", "gotk_reconcile_duration_seconds"))
	})
	t.Run("does not count an attempt again after one that came to nothing", func(t *testing.T) {
		b := emptyBoard()
		ended := readyTarget("base")
		ended.Started, ended.Finished = b.started.Add(time.Minute), b.started.Add(2*time.Minute)
		running := deploy.TargetState{Name: ended.Name, Phase: deploy.PhaseWaiting, Started: b.started.Add(3 * time.Minute)}
		suspended := ended
		suspended.Phase, suspended.Suspended = deploy.PhaseSuspended, true
		for _, st := range []deploy.TargetState{ended, running, suspended} {
			b.TargetState(st)
		}
		equal(t, "series of attempts", 1, testutil.CollectAndCount(b.metrics.attempts))
	})
	t.Run("does not count attempts of an earlier process", func(t *testing.T) {
		b := emptyBoard()
		old := readyTarget("base")
		old.Started, old.Finished = b.started.Add(-2*time.Minute), b.started.Add(-time.Minute)
		b.TargetState(old)
		equal(t, "series of attempts", 0, testutil.CollectAndCount(b.metrics.attempts))
	})
	t.Run("counts failures again after a success", func(t *testing.T) {
		b := emptyBoard()
		for _, failures := range []int{1, 2, 0, 1} {
			b.SourceState(deploy.SourceState{Name: source("web"), Failures: failures})
		}
		equal(t, "failures", 3.0, testutil.ToFloat64(b.metrics.sourceFailures))
	})
	t.Run("drops the series of what is gone", func(t *testing.T) {
		b := fullBoard()
		for _, n := range []string{"base", "web"} {
			b.TargetGone(manifests(n))
		}
		b.TargetGone(release("db"))
		b.SourceGone(source("web"))
		b.SourceGone(source("db-chart"))
		got, err := testutil.GatherAndCount(b.metrics.registry, "towline_target_ready", "towline_target_phase", "towline_target_attempts_total",
			"gotk_reconcile_duration_seconds", "towline_source_ready", "towline_source_failures_total")
		must(t, err)
		equal(t, "series that are left", 0, got)
	})
	t.Run("a refused config is not valid", func(t *testing.T) {
		b := fullBoard()
		b.ConfigFailed(errors.New("no"))
		must(t, testutil.GatherAndCompare(b.metrics.registry, strings.NewReader(`
# HELP towline_config_valid 1 when the newest config is the one in force, 0 when it was refused or none was loaded yet.
# TYPE towline_config_valid gauge
towline_config_valid 0
`), "towline_config_valid"))
	})
	t.Run("are served, with those of the process, and are well named", func(t *testing.T) {
		b := fullBoard()
		srv := httptest.NewServer(b.Handler(nil))
		defer srv.Close()
		resp, err := srv.Client().Get(srv.URL + "/metrics")
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		equal(t, "code", http.StatusOK, resp.StatusCode)
		for _, name := range []string{"towline_build_info{goversion=", "go_goroutines ", "process_start_time_seconds ",
			`towline_target_last_good_timestamp_seconds{kind="Kustomization",name="base",namespace="apps"}`} {
			if !strings.Contains(string(body), name) {
				t.Errorf("%s is missing", name)
			}
		}
		problems, err := testutil.GatherAndLint(b.metrics.registry)
		must(t, err)
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	})
}

// histograms of one attempt that took 2 s.
const histograms = `
# HELP gotk_reconcile_duration_seconds How long attempts took per target, under the name that Flux's dashboards know.
# TYPE gotk_reconcile_duration_seconds histogram
gotk_reconcile_duration_seconds_bucket{kind="Kustomization",name="base",namespace="apps",le="0.01"} 0
gotk_reconcile_duration_seconds_bucket{kind="Kustomization",name="base",namespace="apps",le="0.05"} 0
gotk_reconcile_duration_seconds_bucket{kind="Kustomization",name="base",namespace="apps",le="0.1"} 0
gotk_reconcile_duration_seconds_bucket{kind="Kustomization",name="base",namespace="apps",le="0.5"} 0
gotk_reconcile_duration_seconds_bucket{kind="Kustomization",name="base",namespace="apps",le="1"} 0
gotk_reconcile_duration_seconds_bucket{kind="Kustomization",name="base",namespace="apps",le="5"} 1
gotk_reconcile_duration_seconds_bucket{kind="Kustomization",name="base",namespace="apps",le="15"} 1
gotk_reconcile_duration_seconds_bucket{kind="Kustomization",name="base",namespace="apps",le="60"} 1
gotk_reconcile_duration_seconds_bucket{kind="Kustomization",name="base",namespace="apps",le="300"} 1
gotk_reconcile_duration_seconds_bucket{kind="Kustomization",name="base",namespace="apps",le="900"} 1
gotk_reconcile_duration_seconds_bucket{kind="Kustomization",name="base",namespace="apps",le="+Inf"} 1
gotk_reconcile_duration_seconds_sum{kind="Kustomization",name="base",namespace="apps"} 2
gotk_reconcile_duration_seconds_count{kind="Kustomization",name="base",namespace="apps"} 1
# HELP towline_reconcile_duration_seconds How long attempts took, by kind and how they ended.
# TYPE towline_reconcile_duration_seconds histogram
towline_reconcile_duration_seconds_bucket{kind="Kustomization",phase="Ready",le="0.01"} 0
towline_reconcile_duration_seconds_bucket{kind="Kustomization",phase="Ready",le="0.05"} 0
towline_reconcile_duration_seconds_bucket{kind="Kustomization",phase="Ready",le="0.1"} 0
towline_reconcile_duration_seconds_bucket{kind="Kustomization",phase="Ready",le="0.5"} 0
towline_reconcile_duration_seconds_bucket{kind="Kustomization",phase="Ready",le="1"} 0
towline_reconcile_duration_seconds_bucket{kind="Kustomization",phase="Ready",le="5"} 1
towline_reconcile_duration_seconds_bucket{kind="Kustomization",phase="Ready",le="15"} 1
towline_reconcile_duration_seconds_bucket{kind="Kustomization",phase="Ready",le="60"} 1
towline_reconcile_duration_seconds_bucket{kind="Kustomization",phase="Ready",le="300"} 1
towline_reconcile_duration_seconds_bucket{kind="Kustomization",phase="Ready",le="900"} 1
towline_reconcile_duration_seconds_bucket{kind="Kustomization",phase="Ready",le="+Inf"} 1
towline_reconcile_duration_seconds_sum{kind="Kustomization",phase="Ready"} 2
towline_reconcile_duration_seconds_count{kind="Kustomization",phase="Ready"} 1
`

func TestMetricsOfSources(t *testing.T) {
	b := emptyBoard()
	b.SourceState(deploy.SourceState{Name: source("web"), Ready: true, Digest: newDigest})
	b.SourceState(deploy.SourceState{Name: source("refused"), Digest: oldDigest, Cached: true, Failures: 1, Reason: deploy.SourceUnverified, Message: "no"})
	must(t, testutil.GatherAndCompare(b.metrics.registry, strings.NewReader(`
# HELP towline_source_cached 1 while the source's artifact is the one of the disk, and the source itself has not been reached since the start.
# TYPE towline_source_cached gauge
towline_source_cached{name="refused",namespace="apps"} 1
towline_source_cached{name="web",namespace="apps"} 0
# HELP towline_source_failing 1 for the reason why the last poll failed; a source whose last poll went well has no series.
# TYPE towline_source_failing gauge
towline_source_failing{name="refused",namespace="apps",reason="VerificationFailed"} 1
`), "towline_source_cached", "towline_source_failing"))
}

func TestMetricsOfOthers(t *testing.T) {
	dropped, broken := map[string]int{"apps/chat": 0, "kubernetes-events": 2}, error(nil)
	b := New(Options{
		DroppedAlerts: func() map[string]int { return dropped },
		CacheUsage:    func() (int64, int, error) { return 4096, 3, broken },
		Webhooks: func(tell func(deploy.Name, string, int64)) {
			tell(deploy.Name{Kind: deploy.KindSource, Namespace: "apps", Name: "web"}, "accepted", 7)
		},
	})
	others := []string{"towline_alerts_dropped_total", "towline_cache_bytes", "towline_cache_entries", "towline_webhooks_total"}
	t.Run("are what they say when it is scraped", func(t *testing.T) {
		dropped["apps/chat"] = 1
		must(t, testutil.GatherAndCompare(b.metrics.registry, strings.NewReader(`
# HELP towline_alerts_dropped_total Alerts that were lost: the queue was full, or the receiver did not take them in time.
# TYPE towline_alerts_dropped_total counter
towline_alerts_dropped_total{sink="apps/chat"} 1
towline_alerts_dropped_total{sink="kubernetes-events"} 2
# HELP towline_cache_bytes What the cached artifacts take on disk.
# TYPE towline_cache_bytes gauge
towline_cache_bytes 4096
# HELP towline_cache_entries How many artifacts are cached.
# TYPE towline_cache_entries gauge
towline_cache_entries 3
# HELP towline_webhooks_total Webhooks that came to a source's receiver: accepted (it was polled), ignored (they could mean nothing new) or refused.
# TYPE towline_webhooks_total counter
towline_webhooks_total{name="web",namespace="apps",result="accepted"} 7
`), others...))
	})
	t.Run("a cache that cannot be read has no series, and the other ones stay", func(t *testing.T) {
		broken = errors.New("no such folder")
		got, err := testutil.GatherAndCount(b.metrics.registry, others...)
		must(t, err)
		equal(t, "series", 3, got)
	})
}

// metricName is one of ours, or Flux's, at the beginning of a row or within it.
var metricName = regexp.MustCompile("`((?:towline|gotk)_[a-z_]+)`")

func TestGuideListsEveryMetric(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operating.md")
	must(t, err)
	_, section, found := strings.Cut(string(doc), "\n## Metrics\n")
	section, _, more := strings.Cut(section, "\n## ")
	if !found || !more {
		t.Fatal("docs/operating.md has no section Metrics")
	}
	type labels map[string]bool
	want, got := map[string]labels{}, map[string]labels{}
	for row := range strings.SplitSeq(section, "\n") {
		if cells := strings.Split(row, "|"); len(cells) > 3 {
			for _, name := range metricName.FindAllStringSubmatch(cells[1], -1) {
				want[name[1]] = labels{}
				for _, l := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(cells[2], -1) {
					want[name[1]][l[1]] = true
				}
			}
		}
	}
	b := fullBoard()
	b.dropped = func() map[string]int { return map[string]int{"apps/chat": 1} }
	b.cache = func() (int64, int, error) { return 1, 1, nil }
	b.webhooks = func(tell func(deploy.Name, string, int64)) { tell(source("web"), "accepted", 1) }
	b.SourceState(deploy.SourceState{Name: source("refused"), Failures: 1, Reason: deploy.SourceUnverified})
	families, err := b.metrics.registry.Gather()
	must(t, err)
	for _, f := range families {
		if name := f.GetName(); metricName.MatchString("`" + name + "`") {
			got[name] = labels{}
			for _, l := range f.GetMetric()[0].GetLabel() {
				got[name][l.GetName()] = true
			}
		}
	}
	equal(t, "metrics with their labels, in the guide and in truth", want, got)
}
