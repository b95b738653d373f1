package helm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

// Clusters hands out the clients of the cluster and account that a target names, the same for the same.
type Clusters interface {
	For(ctx context.Context, t deploy.Target) (*kube.Clients, error)
}

// poolIdle is after how long a pool that nobody asked for is dropped: no target names its cluster and account any more.
const poolIdle = 2 * time.Hour

// at is what works for a target: in its cluster, as its account.
func (e *Engine) at(ctx context.Context, t deploy.Target) (*pool, error) {
	clients, name := e.own, ""
	if e.clusters != nil {
		var err error
		if clients, err = e.clusters.For(ctx, t); err != nil {
			return nil, err
		}
		name = t.Cluster()
		if account, _ := t.Access(); account != "" {
			name += " as " + t.Name.Namespace + "/" + account
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ok := e.pools[name]
	if !ok {
		maps.DeleteFunc(e.pools, func(_ string, old *pool) bool { return time.Since(old.used) > poolIdle })
	}
	if !ok || p.clients != clients { // a kubeconfig with another token gives other clients
		p = newPool(clients)
		e.pools[name] = p
	}
	p.used = time.Now()
	return p, nil
}

// asAgent is a target as the agent itself would work for it.
func asAgent(t deploy.Target) deploy.Target {
	h := *t.HelmRelease
	h.ServiceAccountName = ""
	t.HelmRelease = &h
	return t
}

// missingAccount adds to a refusal that the account of the target is not there: a mistyped name looks like one without rights. It asks only where something was refused.
func (e *Engine) missingAccount(ctx context.Context, t deploy.Target, err error) error {
	name, _ := t.Access()
	if name == "" || !apierrors.IsForbidden(err) {
		return err
	}
	p, atErr := e.at(ctx, asAgent(t))
	if atErr != nil {
		return err
	}
	if _, getErr := p.clients.Kubernetes.CoreV1().ServiceAccounts(t.Name.Namespace).Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(getErr) {
		return err
	}
	return fmt.Errorf("there is no service account %s in namespace %s: create it or correct serviceAccountName: %w", name, t.Name.Namespace, err)
}

// Move is called when a target names another release, or another cluster, than the one that it has. A release that is where it was, only that its cluster has another name by now, stays.
// Otherwise the caller uninstalls it where it was; but not before the new cluster answers, since a mistyped name must not take away what runs.
func (e *Engine) Move(ctx context.Context, from, to deploy.Target) (stayed bool, err error) {
	if from.HelmRelease == nil || to.HelmRelease == nil {
		return false, fmt.Errorf("%s is not a Helm release", to.Name)
	}
	if from.Cluster() == to.Cluster() {
		return false, nil
	}
	ids := make([]string, 0, 2)
	for _, t := range []deploy.Target{to, from} {
		p, err := e.at(ctx, asAgent(t))
		if err == nil {
			_, err = p.clients.Kubernetes.Discovery().ServerVersion()
		}
		if err != nil && len(ids) > 0 {
			return false, nil //nolint:nilerr // of the old cluster the uninstallation speaks
		}
		if err != nil {
			return false, failure(ctx, deploy.ReasonUninstallFailed, targetTimeout(to), fmt.Errorf("the new cluster cannot be used yet: %w", err))
		}
		id := p.clients.Config.Host
		if ns, err := p.clients.Kubernetes.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{}); err == nil {
			id = string(ns.UID)
		}
		ids = append(ids, id)
	}
	if ids[0] != ids[1] || from.Release() != to.Release() {
		return false, nil
	}
	e.unsettle(to.Name)
	e.log.Info("the release's cluster has another name", zap.Stringer("target", to.Name), zap.String("was", from.Cluster()), zap.String("is", to.Cluster()))
	return true, nil
}

// renamedError is an upgrade to a chart of another name: as in Flux, that is another release in the same place.
type renamedError struct{ was, is string }

func (e *renamedError) Error() string {
	return fmt.Sprintf("the release is of chart %s, and the chart is %s now", e.was, e.is)
}

// renamed reports whether an error is that.
func renamed(err error) bool {
	var r *renamedError
	return errors.As(err, &r)
}

// sameChart fails where the release that is there is of a chart of another name.
func (n note) sameChart(names []string, name string) error {
	if n.decision.do != doUpgrade || len(names) == 0 || slices.Contains(names, name) {
		return nil
	}
	return &renamedError{was: names[len(names)-1], is: name}
}
