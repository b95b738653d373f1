package status

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/towline/towline/internal/deploy"
)

// reconcileBuckets are in seconds: an unchanged target takes milliseconds, a Helm upgrade that waits for health takes minutes.
var reconcileBuckets = []float64{0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900}

// perTarget are the labels that Flux's dashboards select by, so ours and the compatible ones share them. kind is Flux's kind.
var perTarget = []string{"kind", "namespace", "name"}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("towline_"+name, help, labels, nil)
}

// What is read off the board when it is scraped: what is not on it has no series.
var (
	descBuild        = desc("build_info", "1; the labels say what runs.", "version", "goversion")
	descReady        = desc("ready", "1 when all gates of /readyz are open.")
	descConfigValid  = desc("config_valid", "1 when the newest config is the one in force, 0 when it was refused or none was loaded yet.")
	descConfigLoaded = desc("config_last_loaded_timestamp_seconds", "When the config in force was loaded.")

	descSourceReady     = desc("source_ready", "1 when the source has a checked artifact and its last poll went well.", "namespace", "name")
	descSourceSuspended = desc("source_suspended", "1 when the source is suspended.", "namespace", "name")
	descSourceCached    = desc("source_cached", "1 while the source's artifact is the one of the disk, and the source itself has not been reached since the start.", "namespace", "name")
	descSourceFailing   = desc("source_failing", "1 for the reason why the last poll failed; a source whose last poll went well has no series.", "namespace", "name", "reason")
	descSourcePolled    = desc("source_last_poll_timestamp_seconds", "When the source was last polled.", "namespace", "name")

	descTargetReady     = desc("target_ready", "1 when the last attempt that ended was Ready; it stays while the next one runs.", perTarget...)
	descTargetPhase     = desc("target_phase", "1 for the phase that the target is in; other phases have no series.", "kind", "namespace", "name", "phase")
	descTargetSuspended = desc("target_suspended", "1 when the target is suspended.", perTarget...)
	descTargetFailures  = desc("target_failures", "Failed attempts in a row.", perTarget...)
	descTargetHandled   = desc("target_last_handled_timestamp_seconds", "When the last attempt ended, well or not.", perTarget...)
	descTargetGood      = desc("target_last_good_timestamp_seconds", "When the target was last Ready with something new.", perTarget...)
)

// What others know: where nobody was asked, or knows, there is no series.
var (
	descAlertsDropped = desc("alerts_dropped_total", "Alerts that were lost: the queue was full, or the receiver did not take them in time.", "sink")
	descWebhooks      = desc("webhooks_total", "Webhooks that came to a source's receiver: accepted (it was polled), ignored (they could mean nothing new) or refused.", "namespace", "name", "result")
	descCacheBytes    = desc("cache_bytes", "What the cached artifacts take on disk.")
	descCacheEntries  = desc("cache_entries", "How many artifacts are cached.")
)

// descs are all that is read when it is scraped.
var descs = []*prometheus.Desc{
	descBuild, descReady, descConfigValid, descConfigLoaded, descSourceReady, descSourceSuspended, descSourceCached, descSourceFailing, descSourcePolled,
	descTargetReady, descTargetPhase, descTargetSuspended, descTargetFailures, descTargetHandled, descTargetGood,
	descAlertsDropped, descWebhooks, descCacheBytes, descCacheEntries,
}

// metrics turns the board into metrics: gauges are read off it, counters and histograms are kept as states arrive.
type metrics struct {
	board    *Board
	registry *prometheus.Registry

	sourceFailures *prometheus.CounterVec
	attempts       *prometheus.CounterVec
	durations      *prometheus.HistogramVec
	fluxDurations  *prometheus.HistogramVec
}

