package applier

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// repairs are the objects that an attempt is for alone, since they drifted and all others are known to be as wanted; none: there is more to look at.
func (n *note) repairs(known entries) []object.ObjMetadata {
	if !n.work.Full || len(n.work.Drifted) == 0 || len(n.render.unsureKinds) > 0 || len(n.render.invalid) > 0 {
		return nil
	}
	ids := make([]object.ObjMetadata, 0, len(n.work.Drifted))
	for _, o := range n.work.Drifted {
		id := object.ObjMetadata{GroupKind: schema.GroupKind{Group: o.Group, Kind: o.Kind}, Namespace: o.Namespace, Name: o.Name}
		if _, wanted := n.render.hashes[id]; !wanted {
			return nil
		}
		ids = append(ids, id)
	}
	for id, hash := range n.render.hashes {
		if e := known[id]; e.rendered == "" || e.rendered != hash && e.rendered != skippedHash(hash) {
			return nil
		}
	}
	for id, e := range known {
		if _, wanted := n.render.hashes[id]; !wanted && !e.kept {
			return nil
		}
	}
	return ids
}

// planRepair makes the plan for the objects that drifted.
func (e *site) planRepair(ctx context.Context, p *deploy.Plan, n *note, known entries, ids []object.ObjMetadata) error {
	live, err := e.observe(ctx, view{target: n.work.Target.Name, render: n.render, known: known}, ids)
	if err != nil {
		return err
	}
	p.Objects, p.Changes, p.Private = n.render.objects, n.decideApply(known, live), n
	return nil
}
