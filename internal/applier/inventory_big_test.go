package applier

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/cli-utils/pkg/object"
)

// TestTenThousand has names and hashes of the usual length in shards of the usual size.
func TestTenThousand(t *testing.T) {
	t.Parallel()
	s, i := newTestStore(t)
	hash := strings.Repeat("0a", 16)
	check(t, s.update(t.Context(), i, func(es entries) {
		for n := range 10_000 {
			es.put(id(fmt.Sprintf("an-object-with-a-name-of-usual-length-%05d", n)), entry{rendered: hash, owned: hash, uid: "00000000-0000-0000-0000-000000000000"})
		}
	}))
	if n := len(s.shardNames(t)); n < 2 {
		t.Fatalf("%d shards", n)
	}
	mine, err := s.read(t.Context(), i)
	check(t, err)
	theirs, err := newStore(s.maps, s.namespace).read(t.Context(), i)
	check(t, err)
	if d := cmp.Diff(map[object.ObjMetadata]entry(mine), map[object.ObjMetadata]entry(theirs), cmp.AllowUnexported(entry{})); d != "" {
		t.Fatal(d)
	}
}

func TestBlockedLine(t *testing.T) {
	want := entry{owned: "0123", uid: "u", blockedOf: 17}
	line := strings.TrimSuffix(string(appendLine(nil, id("a"), want)), "\n")
	o, got, err := parseLine(line)
	if err != nil || o != id("a") || got != want {
		t.Fatalf("%q came back as %v, %v", line, got, err)
	}
	for _, bad := range []string{"0", "-3", "x", ""} {
		if _, _, err := parseLine(strings.Replace(line, "blocked-17", "blocked-"+bad, 1)); err == nil {
			t.Errorf("%q: want an error", bad)
		}
	}
}
