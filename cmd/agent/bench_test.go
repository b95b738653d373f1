package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/status"
	"github.com/towline/towline/internal/testenv"
)

// BenchmarkAgent is the whole agent, as it is shipped, with 100 targets of 4 objects from one artifact: how long until all are Ready after a cold start and after a
// push, and what it holds in memory meanwhile.
func BenchmarkAgent(b *testing.B) {
	const targets = 100
	agent := shipped(b)
	size, err := os.Stat(agent)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f := startFleet(b, agent, targets, 0)
		b.ReportMetric(f.await("1").Seconds(), "s/install")
		began := time.Now()
		f.push("2")
		b.ReportMetric(f.await("2").Seconds(), "s/change")
		b.Logf("the push was seen and rolled out within %s", time.Since(began).Round(time.Millisecond))
		b.ReportMetric(f.memory("VmHWM"), "MiB-peak")
		b.ReportMetric(f.memory("VmRSS"), "MiB-settled")
		f.stop()
	}
	b.ReportMetric(float64(size.Size())/1e6, "MB-binary")
}

// shipped builds the agent as it is shipped.
func shipped(b *testing.B) string {
	b.Helper()
	agent := filepath.Join(b.TempDir(), "towline")
	flags, err := os.ReadFile("gcflags")
	if err != nil {
		b.Fatal(err)
	}
	build := exec.CommandContext(b.Context(), "go", slices.Concat([]string{"build", "-trimpath"}, strings.Fields(string(flags)), []string{"-ldflags", "-s -w", "-o", agent, "."})...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build the agent: %v\n%s", err, out)
	}
	return agent
}

// fleet is a running agent with many targets.
type fleet struct {
	b        *testing.B
	targets  int
	releases int
	ns       string
	registry *testenv.Registry
	client   *status.Client
	agent    *exec.Cmd
	began    time.Time // of what is awaited
	digest   string
}

func startFleet(b *testing.B, binary string, targets, releases int) *fleet {
	b.Helper()
	cluster := testenv.Cluster(b)
	f := &fleet{b: b, targets: targets, releases: releases, ns: cluster.Namespace(b), registry: testenv.NewRegistry(b)}
	f.push("1")
	run, err := os.MkdirTemp("", "tl-") // a socket's path must be short
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(run) })
	var config strings.Builder
	fmt.Fprintf(&config, "namespace: %s\nsources:\n  - {name: apps, url: %q, insecure: true, interval: 1s, ref: {tag: latest}}\nkustomizations:\n", f.ns, f.registry.URL("apps"))
	for n := range targets {
		fmt.Fprintf(&config, "  - {name: app%d, sourceRef: apps, path: app%d, interval: 1h, prune: true}\n", n, n)
	}
	f.withReleases(&config)
	path := filepath.Join(run, "config.yaml")
	if err := os.WriteFile(path, []byte(config.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	socket := filepath.Join(run, "s")
	if f.client, err = status.NewClient(socket); err != nil {
		b.Fatal(err)
	}
	f.agent = exec.Command(binary, "run", "--config", path, "--kubeconfig", cluster.Kubeconfig, "--cache-dir", filepath.Join(run, "cache"), "--socket", socket, "--listen", "", "--log-level", "error")
	f.agent.Stderr = os.Stderr
	f.began = time.Now()
	if err := f.agent.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(f.stop)
	return f
}

// push makes every target's objects another value.
func (f *fleet) push(value string) {
	files := map[string]string{}
	for n := range f.targets {
		files[fmt.Sprintf("app%d/all.yaml", n)] = fleetApp(f.ns, n, value)
	}
	f.began = time.Now()
	f.digest = f.registry.PushFiles("apps", "latest", files, nil)
}

// await returns how long it took until all targets were Ready at what was pushed last.
func (f *fleet) await(value string) time.Duration {
	f.b.Helper()
	const limit = 3 * time.Minute
	why := ""
	for time.Since(f.began) < limit {
		ctx, cancel := context.WithTimeout(f.b.Context(), time.Second)
		s, err := f.client.Status(ctx)
		cancel()
		ready := 0
		for _, t := range s.Targets {
			if t.Phase == deploy.PhaseReady && (t.Name.Kind == deploy.KindHelmRelease || strings.HasSuffix(t.Revision, f.digest)) {
				ready++
			}
		}
		if ready == f.targets+f.releases {
			return time.Since(f.began)
		}
		why = fmt.Sprintf("%d of %d targets, last error: %v", ready, f.targets, err)
		time.Sleep(20 * time.Millisecond) // a benchmark's own clock: asking without a pause would be load
	}
	f.b.Fatalf("value %s: not Ready within %s: %s", value, limit, why)
	return 0
}

// memory is a field of the agent's /proc status in MiB.
func (f *fleet) memory(field string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.agent.Process.Pid))
	if err != nil {
		return 0 // not Linux
	}
	for line := range strings.Lines(string(text)) {
		if w := strings.Fields(line); len(w) > 1 && w[0] == field+":" {
			kib, _ := strconv.ParseFloat(w[1], 64)
			return kib / 1024
		}
	}
	return 0
}

func (f *fleet) stop() {
	if f.agent.ProcessState == nil {
		_ = f.agent.Process.Kill()
		_ = f.agent.Wait()
	}
}

// fleetApp is a target of four objects. Its Deployment has no replicas, so that controllers do not compete for the processor.
func fleetApp(ns string, n int, value string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: app%[2]d, namespace: %[1]s}
data: {v: %[3]q}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: app%[2]d, namespace: %[1]s, annotations: {v: %[3]q}}
---
apiVersion: v1
kind: Service
metadata: {name: app%[2]d, namespace: %[1]s, annotations: {v: %[3]q}}
spec: {selector: {app: app%[2]d}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app%[2]d, namespace: %[1]s, annotations: {v: %[3]q}}
spec:
  replicas: 0
  selector: {matchLabels: {app: app%[2]d}}
  template: {metadata: {labels: {app: app%[2]d}}, spec: {containers: [{name: c, image: example.org/x:1}]}}
`, ns, n, value)
}
