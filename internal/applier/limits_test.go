package applier

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

func TestExceeded(t *testing.T) {
	share, count := intstr.FromString, intstr.FromInt32
	for _, c := range []struct {
		name          string
		limit         *intstr.IntOrString
		doomed, total int
		want          string
	}{
		{"half of ten", nil, 5, 10, ""},
		{"more than half of ten", nil, 6, 10, "more than pruneLimit 50%"},
		{"more than half of eleven, by half an object", nil, 6, 11, "more than pruneLimit 50%"},
		{"all of nine, by default", nil, 9, 9, ""},
		{"a share counts for small targets too", new(share("50%")), 2, 3, "more than pruneLimit 50%"},
		{"all of everything", new(share("100%")), 10000, 10000, ""},
		{"nothing at all", new(share("0%")), 1, 1000, "more than pruneLimit 0%"},
		{"a count that is kept", new(count(3)), 3, 3, ""},
		{"a count that is not", new(count(3)), 4, 1000, "more than pruneLimit 3"},
		{"no prune with a limit of nothing", new(count(0)), 0, 10, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := exceeded(c.limit, c.doomed, c.total)
			if err != nil || got != c.want {
				t.Fatalf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
	t.Run("a limit that is neither is an error", func(t *testing.T) {
		for _, bad := range []string{"half", "50", "-1%", "%"} {
			if _, err := exceeded(new(share(bad)), 1, 1); err == nil || !strings.Contains(err.Error(), "neither a count nor a share") {
				t.Errorf("%q: %v", bad, err)
			}
		}
	})
}

func TestLimitPrune(t *testing.T) {
	live := &unstructured.Unstructured{Object: map[string]any{}}
	doomed := func(names ...string) (vs []verdict) {
		for _, name := range names {
			vs = append(vs, verdict{dropped: dropped{id: id(name), live: live}})
		}
		return vs
	}
	none := func(object.ObjMetadata) bool { return false }
	for _, c := range []struct {
		name      string
		known     entries
		drop      []verdict
		inherited func(object.ObjMetadata) bool
		want      string // of total
	}{
		{"counts what would be deleted against what is there", entries{id("a"): {}, id("b"): {}, id("c"): {}, id("d"): {}}, doomed("a", "b"), none, "2 of 4"},
		{"leaves kept ones out", entries{id("a"): {}, id("b"): {}, id("kept"): {kept: true}}, doomed("a", "b"), none, "2 of 2"},
		{"but counts a kept one that may go now", entries{id("a"): {}, id("b"): {kept: true}}, doomed("a", "b"), none, "2 of 2"},
		{"measures by what there was when it blocked first", entries{id("a"): {blockedOf: 2}, id("b"): {blockedOf: 2}, id("c"): {}, id("d"): {}}, doomed("a", "b"), none, "2 of 2"},
		{"does not count what passes to another target", entries{id("a"): {}, id("b"): {}}, doomed("a", "b"), func(o object.ObjMetadata) bool { return o == id("a") }, ""},
		{"does not count what is gone or stays", entries{id("a"): {}, id("b"): {}}, []verdict{{dropped: dropped{id: id("a")}}, {dropped: dropped{id: id("b"), live: live}, fate: fateRelease}}, none, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := intstr.FromInt32(1)
			n := &note{drop: c.drop, work: deploy.Work{Target: deploy.Target{Kustomization: &deploy.KustomizationSpec{PruneLimit: &limit}}, Revision: deploy.Revision{Digest: "sha256:1"}}}
			if err := n.limitPrune(c.known, nil, c.inherited); err != nil {
				t.Fatal(err)
			}
			got := ""
			if n.blocked != nil {
				got, _, _ = strings.Cut(strings.TrimPrefix(n.blocked.Error(), "prune blocked: "), " objects")
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Fatal(d)
			}
		})
	}
}
