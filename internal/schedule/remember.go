package schedule

import (
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// maxHistory is how many outcomes a record keeps: enough to see a rollout and its repairs, small enough for a ConfigMap of a thousand targets' worth.
const maxHistory = 10

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

// remember is the record after an attempt. It differs from the one before only where the outcome does.
func remember(rec deploy.Record, out deploy.Outcome) deploy.Record {
	if out.Phase == deploy.PhaseReady {
		rec.Intent = ""
		if g := rec.LastGood; g == nil || g.Digest != out.Digest || g.Hash != out.Hash {
			rec.LastGood = &deploy.Good{Digest: out.Digest, Revision: out.Revision, Hash: out.Hash, At: out.Finished.UTC()}
		}
	}
	past := pastOf(out)
	if len(rec.History) > 0 && same(rec.History[0], past) {
		return rec
	}
	history := make([]deploy.Past, 0, maxHistory)
	history = append(history, past)
	history = append(history, rec.History[:min(len(rec.History), maxHistory-1)]...)
	rec.History = history
	return rec
}

func pastOf(out deploy.Outcome) deploy.Past {
	p := deploy.Past{
		Revision: out.Revision, Phase: out.Phase, Reason: out.Reason, Changes: len(out.Changes),
		At: out.Finished.UTC(), Took: out.Finished.Sub(out.Started).Seconds(),
	}
	if out.Err != nil {
		p.Message = out.Err.Error()
		if len(p.Message) > maxMessage {
			p.Message = strings.ToValidUTF8(p.Message[:maxMessage], "") + " …"
		}
	}
	return p
}

// same reports whether an outcome says nothing new. A repair is news; the words of a failure are not, since they may hold times and counts that differ at each retry.
func same(before, p deploy.Past) bool {
	if p.Phase == deploy.PhaseReady && p.Changes > 0 {
		return false
	}
	return before.Revision == p.Revision && before.Phase == p.Phase && before.Reason == p.Reason
}
