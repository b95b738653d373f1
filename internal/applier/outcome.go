package applier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// named is how many objects an error names; a status must stay readable, and the changes have them all.
const named = 10

// Apply does what a plan of this engine says. The changes say how each went; the error is a *deploy.Failure, Degraded where the rest is as wanted.
func (e *Engine) Apply(ctx context.Context, w deploy.Work, p *deploy.Plan, progress deploy.Progress) ([]deploy.Change, error) {
	if f, ok := p.Private.(*refusal); ok {
		return f.changes, f.err
	}
	n, ok := p.Private.(*note)
	if !ok {
		if p.Empty() {
			return nil, nil
		}
		return nil, &deploy.Failure{Reason: deploy.ReasonApplyFailed, Err: errors.New("the plan was not made by this engine")}
	}
	defer e.land(w.Target.Name)
	here, err := e.site(ctx, w.Target)
	if err != nil {
		return nil, failure(ctx, deploy.ReasonApplyFailed, err)
	}
	r, err := here.newRun(ctx, n, progress)
	if err != nil {
		return nil, failure(ctx, deploy.ReasonApplyFailed, err)
	}
	e.setSettled(w, false)
	err = r.outcome(ctx, r.do(ctx))
	if f := n.driftFailure(p.Changes); err == nil && f != nil {
		err = f
	}
	e.setSettled(w, err == nil && len(r.recalled) == 0)
	changes := r.changes(p.Changes)
	e.setRefused(w, n, changes, err)
	return changes, e.missingAccount(ctx, w.Target, err, changes...)
}

// changes are the planned ones with how they went.
func (r *run) changes(planned []deploy.Change) []deploy.Change {
	byID := make(map[deploy.ObjectID]error, len(r.results))
	for id, res := range r.results {
		byID[objectID(id)] = res.err
	}
	for id, why := range r.unhealthy {
		byID[objectID(id)] = errors.New(why)
	}
	out := make([]deploy.Change, len(planned))
	for i, c := range planned {
		err, tried := byID[c.Object]
		r.turned(&c)
		switch {
		case err != nil:
			c.Err = err
		case tried || c.Action == deploy.ActionDrift || c.Action == deploy.ActionKeep || c.Action == deploy.ActionSkip || c.Action == deploy.ActionWait && r.awaited:
		case c.Action == deploy.ActionPrune && r.note.blocked != nil:
			c.Err = errBlocked
		case c.Action == deploy.ActionPrune:
			c.Err = errPutOff
		default:
			c.Err = errNotAttempted
		}
		out[i] = c
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.unhealthy), compareIDs) {
		if !slices.ContainsFunc(planned, func(c deploy.Change) bool { return c.Object == objectID(id) }) {
			out = append(out, deploy.Change{Action: deploy.ActionWait, Object: objectID(id), Reason: reasonAiling, Err: errors.New(r.unhealthy[id])})
		}
	}
	return out
}

// foreign are the objects that healthChecks name, that are not rendered and not healthy.
func (r *run) foreign() []object.ObjMetadata {
	var ids []object.ObjMetadata
	for id := range r.unhealthy {
		if _, rendered := r.note.render.hashes[id]; !rendered {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

// outcome turns what happened into the failure of the whole; nil where all is as wanted. stopped is what ended the run early.
func (r *run) outcome(ctx context.Context, stopped error) error {
	var apply, health, prune []string
	total := len(r.note.render.objects)
	for _, u := range r.note.render.objects {
		id := object.UnstructuredToObjMetadata(u)
		if err := r.results[id].err; err != nil {
			apply = append(apply, fmt.Sprintf("%s: %v", objectID(id), err))
		}
		if why := r.unhealthy[id]; why != "" {
			health = append(health, fmt.Sprintf("%s: %s", objectID(id), why))
		}
	}
	for _, v := range r.note.drop {
		if err := r.results[v.id].err; err != nil {
			prune = append(prune, fmt.Sprintf("%s: %v", objectID(v.id), err))
		}
	}
	for _, id := range r.foreign() {
		total++
		health = append(health, fmt.Sprintf("%s: %s", objectID(id), r.unhealthy[id]))
	}
	var f *deploy.Failure
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && len(health) > 0: // the time went by with waiting: below
		stopped = nil
		f = &deploy.Failure{Reason: deploy.ReasonHealthCheckFailed, Err: summary("health check of", health, total)}
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && len(apply) > 0:
		return failure(ctx, deploy.ReasonTimeout, fmt.Errorf("%w: %w", ctx.Err(), summary("apply", apply, total)))
	case ctx.Err() != nil && stopped != nil:
		return failure(ctx, deploy.ReasonCanceled, stopped)
	case len(apply) > 0:
		f = &deploy.Failure{Reason: deploy.ReasonApplyFailed, Degraded: len(apply) < total, Err: summary("apply", append(apply, health...), total)}
	case len(health) > 0:
		f = &deploy.Failure{Reason: deploy.ReasonHealthCheckFailed, Err: summary("health check of", health, total)}
	case len(prune) > 0:
		f = &deploy.Failure{Reason: deploy.ReasonPruneFailed, Degraded: true, Err: summary("prune", prune, len(r.note.drop))}
	case r.note.blocked != nil:
		f = &deploy.Failure{Reason: deploy.ReasonPruneBlocked, Degraded: true, Err: r.note.blocked}
	}
	if f != nil && r.note.blocked != nil && f.Reason != deploy.ReasonPruneBlocked {
		f.Err = fmt.Errorf("%w; %w", f.Err, r.note.blocked)
	}
	switch {
	case stopped == nil && f == nil:
		return nil
	case stopped == nil:
		return f
	case f == nil:
		return &deploy.Failure{Reason: deploy.ReasonApplyFailed, Err: stopped}
	}
	f.Err, f.Degraded = fmt.Errorf("%w; %w", f.Err, stopped), false // nobody knows how the rest is
	return f
}

func summary(what string, lines []string, total int) error {
	text := fmt.Sprintf("%s %d of %d objects failed: ", what, len(lines), total)
	if len(lines) > named {
		text += strings.Join(lines[:named], "; ") + fmt.Sprintf("; and %d more", len(lines)-named)
	} else {
		text += strings.Join(lines, "; ")
	}
	return errors.New(text)
}
