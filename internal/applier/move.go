package applier

import (
	"context"
	"fmt"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// Move is called when a target names another cluster than the one that its objects are in. Where that is the same one by another name (a Secret that was renamed, another context)
// nothing has to go: the inventory learns the new name and stayed is true. Otherwise the caller deletes the target where it was; but not before the new cluster answers,
// since a mistyped name must not take away what runs.
func (e *Engine) Move(ctx context.Context, from, to deploy.Target) (stayed bool, err error) {
	was, is := e.info(from), e.info(to)
	if err := e.unreachable(ctx, to); err != nil {
		return false, failure(ctx, deploy.ReasonPruneFailed, fmt.Errorf("%s cannot be used yet: %w", is.place(), err))
	}
	same, err := e.sameCluster(ctx, from, to)
	if err != nil || !same {
		return false, nil //nolint:nilerr // of the old cluster the deletion speaks
	}
	if err := e.store.rename(ctx, was, is); err != nil {
		return false, failure(ctx, deploy.ReasonPruneFailed, err)
	}
	e.forget(to.Name)
	e.log.Info("target's cluster has another name", zap.Stringer("target", to.Name), zap.String("was", was.cluster), zap.String("is", is.cluster))
	return true, nil
}

// sameCluster reports whether two targets are for one cluster: with one kube-system, which each cluster has and nobody can make anew, or where that cannot be seen, with one address.
// An error means that there are no clients to ask with.
func (e *Engine) sameCluster(ctx context.Context, a, b deploy.Target) (bool, error) {
	var hosts, ids [2]string
	for n, t := range []deploy.Target{a, b} {
		k := *t.Kustomization
		k.ServiceAccountName = "" // an account for a target's objects need not be able to see it
		t.Kustomization = &k
		here, err := e.site(ctx, t)
		if err != nil {
			return false, err
		}
		hosts[n] = here.clients.Config.Host
		if ns, err := here.clients.Kubernetes.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{}); err == nil {
			ids[n] = string(ns.UID)
		}
	}
	if ids[0] != "" && ids[1] != "" {
		return ids[0] == ids[1], nil
	}
	return hosts[0] == hosts[1], nil
}
