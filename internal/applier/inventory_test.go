package applier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/testenv"
)

func id(name string) object.ObjMetadata {
	return object.ObjMetadata{GroupKind: schema.GroupKind{Group: "apps", Kind: "Deployment"}, Namespace: "ns", Name: name}
}

func FuzzLine(f *testing.F) {
	for _, name := range []string{"a", "system:a_b", "a:b__c", "with space", "new\nline", "ünicode", "%2F", "-", strings.Repeat("x", 253)} {
		f.Add("rbac.authorization.k8s.io", "ClusterRole", "", name, "0123", "4567", "uid", true)
	}
	f.Fuzz(func(t *testing.T, group, kind, namespace, name, rendered, owned, uid string, kept bool) {
		clean := func(s string) string {
			return strings.Map(func(r rune) rune {
				if r >= 'a' && r <= 'f' || r >= '0' && r <= '9' {
					return r
				}
				return -1
			}, s)
		}
		e := entry{rendered: clean(rendered), owned: clean(owned), uid: types.UID(clean(uid)), kept: kept}
		if kept {
			e.rendered = ""
		}
		o := object.ObjMetadata{GroupKind: schema.GroupKind{Group: group, Kind: kind}, Namespace: namespace, Name: name}
		line := string(appendLine(nil, o, e))
		if strings.Count(line, "\n") != 1 {
			t.Fatalf("not one line: %q", line)
		}
		gotID, got, err := parseLine(strings.TrimSuffix(line, "\n"))
		if kind == "" || name == "" {
			if err == nil {
				t.Fatal("want an error without kind or name")
			}
			return
		}
		if err != nil || gotID != o || got != e {
			t.Fatalf("%q came back as %v %v, %v", line, gotID, got, err)
		}
	})
}

func TestBrokenLines(t *testing.T) {
	for _, line := range []string{"", "a", "a/b/c/d", "a/b/c/d e f", "a/b/c d e f", "a/b/c/d e f g h", "a/%zz/c/d e f g", "a//c/d e f g"} {
		if _, _, err := parseLine(line); err == nil {
			t.Errorf("%q: want an error", line)
		}
	}
}

