package reconcile

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// clockRetry is when another attempt follows one that a suspect clock made fail: the clock may be set at any moment.
const clockRetry = 15 * time.Second

// stage is how far an attempt came.
type stage int

const (
	stagePlan stage = iota
	stageApply
	stageDelete
)

// classify turns an error into a phase and a reason. An engine's own reason goes before what can be guessed from the error; a cancellation from outside goes
// before both, since whatever the engine made of it is not the target's fault.
func classify(err, parent error, at stage, kind deploy.Kind) (deploy.Phase, string) {
	if err == nil {
		return deploy.PhaseReady, ""
	}
	if errors.Is(parent, context.Canceled) {
		return deploy.PhaseFailed, deploy.ReasonCanceled
	}
	if deploy.SuspectClock(err, time.Now()) != nil { // whatever it kept the engine from
		return deploy.PhaseFailed, deploy.ReasonClockSuspect
	}
	var failure *deploy.Failure
	if errors.As(err, &failure) && failure.Reason != "" && failure.Reason != deploy.ReasonCanceled {
		if failure.Degraded {
			return deploy.PhaseDegraded, failure.Reason
		}
		return deploy.PhaseFailed, failure.Reason
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return deploy.PhaseFailed, deploy.ReasonTimeout
	}
	return deploy.PhaseFailed, stageReason(at, kind)
}

// stageReason is the reason of an error that says nothing about itself.
func stageReason(at stage, kind deploy.Kind) string {
	switch {
	case at == stagePlan:
		return deploy.ReasonPlanFailed
	case at == stageDelete && kind == deploy.KindHelmRelease:
		return deploy.ReasonUninstallFailed
	case at == stageDelete:
		return deploy.ReasonPruneFailed
	}
	return deploy.ReasonApplyFailed
}

const (
	// defaultTimeout is used for a target without one, in a record of an older version: Flux's default.
	defaultTimeout = 5 * time.Minute
	// helmOperations is how many operations of Helm, each with its own timeout, one attempt may make: a look for drift, an upgrade, its tests, and the rollback of it.
	helmOperations = 4
	// helmHeadroom is what an attempt needs beside Helm's operations: loading, rendering, reading the records.
	helmHeadroom = time.Minute
)

// limit is how long one attempt may take. A kustomization's timeout spans the whole attempt. A release's timeout is for one operation and kept by the
// engine; the limit here only catches an engine that hangs.
func limit(t deploy.Target) time.Duration {
	timeout := t.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	h := t.HelmRelease
	if h == nil {
		return timeout
	}
	longer := func(d *metav1.Duration) {
		if d != nil {
			timeout = max(timeout, d.Duration)
		}
	}
	if h.Install != nil {
		longer(h.Install.Timeout)
	}
	if h.Upgrade != nil {
		longer(h.Upgrade.Timeout)
	}
	if h.Uninstall != nil {
		longer(h.Uninstall.Timeout)
	}
	if h.Rollback != nil {
		longer(h.Rollback.Timeout)
	}
	if h.Test != nil {
		longer(h.Test.Timeout)
	}
	return helmOperations*timeout + helmHeadroom
}
