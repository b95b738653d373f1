package applier_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// many is the size of TestManyObjects; 10000 takes a few minutes.
var many = flag.Int("many", 2500, "objects of the big target")

// TestManyObjects has a target whose inventory needs several ConfigMaps, and drops most of it.
func TestManyObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target.Timeout = 10 * time.Minute
	w.engine.SetShardMax(32 << 10)
	stays := *many / 10
	w.text = w.some("c", *many, "1")
	timed := func(what string, f func()) {
		start := time.Now()
		f()
		t.Logf("%s: %s", what, time.Since(start).Round(10*time.Millisecond))
	}
	shards := func() int {
		l := must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).List(w.t.Context(), metav1.ListOptions{LabelSelector: deploy.LabelState + "=" + deploy.StateInventory}))(w.t)
		return len(l.Items)
	}
	w.step(t, "all are applied and in the inventory, which has several shards", func(t *testing.T) {
		timed("create", func() { w.converge(false) })
		wantEqual(t, "objects", w.count(), *many)
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), *many)
		if n := shards(); n < 5 {
			t.Fatalf("%d shards", n)
		}
	})
	w.step(t, "a new process reads it and has nothing to do", func(t *testing.T) {
		w.restart()
		w.engine.SetShardMax(32 << 10)
		timed("no-op", func() { wantEqual(t, "changes", w.converge(false), []string(nil)) })
		timed("full check", func() { wantEqual(t, "changes", w.converge(true), []string(nil)) })
	})
	w.step(t, "dropping most of it waits for somebody's word", func(t *testing.T) {
		w.text = w.some("c", stays, "1")
		timed("blocked", func() {
			_, err := w.run(t.Context(), false)
			wantFailure(t, err, deploy.ReasonPruneBlocked, true, fmt.Sprintf("%d of %d objects", *many-stays, *many))
		})
		wantEqual(t, "objects", w.count(), *many)
	})
	w.step(t, "and with it prunes exactly the rest", func(t *testing.T) {
		w.spec(func(s *deploy.KustomizationSpec) { s.AllowMassPrune = w.work(false).Revision.Digest })
		timed("prune", func() { w.converge(false) })
		wantEqual(t, "objects", w.count(), stays)
		wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), stays)
	})
}
