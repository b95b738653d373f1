package applier

import (
	"context"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/towline/towline/internal/deploy"
)

// knock is the longest that a cluster whose objects are to be left there gets to answer, with all tries: it may be slow, or be gone.
const knock = 30 * time.Second

// leave forgets the objects of a target that are to be orphaned in another cluster which nobody can get into any more: its kubeconfig is gone or broken, it does not answer, or it
// does not know us. Their marks stay on them. In a cluster that can be reached they are taken off, so that somebody else may have the objects: then, left is false.
func (e *Engine) leave(ctx context.Context, t deploy.Target, i info) (left bool, err error) {
	if i.cluster == "" || t.Kustomization.DeletionPolicy != deploy.DeletionOrphan {
		return false, nil
	}
	why := e.unreachable(ctx, t)
	if why == nil || ctx.Err() != nil {
		return false, ctx.Err()
	}
	known, err := e.store.read(ctx, i)
	if err != nil {
		return false, err
	}
	e.log.Warn("objects are left in a cluster that cannot be reached", zap.Stringer("target", t.Name), zap.String("cluster", i.cluster), zap.Int("objects", len(known)), zap.Error(why))
	return true, e.store.update(ctx, i, func(es entries) { clear(es) })
}

// unreachable says why nothing can be done in the cluster of a target; nil where it answers, be it with a refusal of this one question.
func (e *Engine) unreachable(ctx context.Context, t deploy.Target) error {
	most := knock
	if end, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(end)/2) // so that there is time to act on the answer
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return retry(ctx, transient, func() error {
		here, err := e.site(ctx, t)
		if err != nil {
			return err
		}
		err = here.clients.Kubernetes.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error()
		if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsTooManyRequests(err) {
			return nil
		}
		return err
	})
}
