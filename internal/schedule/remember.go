package schedule

import (
	"slices"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// maxHistory is how many outcomes a record keeps: enough to see a rollout and its repairs, small enough for a ConfigMap of a thousand targets' worth.
const maxHistory = 10

// maxEarlier is how many good revisions are remembered beside the last: with it as many as Helm keeps of a release.
const maxEarlier = 4

// maxMessage cuts what is remembered of an error, in bytes: the board has the whole.
const maxMessage = 1024

// remembered is a target as its record holds it: all that deleting it needs, without what may be secret or large. It takes the fields that are named here, so that a new
// field is not remembered by accident.
func remembered(t deploy.Target) deploy.Target {
	t.ReadyExprs = nil
	if h := t.HelmRelease; h != nil {
		t.HelmRelease = &deploy.HelmReleaseSpec{
			ChartRef: h.ChartRef, ReleaseName: h.ReleaseName, TargetNamespace: h.TargetNamespace, StorageNamespace: h.StorageNamespace, MaxHistory: h.MaxHistory,
			Interval: h.Interval, RetryInterval: h.RetryInterval, Timeout: h.Timeout, Uninstall: h.Uninstall, Suspend: h.Suspend,
			ServiceAccountName: h.ServiceAccountName, KubeConfig: h.KubeConfig,
		}
	}
	if k := t.Kustomization; k != nil {
		t.Kustomization = &deploy.KustomizationSpec{
			SourceRef: k.SourceRef, Path: k.Path, TargetNamespace: k.TargetNamespace,
			Interval: k.Interval, RetryInterval: k.RetryInterval, Timeout: k.Timeout,
			Prune: k.Prune, DeletionPolicy: k.DeletionPolicy, Wait: k.Wait, Suspend: k.Suspend,
			ServiceAccountName: k.ServiceAccountName, KubeConfig: k.KubeConfig,
		}
	}
	return t
}

// orphanedBy lets today's entry say that what it moves away from is left there: without that, a cluster that is gone for good would hold the target back for ever.
func orphanedBy(today, was deploy.Target) deploy.Target {
	if today.Kustomization == nil || was.Kustomization == nil || today.Kustomization.DeletionPolicy != deploy.DeletionOrphan {
		return was
	}
	k := *was.Kustomization
	k.DeletionPolicy = deploy.DeletionOrphan
	was.Kustomization = &k
	return was
}

// intend is the record before an attempt: what it sets out to do. An attempt for a version that was reached already sets out to do nothing.
func intend(rec deploy.Record, w deploy.Work) deploy.Record {
	rec.Target = remembered(w.Target)
	if g := rec.LastGood; g == nil || g.Digest != w.Revision.Digest || g.Hash != w.Target.Hash {
		rec.Intent = w.Revision.Digest
	}
	return rec
}

// remember is the record after an attempt for a target that was held or, with nil, was not. It differs from the one before only where the outcome does.
func remember(rec deploy.Record, out deploy.Outcome, held *deploy.Held) deploy.Record {
	if out.Phase == deploy.PhaseReady {
		rec.Intent = ""
		if g := rec.LastGood; g == nil || g.Digest != out.Digest || g.Hash != out.Hash {
			rec.Earlier = earlier(rec, out.Digest)
			rec.LastGood = &deploy.Good{Digest: out.Digest, Revision: out.Revision, Hash: out.Hash, At: out.Finished.UTC()}
		}
	}
	past := pastOf(shown(out, held))
	if len(rec.History) > 0 && same(rec.History[0], past) {
		return rec
	}
	history := make([]deploy.Past, 0, maxHistory)
	history = append(history, past)
	history = append(history, rec.History[:min(len(rec.History), maxHistory-1)]...)
	rec.History = history
	return rec
}

// earlier are the good revisions of a record beside the one that is good now.
func earlier(rec deploy.Record, now string) []deploy.Good {
	var out []deploy.Good
	if rec.LastGood != nil {
		out = append(out, *rec.LastGood)
	}
	out = slices.DeleteFunc(append(out, rec.Earlier...), func(g deploy.Good) bool { return g.Digest == now })
	seen := map[string]bool{}
	out = slices.DeleteFunc(out, func(g deploy.Good) bool {
		again := seen[g.Digest]
		seen[g.Digest] = true
		return again
	})
	return out[:min(len(out), maxEarlier)]
}

func pastOf(out deploy.Outcome) deploy.Past {
	p := deploy.Past{
		Revision: out.Revision, Phase: out.Phase, Reason: out.Reason, Changes: len(out.Changes),
		At: out.Finished.UTC(), Took: out.Finished.Sub(out.Started).Seconds(),
	}
	if out.Err != nil {
		p.Message = cut(out.Err.Error())
	}
	return p
}

// cut shortens what is remembered of an error.
func cut(message string) string {
	if len(message) > maxMessage {
		return strings.ToValidUTF8(message[:maxMessage], "") + " …"
	}
	return message
}

// same reports whether an outcome says nothing new. A repair is news; the words of a failure are not, since they may hold times and counts that differ at each retry.
func same(before, p deploy.Past) bool {
	if p.Phase == deploy.PhaseReady && p.Changes > 0 {
		return false
	}
	return before.Revision == p.Revision && before.Phase == p.Phase && before.Reason == p.Reason
}
