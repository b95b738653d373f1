package applier

import (
	"testing"

	"github.com/towline/towline/internal/deploy"
)

func TestDecideByMode(t *testing.T) {
	t.Parallel()
	const hash = "0123456789abcdef0123456789abcdef"
	left, same, old := entry{rendered: skippedHash(hash), uid: "u"}, entry{rendered: hash, owned: "o", uid: "u"}, entry{rendered: "x", uid: "u"}
	skip, once, merge := mode{skip: "no"}, mode{once: "once"}, mode{merge: true}
	there := seen{found: true, uid: "u", owned: "o"}
	for _, c := range []struct {
		name           string
		before         entry
		isKnown        bool
		m              mode
		now            seen
		looked         bool
		action, reason string
	}{
		{"new and left alone is news", entry{}, false, skip, seen{}, false, "skip", "no"},
		{"changed and left alone is news", old, true, skip, there, true, "skip", "no"},
		{"left alone as before is none", left, true, skip, there, true, "", ""},
		{"left alone, and nobody looked", left, true, mode{}, seen{}, false, "", ""},
		{"left alone, and it cannot be seen whether still", left, true, mode{}, seen{err: errNotAttempted}, true, "", ""},
		{"no longer left alone", left, true, mode{}, there, true, "apply", reasonResumed},
		{"left alone, and gone with its mark", left, true, mode{}, seen{}, true, "create", reasonMissing},
		{"drifted and left alone is news", same, true, skip, seen{found: true, uid: "u", owned: "p"}, true, "skip", "no"},
		{"as wanted and left alone is none", same, true, skip, there, true, "", ""},
		{"once: new is sent", entry{}, false, once, seen{}, false, "create", reasonNew},
		{"once: there", old, true, once, there, true, "skip", "once"},
		{"once: missing", left, true, once, seen{}, true, "create", reasonMissing},
		{"changed with kubectl", same, true, mode{}, seen{found: true, uid: "u", owned: "o", byHand: true}, true, "apply", reasonByHand},
		{"changed with kubectl, to be merged", same, true, merge, seen{found: true, uid: "u", owned: "o", byHand: true}, true, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			action, reason := decideOne(c.before, c.isKnown, hash, c.m, c.now, c.looked)
			if reason == "" {
				action = ""
			}
			if action != deploy.Action(c.action) || reason != c.reason {
				t.Fatalf("got %q %q, want %q %q", action, reason, c.action, c.reason)
			}
		})
	}
}
