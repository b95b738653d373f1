package helm

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
)

// History lists the revisions of a target's release, the newest first, whoever made them. It reads only. A record that cannot be decoded is in the list, with why. Values do not show:
// they are taken out of Helm's descriptions, which quote what the server refused.
func (e *Engine) History(ctx context.Context, t deploy.Target) ([]deploy.ReleaseRevision, error) {
	if t.HelmRelease == nil {
		return nil, fmt.Errorf("%s is not a Helm release", t.Name)
	}
	var out []deploy.ReleaseRevision
	err := e.operate(ctx, t, placeOf(t), targetTimeout(t), nil, func(op *operation) error {
		op.secrets.dry, op.log = true, zap.NewNop()
		list, err := op.secrets.List(op.ctx, metav1.ListOptions{LabelSelector: labels.Set{"owner": "helm", "name": op.place.name}.String()})
		if err != nil {
			return fmt.Errorf("read the history of release %s: %w", op.place, err)
		}
		for i := range list.Items {
			if r, ok := op.past(t, &list.Items[i]); ok {
				out = append(out, r)
			}
		}
		return nil
	})
	slices.SortFunc(out, func(a, b deploy.ReleaseRevision) int { return cmp.Compare(b.Revision, a.Revision) })
	return out, err
}

// past is what a record says; false: it is not one of Helm's.
func (op *operation) past(t deploy.Target, s *corev1.Secret) (deploy.ReleaseRevision, bool) {
	seen, ok := revisionOf(&metav1.PartialObjectMetadata{ObjectMeta: s.ObjectMeta})
	if !ok {
		return deploy.ReleaseRevision{}, false
	}
	r := deploy.ReleaseRevision{
		Revision: seen.version, Status: string(seen.status), Foreign: !seen.stamped || seen.target != t.Name.LabelValue(),
	}
	if !r.Foreign { // others copy labels without meaning them
		r.Held, r.Rejected, r.Tested, r.Attempts = seen.held, seen.rejected != "", seen.tested, seen.try.number
	}
	rel, err := op.cfg.Releases.Driver.Get(s.Name)
	if err != nil || rel == nil || rel.Info == nil {
		r.Problem = fmt.Sprintf("Secret %s/%s cannot be decoded", s.Namespace, s.Name)
		return r, true
	}
	r.Updated, r.Description = rel.Info.LastDeployed.Time.UTC(), recordMask(op, rel).text(rel.Info.Description)
	if rel.Chart != nil && rel.Chart.Metadata != nil {
		r.Chart, r.Version, r.AppVersion = rel.Chart.Metadata.Name, rel.Chart.Metadata.Version, rel.Chart.Metadata.AppVersion
	}
	return r, true
}

// recordMask hides the values that a revision was made with.
func recordMask(op *operation, rel *release.Release) mask {
	b, err := json.Marshal(rel.Config)
	if err != nil {
		return mask{} // it was JSON when it was read
	}
	return maskOf(b, op.place.name, op.place.namespace, op.place.storage)
}
