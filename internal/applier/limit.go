package applier

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

const (
	// defaultLimit of a target that names none: an artifact that drops more than half of it is more likely a wrong path than a wish.
	defaultLimit = "50%"
	// limitedFrom is the size from which on the default limit counts, in objects. Small targets lose half of themselves every day.
	limitedFrom = 10
)

// errBlocked stands at each object of a prune that the limit stopped.
var errBlocked = errors.New("not pruned: more would go than pruneLimit allows")

// blockedError is a prune that needs somebody's word: it would take more than the limit, or everything.
type blockedError struct {
	doomed, total int
	why           string // and what it is more than
	digest        string
}

func (b *blockedError) Error() string {
	return fmt.Sprintf("prune blocked: %d of %d objects in the inventory would be deleted, %s: nothing is pruned; if that is meant, set allowMassPrune: %s",
		b.doomed, b.total, b.why, b.digest)
}

// emptyGuard refuses to conclude from an artifact without a single object that everything is to go.
func emptyGuard(w deploy.Work, r *rendered, gone []object.ObjMetadata, known entries) error {
	doomed := 0
	for _, id := range gone {
		if !known[id].kept {
			doomed++
		}
	}
	if len(r.objects) > 0 || doomed == 0 || allowed(w) {
		return nil
	}
	return &deploy.Failure{Reason: deploy.ReasonPruneBlocked, Degraded: true, Err: &blockedError{doomed, doomed, "because the artifact renders no objects", w.Revision.Digest}}
}

// allowed reports whether somebody gave their word for this artifact.
func allowed(w deploy.Work) bool {
	return w.Revision.Digest != "" && w.Target.Kustomization.AllowMassPrune == w.Revision.Digest
}

// limitPrune holds the deletions back, all of them, where they are too many. What passes to another target (inherited) does not count: it lives on. What cannot be
// read now does: it may be deleted a moment later. Pure.
func (n *note) limitPrune(known entries, changes []deploy.Change, inherited func(object.ObjMetadata) bool) error {
	if allowed(n.work) {
		return nil
	}
	held := map[deploy.ObjectID]bool{}
	doomed, total, before := 0, 0, 0
	for _, e := range known {
		if !e.kept {
			total++
		}
	}
	for _, v := range n.drop {
		if v.fate != fateDelete || v.live == nil && v.err == nil || inherited(v.id) {
			continue
		}
		doomed++
		held[objectID(v.id)] = true
		e := known[v.id]
		if e.kept {
			total++
		}
		if e.blockedOf > 0 && (before == 0 || e.blockedOf < before) {
			before = e.blockedOf
		}
	}
	if before > 0 {
		total = min(total, before) // what a blocked attempt applied does not make the same prune a smaller share at the next one
	}
	why, err := exceeded(n.work.Target.Kustomization.PruneLimit, doomed, total)
	if err != nil || why == "" {
		return err
	}
	n.blocked = &blockedError{doomed: doomed, total: total, why: why, digest: n.work.Revision.Digest}
	for i := range n.drop {
		if held[objectID(n.drop[i].id)] {
			n.drop[i].fate = fateBlocked
		}
	}
	for i := range changes {
		if changes[i].Action == deploy.ActionPrune && held[changes[i].Object] {
			changes[i].Err = errBlocked
		}
	}
	return nil
}

// exceeded says in words what limit a prune is beyond; empty where it is within.
func exceeded(limit *intstr.IntOrString, doomed, total int) (string, error) {
	l := intstr.FromString(defaultLimit)
	if limit != nil {
		l = *limit
	} else if total < limitedFrom {
		return "", nil
	}
	if l.Type == intstr.Int {
		if doomed <= l.IntValue() {
			return "", nil
		}
		return fmt.Sprintf("more than pruneLimit %d", l.IntValue()), nil
	}
	text, isShare := strings.CutSuffix(l.StrVal, "%")
	share, err := strconv.Atoi(text)
	if err != nil || !isShare || share < 0 {
		return "", fmt.Errorf("pruneLimit %q is neither a count nor a share such as %s", l.StrVal, defaultLimit)
	}
	if doomed*100 <= total*share {
		return "", nil
	}
	return fmt.Sprintf("more than pruneLimit %d%%", share), nil
}

// refusal is an attempt that ended with nothing but a blocked prune: until the artifact, the target or who inherits changes, the next one has the same end.
type refusal struct {
	key     string
	info    info
	ids     []object.ObjMetadata
	changes []deploy.Change
	err     error
}

// refused is what is still known of a blocked prune; nil where it has to be looked at again.
func (e *Engine) refused(w deploy.Work) *refusal {
	e.mu.Lock()
	f := e.refusals[w.Target.Name]
	e.mu.Unlock()
	if f == nil || w.Full || f.key != settledKey(w) {
		return nil
	}
	for _, id := range f.ids {
		if _, ok := e.store.heir(f.info, id); ok {
			return nil
		}
	}
	return f
}

// setRefused remembers how an attempt ended where it ended with nothing but a blocked prune.
func (e *Engine) setRefused(w deploy.Work, n *note, changes []deploy.Change, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.refusals, w.Target.Name)
	var f *deploy.Failure
	if n == nil || n.blocked == nil || len(n.render.unsureKinds) > 0 || !errors.As(err, &f) || f.Reason != deploy.ReasonPruneBlocked {
		return
	}
	r := &refusal{key: settledKey(w), info: n.info, err: err}
	for _, v := range n.drop {
		r.ids = append(r.ids, v.id)
	}
	for _, c := range changes {
		if c.Err != nil || c.Action == deploy.ActionPrune {
			r.changes = append(r.changes, c)
		}
	}
	e.refusals[w.Target.Name] = r
}
