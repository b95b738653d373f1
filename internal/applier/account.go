package applier

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// missingAccount adds to a refusal that the account of the target is not there: a mistyped name looks like one without rights. It asks only where something was refused.
func (e *Engine) missingAccount(ctx context.Context, t deploy.Target, err error, changes ...deploy.Change) error {
	var f *deploy.Failure
	name, _ := t.Access()
	if name == "" || !errors.As(err, &f) {
		return err
	}
	if !apierrors.IsForbidden(err) && !slices.ContainsFunc(changes, func(c deploy.Change) bool { return apierrors.IsForbidden(c.Err) }) {
		return err
	}
	k := *t.Kustomization
	k.ServiceAccountName = ""
	asAgent := t
	asAgent.Kustomization = &k
	here, siteErr := e.site(ctx, asAgent)
	if siteErr != nil {
		return err
	}
	if _, getErr := here.clients.Kubernetes.CoreV1().ServiceAccounts(t.Name.Namespace).Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(getErr) {
		return err
	}
	return &deploy.Failure{
		Reason: f.Reason, Degraded: f.Degraded, Err: fmt.Errorf("there is no service account %s in namespace %s: create it or correct serviceAccountName: %w", name, t.Name.Namespace, f.Err),
	}
}
