package drift

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	// patience is how long a test waits for what has to come; calm how long for what must not.
	patience = 30 * time.Second
	calm     = 500 * time.Millisecond
)

var configMaps = schema.GroupKind{Kind: "ConfigMap"}

// world is a watcher over a namespace of its own.
type world struct {
	*testing.T
	ns       string
	admin    *kubernetes.Clientset
	clients  *kube.Clients
	watcher  *Watcher
	spec     deploy.Target
	told     chan deploy.Name
	contests []deploy.Contest // guarded by mu
	logs     *observer.ObservedLogs

	mu      sync.Mutex // guards watches
	watches map[string]int
}

// newWorld starts a watcher, as somebody without rights where a user is named.
func newWorld(t *testing.T, user string) *world {
	t.Helper()
	cp := testenv.Cluster(t)
	w := &world{T: t, ns: cp.Namespace(t), told: make(chan deploy.Name, 100), watches: map[string]int{}}
	w.admin = kubernetes.NewForConfigOrDie(cp.Config)
	config := rest.CopyConfig(cp.Config)
	config.Impersonate.UserName = user
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(r *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil && resp.StatusCode == http.StatusOK && r.URL.Query().Get("watch") != "" {
				w.count(r.URL.Path, 1)
				go func() { // its end is that of its context
					<-r.Context().Done()
					w.count(r.URL.Path, -1)
				}()
			}
			return resp, err
		})
	})
	var err error
	if w.clients, err = kube.New(config); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.WarnLevel)
	w.logs = logs
	w.spec = deploy.Target{Name: deploy.Name{Kind: deploy.KindHelmRelease, Namespace: w.ns, Name: "web"}}
	w.watcher = New(nil, w, zap.New(core))
	w.watcher.Set([]deploy.Target{w.spec})
	return w
}

// Drifted and Contested make a world the watcher's News.
func (w *world) Drifted(n deploy.Name, objects []deploy.ObjectID) {
	if len(objects) == 0 {
		w.Error("drift of nothing was told")
	}
	w.told <- n
}

func (w *world) Contested(_ deploy.Name, list []deploy.Contest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.contests = list
}

// contested are the objects that others insist on, with who they are and the pause.
func (w *world) contested() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, c := range w.contests {
		out = append(out, fmt.Sprintf("%s %s %g", c.Object.Name, c.By, c.Pause))
	}
	return strings.Join(out, ", ")
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// start runs the watcher until the test ends.
func (w *world) start() {
	w.Helper()
	leaks := goleak.IgnoreCurrent()
	ctx, stop := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- w.watcher.Run(ctx) }()
	w.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.Errorf("run: %v", err)
		}
		w.clients.HTTP.CloseIdleConnections()
		goleak.VerifyNone(w.T, leaks)
	})
}

func (w *world) count(path string, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watches[path] += by
}

// open are the paths of the watches that are open, sorted.
func (w *world) open() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var paths []string
	for path, n := range w.watches {
		if n > 0 {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return strings.Join(paths, " ")
}

func (w *world) awaitWatches(want ...string) {
	w.Helper()
	testenv.Await(w.T, patience, "watches", func() error {
		if d := cmp.Diff(strings.Join(want, " "), w.open()); d != "" {
			return diffError(d)
		}
		return nil
	})
}

// relied waits until the target counts as watched, or not.
func (w *world) relied(yes bool) {
	w.Helper()
	testenv.Await(w.T, patience, "that it is relied upon", func() error {
		if got := w.watcher.Watches(w.spec.Name); got != yes {
			return diffError(fmt.Sprintf("watched: %t", got))
		}
		return nil
	})
}

type diffError string

func (d diffError) Error() string { return string(d) }

// put makes or changes a ConfigMap of the target, as a field manager.
func (w *world) put(name, manager string, data map[string]string) {
	w.Helper()
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": data,
		"metadata": map[string]any{"name": name, "labels": map[string]string{deploy.LabelTarget: w.spec.Name.LabelValue()}},
	})
	if err != nil {
		w.Fatal(err)
	}
	force := true
	if _, err = w.admin.CoreV1().ConfigMaps(w.ns).Patch(w.Context(), name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: manager, Force: &force}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) holding(kinds deploy.ObjectKinds) Holding { return Holding{w.clients, kinds} }

