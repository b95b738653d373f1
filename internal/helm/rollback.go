package helm

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
)

// Rollback makes the release be what a revision was, and holds it there: until what is wanted changes, or somebody asks for an attempt. Revision 0 is the newest but the last that was
// good. It returns which one it was. The errors are *deploy.Failure.
func (e *Engine) Rollback(ctx context.Context, t deploy.Target, revision int, progress deploy.Progress) (to int, err error) {
	fail := func(err error) (int, error) {
		return 0, &deploy.Failure{Reason: deploy.ReasonRollbackFailed, Err: fmt.Errorf("release %s: %w", placeOf(t), err)}
	}
	if t.HelmRelease == nil {
		return 0, fmt.Errorf("%s is not a Helm release", t.Name)
	}
	at, timeout := placeOf(t), rollbackTimeout(t)
	seen, err := e.observe(ctx, t)
	if err != nil {
		return fail(err)
	}
	if to, err = rollbackTo(seen, revision, t, time.Now()); err != nil {
		return fail(err)
	}
	e.unsettle(t.Name)
	last := seen.last()
	rejected := last.fingerprint
	if last.rejected != "" {
		rejected = last.rejected // what the config wants was left before
	}
	err = e.operate(ctx, t, at, timeout, progress, func(op *operation) error {
		if err := op.recoverLast(last); err != nil {
			return err
		}
		return op.rollback(t, to, map[string]string{labelRejected: string(rejected), labelHeld: "true"})
	})
	if err != nil {
		return 0, failure(ctx, deploy.ReasonRollbackFailed, timeout, err)
	}
	return to, nil
}

// rollbackTo checks that there is something to roll back, and to.
func rollbackTo(o observation, wanted int, t deploy.Target, now time.Time) (int, error) {
	if len(o) == 0 || o.last().status == release.StatusUninstalled {
		return 0, fmt.Errorf("it is not installed")
	}
	last := o.last()
	if err := last.belongs(t.Name.LabelValue()); err != nil {
		return 0, err
	}
	if err := last.locked(now, targetTimeout(t)); err != nil {
		return 0, err
	}
	if wanted == 0 {
		good := o.lastGood()
		if good == 0 {
			return 0, fmt.Errorf("there is no earlier revision that was good: towline history %s lists them", t.Name)
		}
		return good, nil
	}
	i := slices.IndexFunc(o, func(r revision) bool { return r.version == wanted })
	switch {
	case i < 0:
		return 0, fmt.Errorf("there is no revision %d: towline history %s lists them", wanted, t.Name)
	case o[i].status != release.StatusDeployed && o[i].status != release.StatusSuperseded:
		return 0, fmt.Errorf("revision %d is %s, it never was good", wanted, o[i].status)
	case i == len(o)-1:
		return 0, fmt.Errorf("revision %d is the one that is there", wanted)
	}
	return wanted, nil
}

// recoverLast marks the newest revision failed where its operation died: Helm takes what it has from there, but what it left pending would stay so.
func (op *operation) recoverLast(last revision) error {
	if !last.interrupted() {
		return nil
	}
	history, err := op.history()
	if err != nil {
		return err
	}
	return op.recover(history, note{observed: observation{last}, decision: decision{recover: true}})
}

// rollback runs Helm's rollback action. The new revision bears the fingerprint of the old one, as far as it had any, and the labels.
func (op *operation) rollback(t deploy.Target, to int, labels map[string]string) error {
	history, err := op.history()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(history, func(r *release.Release) bool { return r.Version == to })
	if i < 0 {
		return fmt.Errorf("revision %d is gone", to)
	}
	op.stamp = map[string]string{deploy.LabelTarget: t.Name.LabelValue()}
	if old := history[i].Labels; old[labelRevision] == strconv.Itoa(to) {
		op.stamp[labelFingerprint] = old[labelFingerprint]
		if old[labelTested] != "" {
			op.stamp[labelTested] = old[labelTested]
		}
	}
	maps.Copy(op.stamp, labels)
	op.kube.target = t.Name.LabelValue()
	op.progress(deploy.PhaseApplying, fmt.Sprintf("rolling back to revision %d", to))
	crashpoint.At("helm.before-rollback")
	o := orZero(t.HelmRelease.Rollback)
	back := action.NewRollback(op.cfg)
	back.Version, back.Timeout = to, op.timeout
	back.Wait, back.WaitForJobs, back.DisableHooks = !o.DisableWait, !o.DisableWait && !o.DisableWaitForJobs, o.DisableHooks
	back.Recreate, back.Force, back.CleanupOnFail = o.Recreate, o.Force, o.CleanupOnFail
	defer op.trim(maxHistory(t))
	if err := back.Run(op.place.name); err != nil {
		return fmt.Errorf("roll back to revision %d: %w", to, err)
	}
	made := history[len(history)-1].Version + 1
	status, err := op.secrets.status(made)
	if err != nil {
		return err
	}
	if status != string(release.StatusDeployed) {
		return fmt.Errorf("it was rolled back to revision %d, but the record of that could not be written and says %s", to, status)
	}
	op.log.Info("release rolled back", zap.Int("to", to), zap.Int("revision", made))
	return nil
}

// label writes labels onto the record of a revision.
func (op *operation) label(version int, labels map[string]string) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return err
	}
	name := recordName(op.place.name, version)
	_, err = op.pool.clients.Metadata.Resource(secrets).Namespace(op.place.storage).
		Patch(op.ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: deploy.FieldManager})
	if err != nil {
		return fmt.Errorf("label the record of revision %d: %w", version, err)
	}
	return nil
}

// recordName is what Helm calls the Secret of a revision.
func recordName(releaseName string, version int) string {
	return "sh.helm.release.v1." + releaseName + ".v" + strconv.Itoa(version)
}
