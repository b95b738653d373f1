package applier

import (
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// skippedHash stands in the inventory for an object that was rendered with a hash and left alone. It has the length of a hash and is none.
func skippedHash(hash string) string {
	if hash == "" {
		return ""
	}
	return "~" + hash[1:]
}

// regarded are the known objects whose metadata a plan has to see: those that would be sent, for the marks that somebody may have set on them in the cluster, and in a full
// run all others too. One that may never have been there is looked at when it is found to be, and one of a known version when it is found to have another.
func regarded(r *rendered, known entries, full bool) []object.ObjMetadata {
	var ids []object.ObjMetadata
	for id, hash := range r.hashes {
		e, ok := known[id]
		quiet := e.rendered == hash || e.rendered == skippedHash(hash)
		ask := full || e.version == "" || r.modes[id].once != ""
		if ok && r.modes[id].skip == "" && (full && quiet || !quiet && e.uid != "" && ask) {
			ids = append(ids, id)
		}
	}
	return ids
}

// decideApply says for each rendered object whether it is sent. Pure, given what memory and the cluster say; live has the objects that were looked at.
func (n *note) decideApply(known entries, live map[object.ObjMetadata]seen) []deploy.Change {
	n.apply, n.strangers, n.held = map[object.ObjMetadata]entry{}, map[object.ObjMetadata]bool{}, map[types.UID]bool{}
	n.skip, n.modes, n.unread = map[object.ObjMetadata]entry{}, map[object.ObjMetadata]mode{}, map[object.ObjMetadata]bool{}
	n.drifts = map[object.ObjMetadata]bool{}
	var changes []deploy.Change
	for _, u := range n.render.objects {
		id := object.UnstructuredToObjMetadata(u)
		before, isKnown := known[id]
		if before.uid != "" {
			n.held[before.uid] = true
		}
		now, looked := live[id]
		if looked {
			before.version = "" // it may have changed since, in a way that the look has told
		}
		m := n.render.modes[id].and(now.mode)
		c := deploy.Change{Action: deploy.ActionApply, Object: objectID(id), Err: n.render.invalid[id]}
		c.Action, c.Reason = decideOne(before, isKnown, n.render.hashes[id], m, now, looked)
		if c.Action == deploy.ActionSkip {
			c.Err = nil
			n.skip[id] = entry{rendered: skippedHash(n.render.hashes[id]), owned: before.owned, uid: before.uid}
			changes = append(changes, c)
		}
		if c.Reason == "" || c.Action == deploy.ActionSkip {
			delete(n.render.invalid, id) // nothing is to be sent, so nothing stands in the way
			continue
		}
		if isKnown && before.rendered == n.render.hashes[id] { // drift, then
			if tolerated := n.tolerated(u, now); tolerated != deploy.DriftEnabled {
				delete(n.render.invalid, id)
				if tolerated == deploy.DriftWarn {
					c.Action, c.Err = deploy.ActionDrift, nil
					changes = append(changes, c)
				}
				continue
			}
			n.drifts[id] = true
		}
		if !isKnown {
			n.strangers[id] = true
		}
		if c.Reason == reasonMissing {
			before.uid = "" // it is to be created, not to be found
		}
		if m != (mode{}) {
			n.modes[id] = m
		}
		if now.err != nil || now.stray {
			n.unread[id] = true
		}
		n.apply[id] = before
		changes = append(changes, c)
	}
	return changes
}

// decideOne says what becomes of one object, and why; an empty reason means nothing. ActionSkip is the news that it is left alone.
func decideOne(before entry, isKnown bool, hash string, m mode, now seen, looked bool) (action deploy.Action, reason string) {
	action = deploy.ActionApply
	alone := before.rendered != "" && before.rendered == skippedHash(hash)
	switch {
	case !isKnown:
		action, reason = deploy.ActionCreate, reasonNew
	case before.rendered == "":
		reason = reasonUnconfirmed
	case alone && (!looked || now.err != nil):
		return action, ""
	case alone && !now.found:
		action, reason = deploy.ActionCreate, reasonMissing
	case alone:
		reason = reasonResumed
	case before.rendered != hash:
		reason = reasonChanged
	case looked:
		action, reason = drifted(before, now)
		if reason == "" && now.byHand && !m.merge {
			reason = reasonByHand
		}
	}
	if m.once != "" && looked && now.err == nil && !now.found {
		return deploy.ActionCreate, reasonMissing
	}
	why := m.skip
	if why == "" && looked && now.found {
		why = m.once
	}
	switch {
	case why == "" || reason == "":
		return action, reason
	case alone:
		return action, "" // no news
	}
	return deploy.ActionSkip, why
}

// drifted compares what the cluster says with what it said when we applied. An empty reason means: as wanted.
func drifted(before entry, now seen) (deploy.Action, string) {
	switch {
	case now.err != nil:
		return deploy.ActionApply, reasonUnknown
	case !now.found:
		return deploy.ActionCreate, reasonMissing
	case now.uid != before.uid:
		return deploy.ActionApply, reasonReplaced
	case now.owned != before.owned:
		return deploy.ActionApply, driftedBy(now.by)
	}
	return deploy.ActionApply, ""
}