func newTestStore(t *testing.T) (*store, info) {
	t.Helper()
	c := testenv.Cluster(t)
	ns := c.Namespace(t)
	clients, err := kube.New(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(clients.Kubernetes.CoreV1().ConfigMaps(ns), ns)
	return s, infoOf(ns, deploy.Name{Kind: deploy.KindKustomization, Namespace: "apps", Name: "web"})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *store) shardNames(t *testing.T) []string {
	t.Helper()
	l, err := s.maps.List(t.Context(), metav1.ListOptions{LabelSelector: deploy.LabelState})
	check(t, err)
	var names []string
	for _, cm := range l.Items {
		names = append(names, cm.Name)
	}
	return names
}

func TestShards(t *testing.T) {
	t.Parallel()
	s, i := newTestStore(t)
	s.shardMax = 10 * lineBytes(id("o00"))
	fill := func(from, to int) func(entries) {
		return func(es entries) {
			for n := from; n < to; n++ {
				es.put(id(fmt.Sprintf("o%02d", n)), entry{rendered: "abc", uid: "u"})
			}
		}
	}
	check(t, s.update(t.Context(), i, fill(0, 25)))
	t.Run("are as many as are needed", func(t *testing.T) {
		want := []string{i.name, i.name + ".1", i.name + ".2"}
		if d := cmp.Diff(want, s.shardNames(t)); d != "" {
			t.Fatal(d)
		}
	})
	t.Run("keep their objects when others go, and are filled up again", func(t *testing.T) {
		before, err := s.read(t.Context(), i)
		check(t, err)
		check(t, s.update(t.Context(), i, func(es entries) {
			for n := range 5 {
				delete(es, id(fmt.Sprintf("o%02d", n)))
			}
		}))
		check(t, s.update(t.Context(), i, fill(30, 35)))
		after, err := s.read(t.Context(), i)
		check(t, err)
		for o, e := range after {
			if old, ok := before[o]; ok && old.shard != e.shard {
				t.Errorf("%s moved from shard %d to %d", o.Name, old.shard, e.shard)
			}
		}
		if d := cmp.Diff(3, len(s.shardNames(t))); d != "" {
			t.Fatal(d)
		}
	})
	t.Run("are read back whole by another process", func(t *testing.T) {
		mine, err := s.read(t.Context(), i)
		check(t, err)
		theirs, err := newStore(s.maps, s.namespace).read(t.Context(), i)
		check(t, err)
		if d := cmp.Diff(map[object.ObjMetadata]entry(mine), map[object.ObjMetadata]entry(theirs), cmp.AllowUnexported(entry{})); d != "" {
			t.Fatal(d)
		}
	})
	t.Run("go when they are empty", func(t *testing.T) {
		check(t, s.update(t.Context(), i, func(es entries) { clear(es) }))
		if d := cmp.Diff([]string(nil), s.shardNames(t)); d != "" {
			t.Fatal(d)
		}
	})
}

func TestTwoWriters(t *testing.T) {
	t.Parallel()
	s, i := newTestStore(t)
	check(t, s.update(t.Context(), i, func(es entries) { es.put(id("first"), entry{rendered: "aa"}) }))
	other := newStore(s.maps, s.namespace)
	check(t, other.update(t.Context(), i, func(es entries) { es.put(id("theirs"), entry{rendered: "bb"}) }))
	check(t, s.update(t.Context(), i, func(es entries) { es.put(id("mine"), entry{rendered: "cc"}) }))
	got, err := newStore(s.maps, s.namespace).read(t.Context(), i)
	check(t, err)
	want := entries{id("first"): {rendered: "aa"}, id("theirs"): {rendered: "bb"}, id("mine"): {rendered: "cc"}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(entry{}), cmpopts.EquateEmpty()); d != "" {
		t.Fatal(d)
	}
}

func TestDeletedInventory(t *testing.T) {
	t.Parallel()
	s, i := newTestStore(t)
	check(t, s.update(t.Context(), i, func(es entries) { es.put(id("a"), entry{rendered: "aa"}) }))
	check(t, s.maps.Delete(t.Context(), i.name, metav1.DeleteOptions{}))
	check(t, s.update(t.Context(), i, func(es entries) { es.put(id("b"), entry{rendered: "bb"}) }))
	got, err := newStore(s.maps, s.namespace).read(t.Context(), i)
	check(t, err)
	// What is remembered is written anew, but not believed: who deletes inventories may have deleted objects.
	if d := cmp.Diff(entries{id("a"): {}, id("b"): {rendered: "bb"}}, got, cmp.AllowUnexported(entry{})); d != "" {
		t.Fatal(d)
	}
}

func TestUnreadableInventory(t *testing.T) {
	t.Parallel()
	s, i := newTestStore(t)
	cm := i.configMap(0, "", []byte("garbage\n"))
	if _, err := s.maps.Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := s.update(t.Context(), i, func(es entries) { es.put(id("a"), entry{}) })
	if !errors.Is(err, errUnreadable) || !strings.Contains(err.Error(), "garbage") {
		t.Fatalf("want an error that shows the line, got %v", err)
	}
}

func TestMissingNamespace(t *testing.T) {
	t.Parallel()
	clients, err := kube.New(testenv.Cluster(t).Config)
	check(t, err)
	s := newStore(clients.Kubernetes.CoreV1().ConfigMaps("not-there"), "not-there")
	i := infoOf("not-there", deploy.Name{Kind: deploy.KindKustomization, Namespace: "apps", Name: "web"})
	err = s.update(t.Context(), i, func(es entries) { es.put(id("a"), entry{}) })
	if !errors.Is(err, errMissingNamespace) {
		t.Fatalf("want errMissingNamespace at once, got %v", err)
	}
}

func TestNoNeedlessWrite(t *testing.T) {
	t.Parallel()
	s, i := newTestStore(t)
	set := func(es entries) { es.put(id("a"), entry{rendered: "aa"}) }
	check(t, s.update(t.Context(), i, set))
	before := maps.Clone(s.ledgers[i.id].shards)
	ended, cancel := context.WithCancel(t.Context())
	cancel() // any request would fail
	check(t, s.update(ended, i, set))
	if d := cmp.Diff(before, s.ledgers[i.id].shards, cmp.AllowUnexported(shard{})); d != "" {
		t.Fatal(d)
	}
}

func TestInventoryNamesDiffer(t *testing.T) {
	name := func(n string) deploy.Name {
		return deploy.Name{Kind: deploy.KindKustomization, Namespace: "apps", Name: n}
	}
	long := strings.Repeat("x", 63)
	seen := map[string]string{}
	for _, n := range []string{"web", "web-1", "1", long, long[:62] + "y"} {
		i := infoOf("towline-system", name(n))
		for shard := range 3 {
			if other, twice := seen[i.shardName(shard)]; twice {
				t.Errorf("%s of %s is also of %s", i.shardName(shard), n, other)
			}
			seen[i.shardName(shard)] = n
		}
		if len(i.id) > 63 {
			t.Errorf("%q is too long for a label", i.id)
		}
	}
	if infoOf("a", name("web")).id == infoOf("b", name("web")).id {
		t.Error("two agents would share the objects of a target of the same name")
	}
}
