package applier

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/object"
)

// An inventory is text, one line per object and four words a line:
//
//	group/kind/namespace/name hash-rendered hash-owned uid
//
// A word that is not known is "-"; hash-rendered is "kept" for an object that was dropped and is deliberately left alone, and "blocked-" with a number for one that
// was dropped by a prune that pruneLimit stopped. Names are path-escaped: RBAC allows
// everything in them but "/" and "%", spaces included.
const (
	unknownWord = "-"
	keptWord    = "kept"
	blockedWord = "blocked-"
)

// entry is what the inventory says of one object.
type entry struct {
	// rendered is the hash of the object as it was last applied, healthy where the target waits for health. Empty: nobody knows what the server has.
	rendered string
	// owned is the kube.OwnedHash that the server answered with.
	owned string
	uid   types.UID
	// kept: no longer rendered, but something forbids deleting it.
	kept bool
	// blockedOf: no longer rendered, but its prune was more than pruneLimit allows; the number is how many objects the target had then. rendered is empty.
	blockedOf int
	// version is the resourceVersion of the last answer to an apply of ours, for kinds that controllers do not write to. It is kept in memory only: an apply that demands it
	// succeeds only where nobody has written since, so that it need not be asked first whether somebody marked the object.
	version string
	// shard that the line is in. An object never moves between shards, so no order of writes can lose it.
	shard int
}

// entries are immutable once they are in a ledger: change a clone.
type entries map[object.ObjMetadata]entry

func appendLine(b []byte, id object.ObjMetadata, e entry) []byte {
	for i, word := range []string{id.GroupKind.Group, id.GroupKind.Kind, id.Namespace, id.Name} {
		if i > 0 {
			b = append(b, '/')
		}
		b = append(b, url.PathEscape(word)...)
	}
	rendered := e.rendered
	switch {
	case e.kept:
		rendered = keptWord
	case e.blockedOf > 0:
		rendered = blockedWord + strconv.Itoa(e.blockedOf)
	}
	for _, word := range []string{rendered, e.owned, string(e.uid)} {
		b = append(b, ' ')
		b = append(b, cmp.Or(word, unknownWord)...)
	}
	return append(b, '\n')
}

func parseLine(line string) (object.ObjMetadata, entry, error) {
	words := strings.Split(line, " ")
	parts := strings.Split(words[0], "/")
	if len(words) != 4 || len(parts) != 4 {
		return object.ObjMetadata{}, entry{}, fmt.Errorf("inventory line %q: want group/kind/namespace/name and three words", line)
	}
	for i := range parts {
		p, err := url.PathUnescape(parts[i])
		if err != nil {
			return object.ObjMetadata{}, entry{}, fmt.Errorf("inventory line %q: %w", line, err)
		}
		parts[i] = p
	}
	id := object.ObjMetadata{GroupKind: schema.GroupKind{Group: parts[0], Kind: parts[1]}, Namespace: parts[2], Name: parts[3]}
	if id.GroupKind.Kind == "" || id.Name == "" {
		return object.ObjMetadata{}, entry{}, fmt.Errorf("inventory line %q: kind and name must not be empty", line)
	}
	known := func(w string) string {
		if w == unknownWord {
			return ""
		}
		return w
	}
	e := entry{rendered: known(words[1]), owned: known(words[2]), uid: types.UID(known(words[3]))}
	if e.rendered == keptWord {
		e.rendered, e.kept = "", true
	}
	if count, blocked := strings.CutPrefix(e.rendered, blockedWord); blocked {
		n, err := strconv.Atoi(count)
		if err != nil || n <= 0 {
			return object.ObjMetadata{}, entry{}, fmt.Errorf("inventory line %q: %q is not a count of objects", line, count)
		}
		e.rendered, e.blockedOf = "", n
	}
	return id, e, nil
}

// lineBytes is the most that the line of an object can take, however much is known of it: so shards are filled once and for good.
func lineBytes(id object.ObjMetadata) int {
	const words = 3 + 32 + 32 + 36 + 1 // spaces, two hashes, a uid, the line's end
	return len(appendLine(nil, id, entry{})) + words
}

// encode writes one shard, sorted, so that equal content is equal text.
func (es entries) encode(shard int) []byte {
	var ids []object.ObjMetadata
	for id, e := range es {
		if e.shard == shard {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	var b []byte
	for _, id := range ids {
		b = appendLine(b, id, es[id])
	}
	return b
}

// decode adds the lines of one shard. Any line that it does not understand is an error: what is behind it might be an object that nobody else remembers.
func (es entries) decode(text string, shard int) error {
	for line := range strings.Lines(text) {
		id, e, err := parseLine(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return err
		}
		e.shard = shard
		es[id] = e
	}
	return nil
}

func compareIDs(a, b object.ObjMetadata) int {
	return cmp.Or(
		strings.Compare(a.GroupKind.Group, b.GroupKind.Group),
		strings.Compare(a.GroupKind.Kind, b.GroupKind.Kind),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name))
}
