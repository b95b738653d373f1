package helm

import (
	"cmp"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
)

// remove runs Helm's uninstall action. Helm looks at the newest revision only: what an older or failed one has beyond that goes first, while it is still on record.
func (op *operation) remove(t deploy.Target) error {
	history, err := op.history()
	if err != nil || len(history) == 0 {
		return err
	}
	o := t.HelmRelease.Uninstall
	if o == nil {
		o = &deploy.Uninstall{}
	}
	last := history[len(history)-1]
	op.place.namespace = last.Namespace // the record knows where the objects are; the target may say something newer
	op.kube.removing = true
	op.kube.Namespace, op.kube.place = last.Namespace, op.place
	crashpoint.At("helm.before-uninstall")
	op.progress(deploy.PhaseDeleting, "uninstalling release "+op.place.String())
	if _, err := op.removeLeftovers(history, []*release.Release{last}, release.StatusDeployed, release.StatusFailed, release.StatusPendingInstall, release.StatusPendingUpgrade,
		release.StatusPendingRollback); err != nil {
		return err
	}
	un := action.NewUninstall(op.cfg)
	un.IgnoreNotFound = true
	un.KeepHistory, un.Wait, un.DisableHooks = o.KeepHistory, !o.DisableWait, o.DisableHooks
	un.DeletionPropagation = cmp.Or(string(o.DeletionPropagation), string(deploy.PropagationBackground))
	un.Timeout = op.timeout
	if _, err := un.Run(op.place.name); err != nil {
		return fmt.Errorf("uninstall release %s: %w", op.place, errors.Join(append([]error{err}, op.kube.undeleted...)...))
	}
	op.log.Info("release uninstalled", zap.Int("revisions", len(history)), zap.Bool("historyKept", o.KeepHistory))
	return op.ctx.Err()
}
