package helm

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/expr"
)

// rules are the healthCheckExprs of a target, compiled. The zero value: none.
type rules map[schema.GroupKind][]versionRule

// versionRule judges the objects of one version of a kind.
type versionRule struct {
	version string
	rule    *expr.HealthRule
}

// rulesOf compiles a target's expressions. A target without any costs nothing.
func rulesOf(t deploy.Target) (rules, error) {
	if t.HelmRelease == nil || len(t.HelmRelease.HealthCheckExprs) == 0 {
		return nil, nil
	}
	out := rules{}
	for _, x := range t.HelmRelease.HealthCheckExprs {
		gvk := schema.FromAPIVersionAndKind(x.APIVersion, x.Kind)
		rule, err := expr.Health(x.InProgress, x.Failed, x.Current)
		if err != nil {
			return nil, fmt.Errorf("healthCheckExprs of %s: %w", gvk.GroupKind(), err)
		}
		out[gvk.GroupKind()] = append(out[gvk.GroupKind()], versionRule{gvk.Version, rule})
	}
	return out, nil
}

// judge holds an object against the expressions for its kind; where there are none, against Helm's rules for the kinds that Helm knows, and against kstatus for all others: a custom
// resource is ready when its conditions say so, and one that has none is. https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus
func (r rules) judge(u *unstructured.Unstructured, jobs bool) verdict {
	gvk := u.GroupVersionKind()
	mine := r[gvk.GroupKind()]
	switch {
	case len(mine) == 0 && helmKnows(gvk.GroupKind()):
		return readiness(u, jobs)
	case len(mine) == 0:
		return conditions(u)
	case u.GetDeletionTimestamp() != nil:
		return unready(beingDeleted)
	}
	i := slices.IndexFunc(mine, func(v versionRule) bool { return v.version == gvk.Version })
	if i < 0 {
		return unready("its healthCheckExprs are for version %s, the chart has %s", mine[0].version, gvk.Version)
	}
	word, message := mine[i].rule.Judge(u.Object)
	switch word {
	case expr.Current:
		return isReady
	case expr.Failed:
		if message == "" {
			message = "it failed, by its healthCheckExprs"
		}
		return failedFor("%s", message)
	}
	if message == "" {
		message = "it is in progress, by its healthCheckExprs"
	}
	return unready("%s", message)
}

// conditions judges an object by what its kind has in common with others.
func conditions(u *unstructured.Unstructured) verdict {
	r, err := status.Compute(u)
	switch {
	case err != nil:
		return unready("its status cannot be read: %v", err)
	case r.Status == status.CurrentStatus:
		return isReady
	case r.Status == status.FailedStatus:
		return failedFor("%s", r.Message)
	case u.GetDeletionTimestamp() != nil:
		return unready(beingDeleted)
	}
	return unready("%s", r.Message)
}
