// Package helm is the release engine: it makes a Helm release be what a chart and values say, and is the only importer of the Helm SDK.
package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"
	"helm.sh/helm/v3/pkg/chart/loader"
	helmkube "helm.sh/helm/v3/pkg/kube"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

const (
	// defaultTimeout is used where a target has none: Flux's default for one Helm operation.
	defaultTimeout = 5 * time.Minute
	// recordGrace is how long after its timeout an operation may still talk to the server, in order to record that it failed.
	recordGrace = 15 * time.Second
	// maxChartSize is what a chart may unpack to, in bytes. Helm allows 100 MiB, which a small node does not have; real charts stay below 10 MiB.
	maxChartSize = 32 << 20
)

// setGlobals sets what the SDK keeps in package variables, once for the process: they are read without a lock by running operations. The standard log is shut, to which it writes of
// values that do not fit each other, and quotes them.
var setGlobals = sync.OnceFunc(func() {
	helmkube.ManagedFieldsManager = deploy.FieldManager
	loader.MaxDecompressedChartSize = maxChartSize
	log.SetOutput(io.Discard)
})

// Options are what an Engine is made of.
type Options struct {
	// Clients of the agent itself.
	Clients *kube.Clients
	// Clusters that targets are for. Nil: all of them are for that of Clients.
	Clusters Clusters
	// Read reads what valuesFrom names.
	Read Reader
	// Patch runs postRenderers.
	Patch Patcher
	// Log receives the engine's events, and what the SDK says at debug level. Nil: nothing.
	Log *zap.Logger
}

// Engine installs, upgrades and uninstalls releases. It may work on several targets at once, but on each target one call at a time.
type Engine struct {
	own      *kube.Clients
	clusters Clusters
	read     Reader
	patch    Patcher
	log      *zap.Logger

	// mu guards what follows.
	mu sync.Mutex
	// pools are what works in each cluster as each account, by their names.
	pools map[string]*pool
	// settled says at which wish a target's release was last seen as wanted, so that asking again costs nothing.
	settled map[deploy.Name]string
	// undone has the failures that left no record.
	undone map[deploy.Name]undone
	// same has what was found to be the same as the manifest although it looks different.
	same map[deploy.Name]*sameness
	// held is what releases hold whose drift is detected, where the last look is of today's revision.
	held map[deploy.Name]holding
}

// New makes an engine. No request is sent.
func New(o Options) *Engine {
	setGlobals()
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Engine{
		own: o.Clients, clusters: o.Clusters, read: o.Read, patch: o.Patch, log: o.Log.Named("helm"), pools: map[string]*pool{},
		settled: map[deploy.Name]string{}, undone: map[deploy.Name]undone{}, same: map[deploy.Name]*sameness{},
		held: map[deploy.Name]holding{},
	}
}

// Delete uninstalls the target's release and everything that failed revisions of it left behind. A release that is gone, or whose newest revision belongs to
// somebody else, is left alone. The error is a *deploy.Failure.
func (e *Engine) Delete(ctx context.Context, t deploy.Target, progress deploy.Progress) error {
	if t.HelmRelease == nil {
		return fmt.Errorf("%s is not a Helm release", t.Name)
	}
	e.forget(t.Name)
	at, timeout := placeOf(t), uninstallTimeout(t)
	seen, err := e.observe(ctx, t)
	if err != nil {
		return &deploy.Failure{Reason: deploy.ReasonUninstallFailed, Err: err}
	}
	remove, err := decideDelete(seen, t, time.Now(), timeout)
	if err != nil {
		return &deploy.Failure{Reason: deploy.ReasonUninstallFailed, Err: fmt.Errorf("release %s: %w", at, err)}
	}
	if !remove {
		e.log.Info("nothing to uninstall", zap.Stringer("target", t.Name), zap.Stringer("release", at), zap.Int("revisions", len(seen)))
		return nil
	}
	err = e.operate(ctx, t, at, timeout, progress, func(op *operation) error {
		op.seed(seen)
		return op.remove(t)
	})
	if err != nil {
		return failure(ctx, deploy.ReasonUninstallFailed, timeout, err)
	}
	return nil
}

// operate runs one operation under its own deadline and turns a panic of the SDK into an error.
func (e *Engine) operate(ctx context.Context, t deploy.Target, at place, timeout time.Duration, progress deploy.Progress, do func(*operation) error) (err error) {
	if progress == nil {
		progress = func(deploy.Phase, string) {}
	}
	hard, cancel := context.WithTimeout(ctx, timeout+recordGrace)
	defer cancel()
	p, err := e.at(hard, t)
	if err != nil {
		return err
	}
	op, err := p.operation(hard, at, timeout, t.HelmRelease.Values, e.log.With(zap.Stringer("target", t.Name), zap.Stringer("release", at)), progress)
	if err != nil {
		return err
	}
	op.patch = e.patch
	op.kube.progress = func(phase deploy.Phase, words string) { progress(phase, op.masked(t).text(words)) } // objects say why they are not ready
	if op.kube.rules, err = rulesOf(t); err != nil {
		return err
	}
	defer func() {
		err = e.missingAccount(ctx, t, op.masked(t).error(err))
		if p := (*panicError)(nil); errors.As(err, &p) {
			e.log.Error("panic", zap.Stringer("target", t.Name), zap.String("type", p.kind), zap.ByteString("stack", p.stack))
		}
		if err != nil && op.kube.late {
			err = &lateError{err}
		}
	}()
	defer recovered(&err)
	return do(op)
}

// lateError marks an operation that ran out of time, in a way that the SDK's rewording cannot lose.
type lateError struct{ error }

func (e *lateError) Unwrap() error { return e.error }

// panicError is a panic of the SDK. Its text says of what type it was; not its value, which may quote what the SDK choked on.
type panicError struct {
	kind  string
	stack []byte
}

func (e *panicError) Error() string {
	return "the Helm SDK panicked (" + e.kind + "); the log has the stack"
}

// recovered turns a panic into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = &panicError{kind: fmt.Sprintf("%T", r), stack: debug.Stack()}
	}
}

// failure is the one place where an error of an operation gets its reason.
func failure(ctx context.Context, reason string, timeout time.Duration, err error) error {
	var late *lateError
	switch {
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &deploy.Failure{Reason: deploy.ReasonCanceled, Err: fmt.Errorf("canceled, the release is taken up again later: %w", context.Cause(ctx))}
	case errors.As(err, &late):
		return &deploy.Failure{Reason: deploy.ReasonTimeout, Err: fmt.Errorf("after %s: %w", timeout, err)}
	case errors.Is(err, context.DeadlineExceeded):
		return &deploy.Failure{Reason: deploy.ReasonTimeout, Err: fmt.Errorf("not done within %s: %w", timeout, err)}
	}
	return &deploy.Failure{Reason: reason, Err: err}
}

func withError(changes []deploy.Change, err error) []deploy.Change {
	out := append([]deploy.Change(nil), changes...)
	for i := range out {
		out[i].Err = err
	}
	return out
}

func (e *Engine) isSettled(n deploy.Name, wish string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.settled[n] == wish
}

func (e *Engine) settle(n deploy.Name, wish string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settled[n] = wish
}

func (e *Engine) unsettle(n deploy.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.settled, n)
}

// forget drops all that is known of a target.
func (e *Engine) forget(n deploy.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.settled, n)
	delete(e.undone, n)
	delete(e.same, n)
	delete(e.held, n)
}
