package drift

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

func TestOthers(t *testing.T) {
	t.Parallel()
	wrote := func(managers ...string) Sight {
		m := &metav1.PartialObjectMetadata{}
		for _, name := range managers {
			m.ManagedFields = append(m.ManagedFields, metav1.ManagedFieldsEntry{Manager: name})
		}
		return Sight{Metadata: m}
	}
	for want, s := range map[string]Sight{
		`"hpa" and "kubectl"`: wrote("hpa", deploy.FieldManager, "kubectl", "hpa"), "others": wrote(deploy.FieldManager), "those who delete it": {},
	} {
		if got := others(s); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// heard is a News that keeps the contests.
type heard struct{ contests []int }

func (*heard) Drifted(deploy.Name, []deploy.ObjectID) {}

func (h *heard) Contested(_ deploy.Name, list []deploy.Contest) {
	h.contests = append(h.contests, len(list))
}

func TestContestsEndWithTheirTarget(t *testing.T) {
	t.Parallel()
	spec := deploy.Target{Name: deploy.Name{Kind: deploy.KindHelmRelease, Namespace: "ns", Name: "web"}}
	clients := &kube.Clients{}
	for name, end := range map[string]func(*Watcher){
		"it leaves the config":          func(w *Watcher) { w.Set(nil) },
		"it has nothing in the cluster": func(w *Watcher) { w.End(spec, Holding{}) },
		"its objects are left in peace": func(w *Watcher) { w.now = func() time.Time { return time.Now().Add(time.Hour) }; w.remind() },
	} {
		news := &heard{}
		w := New(nil, news, zap.NewNop())
		w.Set([]deploy.Target{spec})
		w.End(spec, Holding{clients, deploy.ObjectKinds{configMaps: {"ns"}}})
		for range boutCount {
			w.see(clients, spec.Name.LabelValue(), Sight{Object: deploy.ObjectID{Kind: "ConfigMap", Namespace: "ns", Name: "a"}})
		}
		end(w)
		if d := cmp.Diff([]int{1, 0}, news.contests); d != "" {
			t.Errorf("%s: numbers of contests (-want +got):\n%s", name, d)
		}
	}
}

func TestBout(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	type step struct {
		at           time.Duration // since the start
		tell, paused bool
		pause        time.Duration
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"is told at once while it is rare", []step{
			{0, true, false, 0}, {time.Minute, true, false, 0}, {2 * time.Minute, true, false, 0}, {3 * time.Minute, true, false, 0}, {4 * time.Minute, true, false, 0},
			{5 * time.Minute, true, false, 0}, {6 * time.Minute, true, false, 0},
		}},
		{"is left for later when it is frequent", []step{
			{0, true, false, 0}, {time.Second, true, false, 0}, {2 * time.Second, true, false, 0}, {3 * time.Second, true, false, 0},
			{4 * time.Second, true, true, time.Minute}, {5 * time.Second, false, false, time.Minute}, {63 * time.Second, false, false, time.Minute},
			{65 * time.Second, true, true, 2 * time.Minute}, {184 * time.Second, false, false, 2 * time.Minute}, {186 * time.Second, true, true, 4 * time.Minute},
		}},
		{"is rare again after a calm", []step{
			{0, true, false, 0}, {0, true, false, 0}, {0, true, false, 0}, {0, true, false, 0}, {0, true, true, time.Minute},
			{4 * time.Minute, true, false, 0}, {4*time.Minute + time.Second, true, false, 0},
		}},
	} {
		b := &bout{}
		for i, s := range c.steps {
			tell, paused := b.strike(start.Add(s.at))
			if tell != s.tell || paused != s.paused || b.pause != s.pause {
				t.Errorf("%s: step %d: told %t, paused %t for %s; want %t, %t, %s", c.name, i, tell, paused, b.pause, s.tell, s.paused, s.pause)
			}
		}
	}
	t.Run("has pauses that end", func(t *testing.T) {
		b, now := &bout{}, start
		for range 100 {
			b.strike(now)
			now = now.Add(max(b.pause, time.Second))
		}
		if b.pause != mostBout {
			t.Errorf("after long: %s, want %s", b.pause, mostBout)
		}
		if b.over(now) {
			t.Error("forgotten at once")
		}
		if !b.over(now.Add(2 * mostBout)) {
			t.Error("never forgotten")
		}
	})
}
