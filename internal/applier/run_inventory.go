package applier

import (
	"context"

	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/crashpoint"
)

// What a run writes into the inventory: begin what it sets out to do, record what became of it.

// begin writes into the inventory what is about to be touched: with new objects a crash leaves no orphan, and with changed or deleted ones nobody believes
// afterwards that the cluster still has what was recorded.
func (r *run) begin(ctx context.Context) error {
	err := r.engine.store.update(ctx, r.info, func(es entries) {
		for id, before := range r.note.apply {
			if e, ok := es[id]; ok && e.rendered == "" && !e.kept && e.blockedOf == 0 && e.uid == before.uid {
				continue // unknown already
			}
			if e := es[id]; r.results[id].err == nil && !r.restores(id, e) { // the invalid ones are never sent
				es.put(id, entry{uid: before.uid})
			}
		}
		r.announce(es)
	})
	r.engine.land(r.target.Name)
	if err == nil {
		crashpoint.At("applier.inventory-written")
	}
	return err
}

// restores reports whether an object is only brought back to what the inventory says already. Nothing has to be written before that: after a crash it is not as the inventory says,
// which the first check finds.
func (r *run) restores(id object.ObjMetadata, e entry) bool {
	return e.rendered != "" && e.rendered == r.note.render.hashes[id] && r.note.modes[id] == (mode{})
}

// announce writes what is about to happen to the dropped objects. Where too many of them are to go nothing happens to any, and how many there were is written down.
func (r *run) announce(es entries) {
	for _, v := range r.note.drop {
		e, ok := es[v.id]
		switch {
		case !ok || v.fate == fateKeep:
		case r.note.blocked != nil:
			if v.fate == fateBlocked {
				e.rendered, e.kept, e.blockedOf = "", false, r.note.blocked.total
				es.put(v.id, e)
			}
		default:
			fresh := entry{uid: e.uid, kept: e.kept, blockedOf: e.blockedOf}
			if v.fate == fateRelease {
				fresh.uid = "" // once its marks are off nothing may take it for ours, even if we die before it leaves the inventory
			}
			es.put(v.id, fresh)
		}
	}
}

// record writes what became of everything. An object stays until it is known to be gone; what may or may not have been applied is recorded as unknown.
func (r *run) record(ctx context.Context) error {
	return r.engine.store.update(ctx, r.info, func(es entries) {
		for id := range r.note.apply {
			res := r.results[id]
			if res.skipped != "" {
				es.put(id, entry{rendered: skippedHash(r.note.render.hashes[id]), uid: res.uid, owned: res.owned})
				continue
			}
			if !res.applied {
				if e := es[id]; res.sent && e.rendered != "" {
					es.put(id, entry{uid: e.uid}) // else begin has made it unknown
				}
				continue
			}
			e := entry{owned: res.owned, uid: res.uid, version: res.version}
			if r.unhealthy[id] == "" {
				e.rendered = r.note.render.hashes[id]
			}
			es.put(id, e)
		}
		for id, e := range r.note.skip {
			es.put(id, e)
		}
		for _, id := range r.recalled {
			if _, known := es[id]; !known {
				es.put(id, entry{})
			}
		}
		for id := range r.unhealthy {
			if e, known := es[id]; known {
				e.rendered = "" // so that nobody believes after a restart that it was healthy
				es.put(id, e)
			}
		}
		for _, v := range r.note.drop {
			switch {
			case r.results[v.id].gone:
				delete(es, v.id)
			case v.fate == fateKeep && r.note.blocked == nil:
				e := es[v.id]
				e.kept, e.rendered = true, ""
				es.put(v.id, e)
			}
		}
	})
}
