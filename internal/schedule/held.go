package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

// errNews answers a rollback by hand whose target went on to something newer before it was there.
var errNews = errors.New("there was news meanwhile, and the target goes on to that")

// shown is an outcome as others see it: a target that is held is not Ready, however well it is at what it is held at.
func shown(out deploy.Outcome, held *deploy.Held) deploy.Outcome {
	if held != nil && out.Phase == deploy.PhaseReady {
		out.Phase, out.Reason, out.Err = deploy.PhaseDegraded, deploy.ReasonRolledBack, errors.New(held.String())
	}
	return out
}

// fallBack lets a target go back to its last good revision where it says so and the newest one has turned out not to become healthy, and the others of its group with it.
func (l *loop) fallBack(now time.Time, t *target, r result) bool {
	newest, known := l.state.newest(t)
	good, out := t.rec.LastGood, r.outcome
	switch {
	case !t.spec.FallsBack() || t.gone || t.held != nil || r.job.held != nil:
		return false
	case !known || newest != r.job.version: // it is not wanted any more
		return false
	case good == nil || good.Digest == out.Digest || !unhealthy(r):
		return false
	}
	h := deploy.Held{Why: deploy.HeldByFailure, Reason: out.Reason, At: now.UTC()}
	if out.Err != nil {
		h.Message = cut(out.Err.Error())
	}
	l.hold(t, *good, h)
	for _, m := range l.group(t) {
		l.goWith(m, t)
	}
	return true
}

// unhealthy reports whether an attempt failed for the sake of what it applied.
func unhealthy(r result) bool {
	if r.job.target.HelmRelease != nil {
		return r.outcome.FellBack
	}
	return r.outcome.Reason == deploy.ReasonHealthCheckFailed || r.outcome.Reason == deploy.ReasonTimeout && r.job.gate.at() == deploy.PhaseWaiting
}

// hold keeps a target at a revision that was good, in place of the one that its source says, which has to be known.
func (l *loop) hold(t *target, at deploy.Good, h deploy.Held) {
	newest := l.state.revisions[t.spec.Source]
	h.Digest, h.Revision, h.Instead, h.InsteadRevision, h.Hash = at.Digest, at.Revision, newest.Digest, newest.String(), t.spec.Hash
	t.held = &h
	t.reset()
	t.follow()
	l.touch(t.spec.Name)
	l.log.Warn("target goes back", zap.Stringer("target", t.spec.Name), zap.String("to", h.Revision), zap.String("from", h.InsteadRevision), zap.String("why", h.Why),
		zap.String("reason", h.Reason), zap.String("error", h.Message))
}

// lift lets a target go on, and those that went back with it.
func (l *loop) lift(t *target, why string) {
	if t.held == nil {
		return
	}
	l.log.Info("target goes on", zap.Stringer("target", t.spec.Name), zap.String("from", t.held.Revision), zap.String("because", why))
	t.held = nil
	if t.awaited != nil {
		t.awaited.answer <- rolledBack{err: errNews}
		t.awaited = nil
	}
	t.reset()
	t.follow()
	l.touch(t.spec.Name)
	l.liftGroups()
}

// liftGroups lets targets go on that went back with one that has gone on.
func (l *loop) liftGroups() {
	for _, t := range l.state.targets {
		if t.held != nil && t.held.Why == deploy.HeldByGroup && !slices.ContainsFunc(l.group(t), (*target).quarantines) {
			l.lift(t, "what failed in its group goes on")
		}
	}
}

// quarantines reports whether a target is held because what its source says has failed.
func (t *target) quarantines() bool { return t.held != nil && t.held.Why == deploy.HeldByFailure }

// group are the other targets that a target goes back together with.
func (l *loop) group(t *target) []*target {
	name := t.spec.RollbackGroup()
	if name == "" {
		return nil
	}
	var out []*target
	for n, m := range l.state.targets {
		if m != t && !m.gone && m.spec.RollbackGroup() == name && n.Namespace == t.spec.Name.Namespace {
			out = append(out, m)
		}
	}
	return out
}

// goWith lets a target of a group go back with the one that failed, unless it is where it was when all were Ready, or was never with the others.
func (l *loop) goWith(m, failed *target) {
	newest, known := l.state.newest(m)
	if m.held != nil || m.together == nil || !known || newest.digest == m.together.Digest || m.spec.Suspend {
		return
	}
	name := failed.spec.Name
	l.hold(m, *m.together, deploy.Held{Why: deploy.HeldByGroup, Member: &name, Reason: failed.held.Reason, Message: failed.held.Message, At: failed.held.At})
}

