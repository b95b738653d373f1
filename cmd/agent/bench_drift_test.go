package main_test

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/towline/towline/internal/testenv"
)

// settledFor is how long the fleet is counted while nothing happens.
const settledFor = 3 * time.Minute

// BenchmarkDrift is the whole agent with 100 targets of manifests and 100 releases, all settled: what it does while nothing happens, and how long it takes from the event that a Deployment
// was deleted or edited until it is as it was, for 20 deleted and 20 edited at once.
func BenchmarkDrift(b *testing.B) {
	const each = 100
	agent := shipped(b)
	for b.Loop() {
		measureDrift(b, agent, each)
	}
}

func measureDrift(b *testing.B, agent string, each int) {
	b.Helper()
	f := startFleet(b, agent, each, each)
	defer f.stop()
	b.Logf("all were Ready after %s", f.await("1").Round(time.Millisecond))
	f.quiesce()
	cpu, since := f.cpu(), time.Now()
	time.Sleep(settledFor) // the claim is about a stretch of time: nothing to await
	reads, watches := 0, 0
	for _, r := range testenv.Cluster(b).Requests(b, "towline/") {
		switch {
		case r.At.Before(since):
		case strings.Contains(r.URI, "watch="):
			watches++
		default:
			reads++
			b.Logf("while all was settled: %s %s", r.Verb, r.URI)
		}
	}
	b.ReportMetric(f.cpu()-cpu, "s-cpu-settled")
	b.ReportMetric(float64(reads), "requests-settled")
	b.ReportMetric(float64(watches), "watches-renewed")
	since = time.Now()
	took := f.meddle(10)
	requests := map[string]int{}
	for _, r := range testenv.Cluster(b).Requests(b, "towline/") {
		if kind := r.URI[strings.LastIndex(path.Dir(r.URI), "/")+1:]; r.At.After(since) && !strings.Contains(r.URI, "watch=") {
			requests[r.Verb+" "+strings.Split(strings.Split(kind, "/")[0], "?")[0]]++
		}
	}
	b.Logf("requests of 40 repairs, 20 of manifests and 20 of releases: %v", requests)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-max")
	b.ReportMetric(f.memory("VmRSS"), "MiB-settled")
}

// quiesce returns when the agent has not asked the API server for anything for ten seconds: first looks at releases, new watches and events come after the last attempt.
func (f *fleet) quiesce() {
	f.b.Helper()
	const calm = 10 * time.Second
	for limit := time.Now().Add(2 * time.Minute); time.Now().Before(limit); time.Sleep(time.Second) {
		all := testenv.Cluster(f.b).Requests(f.b, "towline/")
		if !slices.ContainsFunc(all, func(r testenv.APIRequest) bool { return time.Since(r.At) < calm }) {
			return
		}
	}
	f.b.Fatal("it is never quiet")
}

// withReleases adds releases of one chart to a config.
func (f *fleet) withReleases(config *strings.Builder) {
	if f.releases == 0 {
		return
	}
	f.registry.PushChart("chart", "1.0.0", testenv.Chart("chart", "1.0.0", map[string]string{"templates/all.yaml": fleetChart}))
	text := config.String()
	config.Reset()
	config.WriteString(strings.Replace(text, "kustomizations:\n", fmt.Sprintf(
		"  - {name: chart, url: %q, insecure: true, interval: 1h, ref: {tag: 1.0.0}, layerSelector: {mediaType: application/vnd.cncf.helm.chart.content.v1.tar+gzip, operation: copy}}\nkustomizations:\n",
		f.registry.URL("chart")), 1))
	config.WriteString("helmReleases:\n")
	for n := range f.releases {
		fmt.Fprintf(config, "  - {name: rel%d, chartRef: chart, interval: 1h, driftDetection: {mode: enabled}}\n", n)
	}
}

const fleetChart = `apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
data: {v: "1"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}, annotations: {v: "1"}}
spec:
  replicas: 0
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template: {metadata: {labels: {app: {{ .Release.Name }}}}, spec: {containers: [{name: c, image: example.org/x:1}]}}
`

// cpu is the time that the agent has used, in seconds: the fields utime and stime of proc_pid_stat(5), in ticks of 10 ms.
func (f *fleet) cpu() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", f.agent.Process.Pid))
	if err != nil {
		return 0 // not Linux
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	ticks := 0
	for _, i := range []int{11, 12} {
		n, _ := strconv.Atoi(fields[i])
		ticks += n
	}
	return float64(ticks) / 100
}

// meddle deletes n Deployments of manifests and n of releases, and edits as many others, all at once. It returns how long each was not as it should be, sorted.
func (f *fleet) meddle(n int) []time.Duration {
	f.b.Helper()
	cfg := rest.CopyConfig(testenv.Cluster(f.b).Config)
	cfg.QPS = -1
	client := kubernetes.NewForConfigOrDie(cfg).AppsV1().Deployments(f.ns)
	list, err := client.List(f.b.Context(), metav1.ListOptions{})
	if err != nil {
		f.b.Fatal(err)
	}
	w, err := client.Watch(f.b.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		f.b.Fatal(err)
	}
	defer w.Stop()
	var hands sync.WaitGroup
	for i := range n {
		for _, kind := range []string{"app", "rel"} {
			hands.Go(func() {
				if err := client.Delete(f.b.Context(), kind+strconv.Itoa(i), metav1.DeleteOptions{}); err != nil {
					f.b.Error(err)
				}
			})
			hands.Go(func() {
				_, err := client.Patch(f.b.Context(), kind+strconv.Itoa(n+i), types.MergePatchType, []byte(`{"metadata":{"annotations":{"v":"meddled"}}}`), metav1.PatchOptions{FieldManager: "meddler"})
				if err != nil {
					f.b.Error(err)
				}
			})
		}
	}
	wrong := map[string]time.Time{}
	var took []time.Duration
	limit := time.After(time.Minute)
	for len(took) < 4*n {
		select {
		case e := <-w.ResultChan():
			d, ok := e.Object.(*appsv1.Deployment)
			if !ok {
				f.b.Fatalf("watch: %v", e)
			}
			began, isWrong := wrong[d.Name]
			good := e.Type != watch.Deleted && d.Annotations["v"] == "1"
			if !good && !isWrong {
				wrong[d.Name] = time.Now()
			}
			if good && isWrong {
				took = append(took, time.Since(began))
				delete(wrong, d.Name)
			}
		case <-limit:
			f.b.Fatalf("%d of %d were put right within a minute", len(took), 4*n)
		}
	}
	hands.Wait()
	slices.Sort(took)
	return took
}
