package applier_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/applier"
	"github.com/towline/towline/internal/deploy"
)

// atOnce is how many requests both sides have under way.
const atOnce = 16

// smallApp is a target of four objects. Its Deployment has no replicas, so that controllers do not compete for the processor.
func smallApp(ns string, n int, value string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: app%[2]d, namespace: %[1]s}
data: {v: %[3]q}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: app%[2]d, namespace: %[1]s}
---
apiVersion: v1
kind: Service
metadata: {name: app%[2]d, namespace: %[1]s}
spec: {selector: {app: app%[2]d}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app%[2]d, namespace: %[1]s, annotations: {v: %[3]q}}
spec:
  replicas: 0
  selector: {matchLabels: {app: app%[2]d}}
  template: {metadata: {labels: {app: app%[2]d}}, spec: {containers: [{name: c, image: example.org/x:1}]}}
---
`, ns, n, value)
}

// plain applies objects as a script would: server-side apply, so many at once, nothing else.
func (w *world) plain(b *testing.B, text string) time.Duration {
	us := must(parse(text))(b)
	start := time.Now()
	work := make(chan *unstructured.Unstructured)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for u := range work {
				gvk := u.GroupVersionKind()
				m, err := w.kube.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
				if err != nil {
					b.Error(err)
					return
				}
				body, err := json.Marshal(u)
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := w.kube.Dynamic.Resource(m.Resource).Namespace(u.GetNamespace()).Patch(b.Context(), u.GetName(), types.ApplyPatchType, body,
					metav1.PatchOptions{FieldManager: "plain", Force: new(true)}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for _, u := range us {
		work <- u
	}
	close(work)
	wg.Wait()
	return time.Since(start)
}

// perTarget is a Builder that has the objects of each target ready: rendering is not what is compared.
type perTarget map[deploy.Name][]*unstructured.Unstructured

func (p perTarget) Build(_ context.Context, t deploy.Target, _ string) ([]*unstructured.Unstructured, error) {
	return p[t.Name], nil
}

// fleet runs every target, so many at once.
func fleet(b *testing.B, e *applier.Engine, works []deploy.Work) time.Duration {
	start := time.Now()
	todo := make(chan deploy.Work)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for work := range todo {
				p, err := e.Plan(b.Context(), work)
				if err == nil && !p.Empty() {
					_, err = e.Apply(b.Context(), work, p, nil)
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	for _, work := range works {
		todo <- work
	}
	close(todo)
	wg.Wait()
	return time.Since(start)
}

// BenchmarkTargets compares many small targets with a plain apply of the same objects: first installed, then changed, then unchanged.
func BenchmarkTargets(b *testing.B) {
	const targets = 100
	round := &rounds{best: map[string][2]time.Duration{}}
	for b.Loop() {
		round.n++
		p, w := newWorld(b), newWorld(b)
		must(p.kube.Mapper.RESTMapping(schema.GroupKind{Kind: "ConfigMap"}))(b) // discovery is nobody's cost here
		built := perTarget{}
		works := func(v string) (plain string, ours []deploy.Work) {
			for n := range targets {
				t := w.target
				t.Name.Name = fmt.Sprintf("app%d", n)
				built[t.Name] = must(parse(smallApp(w.ns, n, v)))(b)
				plain += smallApp(p.ns, n, v)
				ours = append(ours, deploy.Work{Target: t, Revision: deploy.Revision{Digest: "sha256:" + v}})
			}
			return plain, ours
		}
		e := applier.New(applier.Options{Clients: w.clients, Builder: built, Namespace: w.ns, Workers: atOnce})
		for _, stage := range []struct{ name, value string }{{"install", "1"}, {"change", "2"}, {"unchanged", "2"}} {
			text, ours := works(stage.value)
			round.compare(stage.name, func() time.Duration { return p.plain(b, text) }, func() time.Duration { return fleet(b, e, ours) })
		}
	}
	round.report(b, targets*4)
}

// BenchmarkLargeTarget does the same with one target of three thousand objects, and says what it holds in memory.
func BenchmarkLargeTarget(b *testing.B) {
	const objects = 3000
	round := &rounds{best: map[string][2]time.Duration{}}
	for b.Loop() {
		round.n++
		p, w := newWorld(b), newWorld(b)
		w.target.Timeout = 5 * time.Minute
		for _, stage := range []struct{ name, value string }{{"install", "1"}, {"change", "2"}, {"unchanged", "2"}} {
			var plain, ours strings.Builder
			for n := range objects / 4 {
				plain.WriteString(smallApp(p.ns, n, stage.value))
				ours.WriteString(smallApp(w.ns, n, stage.value))
			}
			w.text = ours.String()
			work := w.work(false)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			round.compare(stage.name, func() time.Duration { return p.plain(b, plain.String()) }, func() time.Duration { return fleet(b, w.engine, []deploy.Work{work}) })
			runtime.GC()
			runtime.ReadMemStats(&after)
			if stage.name == "install" {
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/objects, "B/object")
			}
		}
	}
	round.report(b, objects)
}

// rounds keeps the best time of each side.
type rounds struct {
	n    int
	best map[string][2]time.Duration
}

// compare takes turns in who is first: the controllers still work on what the first one made while the second is measured.
func (r *rounds) compare(stage string, plain, ours func() time.Duration) {
	var pair [2]time.Duration
	if r.n%2 == 0 {
		pair[0] = plain()
		pair[1] = ours()
	} else {
		pair[1] = ours()
		pair[0] = plain()
	}
	if best, ok := r.best[stage]; ok {
		pair = [2]time.Duration{min(pair[0], best[0]), min(pair[1], best[1])}
	}
	r.best[stage] = pair
}

func (r *rounds) report(b *testing.B, objects int) {
	b.Helper()
	for stage, pair := range r.best {
		b.ReportMetric(float64(pair[1])/float64(pair[0]), stage+"-ratio")
		b.Logf("%-9s %d objects: plain %s, ours %s", stage, objects, pair[0].Round(time.Millisecond), pair[1].Round(time.Millisecond))
	}
}
