package record_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/record"
	"github.com/towline/towline/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// store makes a store in a namespace of its own, whose requests bear the test's name.
func store(t *testing.T) (s *record.Store, again func() *record.Store, clients *kube.Clients, namespace string) {
	t.Helper()
	cluster := testenv.Cluster(t)
	namespace = cluster.Namespace(t)
	cfg := rest.CopyConfig(cluster.Config)
	cfg.UserAgent = agent(t)
	clients, err := kube.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	again = func() *record.Store { return record.New(clients, namespace) }
	return again(), again, clients, namespace
}

func agent(t *testing.T) string {
	return "record-test/" + strings.NewReplacer("/", "-").Replace(t.Name())
}

func name(n string) deploy.Name {
	return deploy.Name{Kind: deploy.KindHelmRelease, Namespace: "apps", Name: n}
}

func sample(n string) deploy.Record {
	at := time.Date(2030, 1, 2, 3, 4, 5, 678_000_001, time.UTC)
	return deploy.Record{
		Target: deploy.Target{
			Name: name(n), Source: deploy.Name{Kind: deploy.KindSource, Namespace: "apps", Name: "s"}, DependsOn: []deploy.Name{name("other")},
			Interval: time.Minute, Timeout: time.Second, Hash: "h",
			HelmRelease: &deploy.HelmReleaseSpec{ChartRef: deploy.SourceRef{Name: "s"}, ReleaseName: "r", Timeout: &metav1.Duration{Duration: time.Second}},
		},
		Intent:   "sha256:2",
		LastGood: &deploy.Good{Digest: "sha256:1", Revision: "v1@sha256:1", Hash: "h", At: at},
		History:  []deploy.Past{{Revision: "v1@sha256:1", Phase: deploy.PhaseReady, Changes: 3, At: at, Took: 1.5}},
	}
}

func load(t *testing.T, s *record.Store) []deploy.Record {
	t.Helper()
	records, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(records, func(a, b deploy.Record) int { return a.Target.Name.Compare(b.Target.Name) })
	return records
}

func save(t *testing.T, s *record.Store, rec deploy.Record) {
	t.Helper()
	if err := s.Save(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
}

func TestStoreRemembers(t *testing.T) {
	s, again, clients, namespace := store(t)
	want := sample("a")
	save(t, s, want)
	t.Run("all of a record, for the next process", func(t *testing.T) {
		if d := cmp.Diff([]deploy.Record{want}, load(t, again())); d != "" {
			t.Error(d)
		}
	})
	t.Run("under the label of records", func(t *testing.T) {
		list, err := clients.Kubernetes.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "towline.dev/state=record"})
		if err != nil || len(list.Items) != 1 || list.Items[0].Name != "towline-record.helmrelease.apps.a" {
			t.Errorf("got %v, %v", list, err)
		}
	})
	t.Run("until it is told to forget, twice if need be", func(t *testing.T) {
		for range 2 {
			if err := s.Forget(t.Context(), name("a")); err != nil {
				t.Fatal(err)
			}
		}
		if got := load(t, again()); len(got) != 0 {
			t.Errorf("still there: %v", got)
		}
	})
	t.Run("what is saved after it was forgotten", func(t *testing.T) {
		save(t, s, want)
		if got := load(t, again()); len(got) != 1 {
			t.Errorf("got %v", got)
		}
	})
}

func TestStoreWritesOnlyChanges(t *testing.T) {
	s, again, _, namespace := store(t)
	rec := sample("a")
	writes := func() int {
		n := 0
		for _, r := range testenv.Cluster(t).Requests(t, agent(t)) {
			if r.Write() && strings.Contains(r.URI, namespace) {
				n++
			}
		}
		return n
	}
	awaitWrites := func(t *testing.T, want int) {
		t.Helper()
		testenv.Await(t, 10*time.Second, "the writes in the audit log", func() error {
			if got := writes(); got != want {
				return fmt.Errorf("%d writes, want %d", got, want)
			}
			return nil
		})
	}
	save(t, s, rec)
	save(t, s, rec)
	next := again()
	load(t, next)
	save(t, next, rec) // as after a restart
	rec.Intent = ""
	save(t, next, rec) // the only change: one update, and no read before it
	awaitWrites(t, 2)
	for _, r := range testenv.Cluster(t).Requests(t, agent(t)) {
		if r.Verb == "get" && strings.Contains(r.URI, namespace) {
			t.Errorf("an unneeded read: %s", r.URI)
		}
	}
}