func (w *world) heard(what string) {
	w.Helper()
	select {
	case n := <-w.told:
		if n != w.spec.Name {
			w.Fatalf("%s: %s was told", what, n)
		}
	case <-time.After(patience):
		w.Fatalf("%s: nobody was told", what)
	}
	for { // an event may come with another
		select {
		case <-w.told:
		case <-time.After(calm):
			return
		}
	}
}

func (w *world) silent(what string) {
	w.Helper()
	select {
	case n := <-w.told:
		w.Errorf("%s: %s was told", what, n)
	case <-time.After(calm):
	}
}

func TestWatcher(t *testing.T) {
	w := newWorld(t, "")
	w.put("a", deploy.FieldManager, map[string]string{"color": "blue"})
	w.put("b", "somebody", map[string]string{"color": "blue"})
	w.start()
	w.watcher.End(w.spec, w.holding(deploy.ObjectKinds{configMaps: {w.ns}}))
	w.awaitWatches("/api/v1/configmaps")
	w.relied(true)
	w.silent("what was there before")

	w.put("a", "somebody", map[string]string{"color": "red"})
	w.heard("a field that somebody took")
	time.Sleep(1100 * time.Millisecond) // the time of writes has whole seconds
	w.put("a", deploy.FieldManager, map[string]string{"color": "blue"})
	w.silent("what we wrote ourselves")
	if _, err := w.admin.CoreV1().ConfigMaps(w.ns).Patch(t.Context(), "a", types.MergePatchType, []byte(`{"metadata":{"labels":{"`+deploy.LabelTarget+`":null}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	w.heard("our label that somebody removed")
	if err := w.admin.CoreV1().ConfigMaps(w.ns).Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.heard("an object that somebody deleted")

	w.watcher.Begin(w.spec.Name)
	w.put("b", "somebody", map[string]string{"color": "green"})
	w.silent("while an attempt is under way")
	w.watcher.End(w.spec, w.holding(deploy.ObjectKinds{configMaps: {w.ns}}))
	w.heard("what was changed during an attempt, at its end")

	w.watcher.Set([]deploy.Target{w.spec, {Name: deploy.Name{Kind: deploy.KindHelmRelease, Namespace: w.ns, Name: "new"}}})
	first := &world{T: w.T, ns: w.ns, admin: w.admin, told: w.told, spec: deploy.Target{Name: deploy.Name{Kind: deploy.KindHelmRelease, Namespace: w.ns, Name: "new"}}}
	w.watcher.Begin(first.spec.Name)
	first.put("mine", "somebody", map[string]string{"color": "red"})
	first.silent("during the first attempt of another target")
	w.watcher.End(first.spec, w.holding(deploy.ObjectKinds{configMaps: {w.ns}}))
	first.heard("what was changed during a first attempt, at its end")
	w.watcher.End(first.spec, Holding{})

	w.watcher.Begin(w.spec.Name)
	w.put("c", "somebody", nil)
	w.watcher.End(w.spec, Holding{})
	w.awaitWatches()
	w.relied(false)
	w.silent("a target that has nothing any more")

	w.watcher.End(w.spec, w.holding(deploy.ObjectKinds{configMaps: {w.ns}, {Kind: "Secret"}: {w.ns}}))
	w.awaitWatches("/api/v1/configmaps", "/api/v1/secrets")
	suspended := w.spec
	suspended.Suspend = true
	w.watcher.Set([]deploy.Target{suspended})
	w.awaitWatches()
	w.watcher.End(w.spec, w.holding(deploy.ObjectKinds{configMaps: {w.ns}}))
	w.put("c", "somebody", map[string]string{"color": "red"})
	w.silent("a suspended target")
	if got := w.open(); got != "" {
		t.Errorf("watches for a suspended target: %s", got)
	}
}

func TestWatcherPausesWhereOthersInsist(t *testing.T) {
	w := newWorld(t, "")
	var skipped atomic.Int64 // nanoseconds that the watcher's clock is ahead
	w.watcher.now = func() time.Time { return time.Now().Add(time.Duration(skipped.Load())) }
	w.put("a", deploy.FieldManager, map[string]string{"color": "blue"})
	w.start()
	w.watcher.End(w.spec, w.holding(deploy.ObjectKinds{configMaps: {w.ns}}))
	w.awaitWatches("/api/v1/configmaps")
	for i := range boutCount {
		w.put("a", "insister", map[string]string{"color": strconv.Itoa(i)})
		w.heard("drift " + strconv.Itoa(i))
	}
	said := w.logs.FilterMessageSnippet("again and again").All()
	if len(said) != 1 || said[0].ContextMap()["by"] != `"insister"` || said[0].ContextMap()["object"] != "ConfigMap/"+w.ns+"/a" {
		t.Fatalf("log: %v", said)
	}
	if got := w.contested(); got != `a "insister" 60` {
		t.Errorf("contested: %s", got)
	}
	w.put("a", "insister", map[string]string{"color": "red"})
	w.silent("drift in the pause")
	w.put("b", "somebody", map[string]string{"color": "red"})
	w.heard("drift of another object")
	skipped.Add(int64(firstBout))
	w.watcher.wake() // its timer goes by the other clock
	w.heard("what drifted in the pause, at its end")
	w.put("a", "insister", map[string]string{"color": "green"})
	w.silent("drift in the next pause")
	if err := w.admin.CoreV1().ConfigMaps(w.ns).Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.heard("the deletion of another object")
	if got := w.contested(); got != `a "insister" 120` {
		t.Errorf("contested later: %s", got)
	}
	skipped.Add(int64(2 * firstBout))
	w.watcher.wake()
	w.heard("what drifted in the next pause")
	skipped.Add(int64(2 * 4 * firstBout))
	w.watcher.wake()
	testenv.Await(t, patience, "a calm ends it", func() error {
		if got := w.contested(); got != "" {
			return diffError(got)
		}
		return nil
	})
}

func TestWatcherWithFewRights(t *testing.T) {
	user := "few-" + strings.ToLower(t.Name())
	w := newWorld(t, user)
	other := testenv.Cluster(t).Namespace(t)
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "few"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list", "watch"}}},
	}
	if _, err := w.admin.RbacV1().Roles(w.ns).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "few"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "few"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
	}
	if _, err := w.admin.RbacV1().RoleBindings(w.ns).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.start()
	mine := "/api/v1/namespaces/" + w.ns + "/configmaps"
	testenv.Await(t, patience, "the rights", func() error { // the server takes a moment to know of them
		_, err := w.clients.Kubernetes.CoreV1().ConfigMaps(w.ns).List(t.Context(), metav1.ListOptions{})
		return err
	})
	w.watcher.End(w.spec, w.holding(deploy.ObjectKinds{configMaps: {w.ns}}))
	w.awaitWatches(mine)
	w.put("a", "somebody", map[string]string{"color": "red"})
	w.heard("an object in the one namespace")
	if got := w.logs.All(); len(got) > 0 {
		t.Errorf("log: %v", got)
	}

	w.watcher.End(w.spec, w.holding(deploy.ObjectKinds{configMaps: {w.ns, other}, {Kind: "Namespace"}: {""}}))
	testenv.Await(t, patience, "what may not be watched is said", func() error {
		said := map[any]int{}
		for _, l := range w.logs.All() {
			said[l.ContextMap()["kind"]]++
		}
		if d := cmp.Diff(map[any]int{"ConfigMap": 1, "Namespace": 1}, said); d != "" {
			return diffError(d)
		}
		return nil
	})
	w.awaitWatches(mine)
	w.put("a", "somebody", map[string]string{"color": "green"})
	w.heard("an object in the namespace that may be watched still")
	w.relied(false)
}

func TestKnown(t *testing.T) {
	t.Parallel()
	var seen []string
	k := &known{kind: configMaps, objects: map[object]state{}, sees: func(label string, s Sight) {
		word := "changed"
		switch {
		case s.First:
			word = "first"
		case s.Metadata == nil:
			word = "gone"
		}
		seen = append(seen, label+" "+s.Object.String()+" "+string(s.UID)+" "+word)
	}}
	of := func(name, label, uid, version string, edit ...func(*metav1.PartialObjectMetadata)) *metav1.PartialObjectMetadata {
		m := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "ns", UID: types.UID(uid), ResourceVersion: version, Generation: 1, Labels: map[string]string{deploy.LabelTarget: label},
		}}
		for _, f := range edit {
			f(m)
		}
		return m
	}
	spec := func(m *metav1.PartialObjectMetadata) { m.Generation = 2 }
	note := func(m *metav1.PartialObjectMetadata) { m.Annotations = map[string]string{"a": "b"} }
	plain := func(m *metav1.PartialObjectMetadata) { m.Generation = 0 }
	for _, c := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"a first list", func() error { return k.Replace([]any{of("a", "t", "1", "10"), of("b", "t", "2", "10", plain)}, "10") },
			[]string{"t ConfigMap/ns/a 1 first", "t ConfigMap/ns/b 2 first"}},
		{"a status", func() error { return k.Update(of("a", "t", "1", "11")) }, nil},
		{"a change of the spec", func() error { return k.Update(of("a", "t", "1", "12", spec)) }, []string{"t ConfigMap/ns/a 1 changed"}},
		{"the same again", func() error { return k.Update(of("a", "t", "1", "12", spec)) }, nil},
		{"an annotation", func() error { return k.Update(of("a", "t", "1", "13", spec, note)) }, []string{"t ConfigMap/ns/a 1 changed"}},
		{"anything of a kind without generations", func() error { return k.Update(of("b", "t", "2", "14", plain)) }, []string{"t ConfigMap/ns/b 2 changed"}},
		{"a new object", func() error { return k.Add(of("c", "t", "3", "15")) }, []string{"t ConfigMap/ns/c 3 changed"}},
		{"another target's label", func() error { return k.Update(of("c", "u", "3", "16")) }, []string{"t ConfigMap/ns/c 3 gone", "u ConfigMap/ns/c 3 changed"}},
		{"a deletion", func() error { return k.Delete(of("c", "u", "3", "17")) }, []string{"u ConfigMap/ns/c 3 gone"}},
		{"the deletion of what nobody knew", func() error { return k.Delete(of("d", "u", "4", "17")) }, nil},
		{"another list after a gap", func() error { return k.Replace([]any{of("b", "t", "5", "20", plain)}, "20") },
			[]string{"t ConfigMap/ns/b 5 changed", "t ConfigMap/ns/a 1 gone"}},
	} {
		seen = nil
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if d := cmp.Diff(c.want, seen); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
	if d := cmp.Diff([]object{{"ns", "b"}}, slices.Collect(maps.Keys(k.objects)), cmp.AllowUnexported(object{})); d != "" {
		t.Errorf("kept (-want +got):\n%s", d)
	}
}

func TestByOthers(t *testing.T) {
	t.Parallel()
	at := func(s int64) *metav1.Time { return &metav1.Time{Time: time.Unix(s, 0)} }
	wrote := func(manager, subresource string, second int64) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Subresource: subresource, Time: at(second)}
	}
	for _, c := range []struct {
		name    string
		managed []metav1.ManagedFieldsEntry
		want    bool
	}{
		{"nobody says who", nil, true},
		{"ours alone", []metav1.ManagedFieldsEntry{wrote(deploy.FieldManager, "", 1)}, false},
		{"ours before theirs", []metav1.ManagedFieldsEntry{wrote(deploy.FieldManager, "", 1), wrote("kubectl", "", 2)}, true},
		{"ours after theirs", []metav1.ManagedFieldsEntry{wrote(deploy.FieldManager, "", 3), wrote("kubectl", "", 2)}, false},
		{"both in one second", []metav1.ManagedFieldsEntry{wrote(deploy.FieldManager, "", 2), wrote("kubectl", "", 2)}, true},
		{"theirs is its status", []metav1.ManagedFieldsEntry{wrote(deploy.FieldManager, "", 1), wrote("controller", "status", 2)}, false},
	} {
		m := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{ManagedFields: c.managed}}
		if got := ByOthers(deploy.Target{}, Sight{Metadata: m}); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	if ByOthers(deploy.Target{}, Sight{Metadata: &metav1.PartialObjectMetadata{}, First: true}) {
		t.Error("what was there before the watch is no news")
	}
	if !ByOthers(deploy.Target{}, Sight{}) {
		t.Error("what is gone is drift")
	}
}