func newMetrics(b *Board) *metrics {
	m := &metrics{
		board:    b,
		registry: prometheus.NewRegistry(),
		sourceFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_source_failures_total", Help: "Polls that failed.",
		}, []string{"namespace", "name"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_target_attempts_total", Help: "Attempts that ended, by how.",
		}, []string{"kind", "namespace", "name", "phase"}),
		// Per kind only: a histogram per target is a dozen series each, which the compatible one already costs.
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "towline_reconcile_duration_seconds", Help: "How long attempts took, by kind and how they ended.", Buckets: reconcileBuckets,
		}, []string{"kind", "phase"}),
		fluxDurations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gotk_reconcile_duration_seconds", Help: "How long attempts took per target, under the name that Flux's dashboards know.", Buckets: reconcileBuckets,
		}, perTarget),
	}
	m.registry.MustRegister(m, m.sourceFailures, m.attempts, m.durations, m.fluxDurations,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// source counts the failures that a new state adds. A count lower than before began again at 0.
func (m *metrics) source(old, s deploy.SourceState) {
	c := m.sourceFailures.WithLabelValues(s.Name.Namespace, s.Name.Name)
	if s.Failures >= old.Failures {
		c.Add(float64(s.Failures - old.Failures))
	} else {
		c.Add(float64(s.Failures))
	}
}

func (m *metrics) sourceGone(n deploy.Name) { m.sourceFailures.DeleteLabelValues(n.Namespace, n.Name) }

// target observes an attempt that ended after the one before, which finished at last. Attempts of an earlier process, known from its records, are not counted again.
func (m *metrics) target(started, last time.Time, t deploy.TargetState) {
	if running(t.Phase) || t.Started.IsZero() || !t.Finished.After(last) || !t.Finished.After(started) {
		return
	}
	kind, phase, took := string(t.Name.Kind), string(t.Phase), t.Finished.Sub(t.Started).Seconds()
	m.attempts.WithLabelValues(kind, t.Name.Namespace, t.Name.Name, phase).Inc()
	m.durations.WithLabelValues(kind, phase).Observe(took)
	m.fluxDurations.WithLabelValues(kind, t.Name.Namespace, t.Name.Name).Observe(took)
}

func (m *metrics) targetGone(n deploy.Name) {
	labels := prometheus.Labels{"kind": string(n.Kind), "namespace": n.Namespace, "name": n.Name}
	m.attempts.DeletePartialMatch(labels)
	m.fluxDurations.Delete(labels)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector: it reads a snapshot, so that a slow scraper holds nothing up.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	stamp := func(d *prometheus.Desc, at time.Time, labels ...string) {
		if !at.IsZero() {
			gauge(d, float64(at.UnixMilli())/1000, labels...)
		}
	}
	m.board.mu.Lock()
	head := m.board.head()
	sources := make([]deploy.SourceState, 0, len(m.board.sources))
	for _, e := range m.board.sources {
		sources = append(sources, e.state)
	}
	targets := make([]targetEntry, 0, len(m.board.targets))
	for _, e := range m.board.targets {
		targets = append(targets, e)
	}
	m.board.mu.Unlock()

	gauge(descBuild, 1, head.Version, runtime.Version())
	gauge(descReady, number(head.Ready))
	gauge(descConfigValid, number(head.Config.Hash != "" && head.Config.Error == ""))
	stamp(descConfigLoaded, head.Config.LoadedAt)
	for _, s := range sources {
		labels := []string{s.Name.Namespace, s.Name.Name}
		gauge(descSourceReady, number(s.Ready), labels...)
		gauge(descSourceSuspended, number(s.Suspended), labels...)
		gauge(descSourceCached, number(s.Cached), labels...)
		if s.Reason != "" && s.Failures > 0 {
			gauge(descSourceFailing, 1, append(labels[:2:2], s.Reason)...)
		}
		stamp(descSourcePolled, s.LastPoll, labels...)
	}
	for _, e := range targets {
		t := e.state
		labels := []string{string(t.Name.Kind), t.Name.Namespace, t.Name.Name}
		gauge(descTargetReady, number(e.ready), labels...)
		gauge(descTargetPhase, 1, append(labels[:3:3], string(t.Phase))...)
		gauge(descTargetSuspended, number(t.Suspended), labels...)
		gauge(descTargetFailures, float64(t.Failures), labels...)
		stamp(descTargetHandled, t.Finished, labels...)
		if t.LastGood != nil {
			stamp(descTargetGood, t.LastGood.At, labels...)
		}
	}
	m.collectOthers(ch)
}

// collectOthers asks those who know what is not on the board. A cache that cannot be read has no series; those who need it say what is wrong with it.
func (m *metrics) collectOthers(ch chan<- prometheus.Metric) {
	if m.board.dropped != nil {
		for sink, n := range m.board.dropped() {
			ch <- prometheus.MustNewConstMetric(descAlertsDropped, prometheus.CounterValue, float64(n), sink)
		}
	}
	if m.board.webhooks != nil {
		m.board.webhooks(func(source deploy.Name, result string, n int64) {
			ch <- prometheus.MustNewConstMetric(descWebhooks, prometheus.CounterValue, float64(n), source.Namespace, source.Name, result)
		})
	}
	if m.board.cache == nil {
		return
	}
	if bytes, entries, err := m.board.cache(); err == nil {
		ch <- prometheus.MustNewConstMetric(descCacheBytes, prometheus.GaugeValue, float64(bytes))
		ch <- prometheus.MustNewConstMetric(descCacheEntries, prometheus.GaugeValue, float64(entries))
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
