package main

import (
	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/drift"
)

// holder watches what the engines' targets hold.
type holder struct {
	*drift.Watcher
	engines engines
	news    drift.News
}

func newHolder(e engines, news drift.News, log *zap.Logger) *holder {
	judges := map[deploy.Kind]drift.Judge{
		deploy.KindKustomization: func(t deploy.Target, s drift.Sight) bool {
			return e.manifests.Deviates(t, s.Object, s.UID, s.Metadata)
		},
	}
	return &holder{Watcher: drift.New(judges, news, log.Named("drift")), engines: e, news: news}
}

// suffices reports whether watching a target's objects finds whatever a full check would: not where health is checked, which turns bad by itself, and not of releases, whose records others
// may write.
func (h *holder) suffices(t deploy.Target) bool {
	k := t.Kustomization
	return k != nil && !k.Wait && len(k.HealthChecks) == 0 && h.Watches(t.Name)
}

// end tells the watcher what a target holds after an attempt.
func (h *holder) end(t deploy.Target, ready bool) {
	held, known := drift.Holding{}, true
	if t.Kustomization != nil {
		if h.engines.manifests.Minds(t) {
			held.Clients, held.Kinds = h.engines.manifests.Holds(t)
		}
	} else {
		held.Clients, held.Kinds, known = h.engines.releases.Holds(t)
	}
	h.End(t, held)
	if !known && ready {
		h.news.Drifted(t.Name, nil) // that says what there is to watch
	}
}