// join lets a target go back with its group that did so before the restart, where the process ended before it could say so of all.
func (l *loop) join(t *target) {
	if _, known := l.state.newest(t); !known {
		return // it is asked again when it is
	}
	for _, m := range l.group(t) {
		if m.quarantines() && t.recorded() && (t.rec.LastGood == nil || t.rec.LastGood.At.Before(m.held.At)) {
			l.goWith(t, m)
		}
	}
}

// checkpoint remembers what the targets of a group are at when all of them are Ready.
func (l *loop) checkpoint(t *target) {
	all := append(l.group(t), t)
	if t.spec.RollbackGroup() == "" || slices.ContainsFunc(all, func(m *target) bool { return !l.state.current(m) || m.rec.LastGood == nil }) {
		return
	}
	for _, m := range all {
		if m.together == nil || m.together.Digest != m.rec.LastGood.Digest {
			m.together = m.rec.LastGood
			m.follow()
		}
	}
}

// holdByHand takes up a rollback of manifests.
func (l *loop) holdByHand(t *target, o *order) error {
	newest, known := l.state.newest(t)
	switch {
	case t.spec.Suspend:
		return errors.New("it is suspended: remove suspend from its entry in the config first")
	case !known:
		return fmt.Errorf("it waits for %s: nothing was rolled back", l.state.sourceWords(t))
	}
	want, _ := l.state.want(t)
	good, err := earlierGood(t.rec, want.digest, o.to)
	switch {
	case err != nil:
		return err
	case good.Digest == newest.digest:
		return fmt.Errorf("%s is what its source says: towline reconcile --force %s brings it there", good.Revision, t.spec.Name)
	}
	t.held = nil
	t.awaited = o
	l.hold(t, good, deploy.Held{Why: deploy.HeldByHand, At: time.Now().UTC()})
	return nil
}

// arrived answers who waits for a target to be back at an earlier revision.
func (l *loop) arrived(t *target, r result) {
	if t.awaited == nil || r.job.held != t.held {
		return
	}
	answer := rolledBack{to: r.job.held.Revision}
	if r.outcome.Phase != deploy.PhaseReady {
		answer = rolledBack{err: fmt.Errorf("it goes back to %s, and that has failed for now: %w; it is tried again", r.job.held.Revision, r.outcome.Err)}
	}
	t.awaited.answer <- answer
	t.awaited = nil
}

// earlierGood chooses from the good revisions of a record: the newest but the one that is there, or the one that the text means.
func earlierGood(rec deploy.Record, there, text string) (deploy.Good, error) {
	var list []deploy.Good
	if rec.LastGood != nil {
		list = append(list, *rec.LastGood)
	}
	list = slices.DeleteFunc(append(list, rec.Earlier...), func(g deploy.Good) bool { return g.Digest == there })
	if len(list) == 0 {
		return deploy.Good{}, errors.New("there is no earlier revision that was good")
	}
	if text == "" {
		return list[0], nil
	}
	found := slices.DeleteFunc(slices.Clone(list), func(g deploy.Good) bool { return !means(text, g) })
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return deploy.Good{}, fmt.Errorf("%s may mean %s: say more of the digest", text, names(found))
	case strings.HasPrefix(there, text) || strings.HasPrefix(there, "sha256:"+text):
		return deploy.Good{}, fmt.Errorf("%s is the one that is there", text)
	}
	return deploy.Good{}, fmt.Errorf("%s is none of the revisions that were good: %s", text, names(list))
}

// means reports whether a text stands for a revision: its tag, its digest or the beginning of that, or both as tables have them.
func means(text string, g deploy.Good) bool {
	const leastDigits = 6
	tag, tagged := strings.CutSuffix(g.Revision, "@"+g.Digest)
	if tagged && text == tag {
		return true
	}
	if tagged {
		text = strings.TrimPrefix(text, tag+"@")
	}
	begin := strings.TrimPrefix(text, "sha256:")
	return len(begin) >= leastDigits && strings.HasPrefix(strings.TrimPrefix(g.Digest, "sha256:"), begin)
}

func names(list []deploy.Good) string {
	out := make([]string, len(list))
	for i, g := range list {
		out[i] = g.Revision
	}
	return strings.Join(out, ", ")
}
