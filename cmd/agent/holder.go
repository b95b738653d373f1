package main

import (
	"context"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/drift"
)

// holder watches what the engines' targets hold.
type holder struct {
	*drift.Watcher
	engines engines
	news    drift.News
	log     *zap.Logger
}

func newHolder(e engines, news drift.News, log *zap.Logger) *holder {
	judges := map[deploy.Kind]drift.Judge{
		deploy.KindKustomization: func(t deploy.Target, s drift.Sight) bool {
			return e.manifests.Deviates(t, s.Object, s.UID, s.Metadata)
		},
	}
	return &holder{Watcher: drift.New(judges, news, log.Named("drift")), engines: e, news: news, log: log}
}

// end tells the watcher what a target holds after an attempt.
func (h *holder) end(ctx context.Context, t deploy.Target, ready bool) {
	var held drift.Holding
	known := true
	if t.Kustomization != nil {
		held.Kinds = h.engines.manifests.Holds(t)
	} else {
		held.Kinds, known = h.engines.releases.Holds(t)
	}
	if len(held.Kinds) > 0 {
		clients, err := h.engines.clusters.For(ctx, t)
		if err != nil {
			h.log.Debug("what a target holds cannot be watched", zap.Stringer("target", t.Name), zap.Error(err))
			held = drift.Holding{}
		}
		held.Clients = clients
	}
	h.End(t, held)
	if !known && ready {
		h.news.Drifted(t.Name) // that says what there is to watch
	}
}