func TestStoreAdopts(t *testing.T) {
	t.Run("a record that another process wrote", func(t *testing.T) {
		s, again, _, _ := store(t)
		save(t, s, sample("a"))
		rec := sample("a")
		rec.Intent = "sha256:3"
		save(t, again(), rec) // knows nothing of the first: it did not load
		if d := cmp.Diff([]deploy.Record{rec}, load(t, again())); d != "" {
			t.Error(d)
		}
	})
	t.Run("a record that was changed behind its back", func(t *testing.T) {
		s, again, _, _ := store(t)
		save(t, s, sample("a"))
		other := sample("a")
		other.Intent = "sha256:other"
		save(t, again(), other)
		rec := sample("a")
		rec.Intent = "sha256:3"
		save(t, s, rec)
		if d := cmp.Diff([]deploy.Record{rec}, load(t, again())); d != "" {
			t.Error(d)
		}
	})
	t.Run("the loss of a record", func(t *testing.T) {
		s, again, _, _ := store(t)
		save(t, s, sample("a"))
		if err := again().Forget(t.Context(), name("a")); err != nil {
			t.Fatal(err)
		}
		rec := sample("a")
		rec.Intent = "sha256:3"
		save(t, s, rec)
		if d := cmp.Diff([]deploy.Record{rec}, load(t, again())); d != "" {
			t.Error(d)
		}
	})
	t.Run("nothing that is not a record", func(t *testing.T) {
		s, _, clients, namespace := store(t)
		foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "towline-record.helmrelease.apps.a"}, Data: map[string]string{"mine": "1"}}
		if _, err := clients.Kubernetes.CoreV1().ConfigMaps(namespace).Create(t.Context(), foreign, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		err := s.Save(t.Context(), sample("a"))
		if err == nil || !strings.Contains(err.Error(), "it exists but is not a record") {
			t.Errorf("got %v", err)
		}
	})
}

func TestStoreKeepsNoValues(t *testing.T) {
	s, _, clients, namespace := store(t)
	rec := sample("a")
	rec.Target.HelmRelease.Values = deploy.Values(`{"password":"canary-4711"}`)
	save(t, s, rec)
	if string(rec.Target.HelmRelease.Values) == "" {
		t.Error("the caller's record was changed")
	}
	list, err := clients.Kubernetes.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, cm := range list.Items {
		found = found || strings.Contains(cm.Data["record"], `"ReleaseName":"r"`) || strings.Contains(cm.Data["record"], `"releaseName":"r"`)
		if strings.Contains(fmt.Sprint(cm), "canary") {
			t.Errorf("%s holds it", cm.Name)
		}
	}
	if !found {
		t.Error("there is no record at all")
	}
}

func TestStoreReads(t *testing.T) {
	t.Run("the others beside a broken one, and names that", func(t *testing.T) {
		s, again, clients, namespace := store(t)
		save(t, s, sample("a"))
		save(t, s, sample("b"))
		configMaps := clients.Kubernetes.CoreV1().ConfigMaps(namespace)
		cm, err := configMaps.Get(t.Context(), "towline-record.helmrelease.apps.b", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		cm.Data["record"] = "{"
		if _, err := configMaps.Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		next := again()
		records, err := next.Load(t.Context())
		var corrupt *record.CorruptError
		if !errors.As(err, &corrupt) || !corrupt.Partial() || !strings.Contains(err.Error(), "towline-record.helmrelease.apps.b") {
			t.Errorf("got %v", err)
		}
		if len(records) != 1 || records[0].Target.Name != name("a") {
			t.Errorf("got %v", records)
		}
		save(t, next, sample("b"))
		if got := load(t, again()); len(got) != 2 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("more than a page", func(t *testing.T) {
		s, again, _, _ := store(t)
		const n = 520
		work := make(chan int)
		failed := make(chan error, n)
		for range 16 {
			go func() {
				for i := range work {
					failed <- s.Save(t.Context(), sample(fmt.Sprintf("t%03d", i)))
				}
			}()
		}
		for i := range n {
			work <- i
		}
		close(work)
		for range n {
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
		}
		if got := load(t, again()); len(got) != n {
			t.Errorf("%d records, want %d", len(got), n)
		}
	})
	t.Run("nothing when its context has ended", func(t *testing.T) {
		s, _, _, namespace := store(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Load(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), namespace) {
			t.Errorf("got %v", err)
		}
	})
}
