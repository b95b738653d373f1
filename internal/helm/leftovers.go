package helm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/resource"

	helmkube "helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
)

// removeLeftovers deletes what revisions that failed or were interrupted have created and the kept revisions do not have. Helm forgets such objects: they would survive even the
// uninstallation. Only objects go that bear the release's own marks and no wish to be kept.
func (op *operation) removeLeftovers(history, kept []*release.Release, from ...release.Status) ([]deploy.Change, error) {
	history = slices.DeleteFunc(slices.Clone(history), func(r *release.Release) bool {
		return !slices.Contains(from, r.Info.Status) || slices.ContainsFunc(kept, func(k *release.Release) bool { return k.Manifest == r.Manifest })
	})
	if len(history) == 0 {
		return nil, nil
	}
	var keep helmkube.ResourceList
	for _, k := range kept {
		has, err := op.kube.Build(strings.NewReader(k.Manifest), false)
		if err != nil {
			return nil, fmt.Errorf("read the manifest of release %s: %w", op.place, err)
		}
		keep = append(keep, has...)
	}
	var changes []deploy.Change
	var errs []error
	for _, r := range history {
		had, err := op.kube.Build(strings.NewReader(r.Manifest), false)
		if err != nil {
			errs = append(errs, fmt.Errorf("read the manifest of revision %d: %w", r.Version, err))
			continue
		}
		for _, i := range had.Difference(keep) {
			keep = append(keep, i) // looked after once, however many revisions had it
			gone, err := op.removeOwn(i)
			if err != nil {
				errs = append(errs, err)
			}
			if gone || err != nil {
				changes = append(changes, deploy.Change{Action: deploy.ActionPrune, Object: idOf(i), Err: err})
			}
		}
	}
	return changes, errors.Join(errs...)
}

// removeOwn deletes an object that is there and the release's.
func (op *operation) removeOwn(i *resource.Info) (bool, error) {
	h := resource.NewHelper(i.Client, i.Mapping)
	live, err := h.Get(i.Namespace, i.Name)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s, left by a failed revision: %w", nameOf(i), err)
	}
	m, err := meta.Accessor(live)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", nameOf(i), err)
	}
	a := m.GetAnnotations()
	if a[annotationRelease] != op.place.name || a[annotationReleaseNamespace] != op.place.namespace || a[helmkube.ResourcePolicyAnno] == helmkube.KeepPolicy {
		return false, nil
	}
	if m.GetDeletionTimestamp() != nil {
		return false, nil
	}
	if op.secrets.dry {
		return true, nil
	}
	uid, background := m.GetUID(), metav1.DeletePropagationBackground
	_, err = h.DeleteWithOptions(i.Namespace, i.Name, &metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("delete %s, left by a failed revision: %w", nameOf(i), err)
	}
	return true, nil
}

func sortByRevision(list []*release.Release) {
	slices.SortFunc(list, func(a, b *release.Release) int { return a.Version - b.Version })
}
