package helm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/towline/towline/internal/deploy"
)

// maxLooks is how many objects are read at once.
const maxLooks = 8

// The words of kstatus that deploy.Live has.
const (
	healthCurrent     = "Current"
	healthInProgress  = "InProgress"
	healthFailed      = "Failed"
	healthTerminating = "Terminating"
	healthNotFound    = "NotFound"
	healthUnknown     = "Unknown"
)

// Objects are those of the deployed revision's manifest as the cluster has them, in the order in which Helm sends them, workloads with their pods. Where no revision is deployed, they are
// those of the newest that is not uninstalled: what a failed installation has made. Health is judged by the rules that an installation waits by. Nil: nothing is installed.
func (e *Engine) Objects(ctx context.Context, t deploy.Target) ([]deploy.Live, error) {
	if t.HelmRelease == nil {
		return nil, fmt.Errorf("%s is not a Helm release", t.Name)
	}
	at := placeOf(t)
	seen, err := e.observe(ctx, t)
	if err != nil {
		return nil, err
	}
	version, err := installed(seen, t.Name.LabelValue())
	if err != nil {
		return nil, fmt.Errorf("release %s: %w", at, err)
	}
	if version == 0 {
		return nil, nil
	}
	var out []deploy.Live
	err = e.operate(ctx, t, at, targetTimeout(t), nil, func(op *operation) error {
		op.secrets.dry, op.log = true, zap.NewNop()
		rel, err := op.revision(version)
		if err != nil {
			return err
		}
		op.place.namespace = rel.Namespace // of its objects, which the config may by now want elsewhere
		objects, err := (&sketch{op: op}).objects(rel, false)
		if err != nil {
			return err
		}
		out = op.look(objects)
		return op.ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// revision reads the record of one revision, and no other.
func (op *operation) revision(version int) (*release.Release, error) {
	rel, err := records{Secrets: driver.NewSecrets(op.secrets.SecretInterface), op: op}.Get(recordName(op.place.name, version))
	if err != nil {
		return nil, fmt.Errorf("read revision %d of release %s: %w", version, op.place, err)
	}
	return rel, nil
}

// installed is the revision whose objects are there; 0: none.
func installed(o observation, target string) (int, error) {
	for _, r := range slices.Backward(o) {
		if r.status == release.StatusDeployed {
			return r.version, r.belongs(target)
		}
	}
	if len(o) == 0 || o.last().status == release.StatusUninstalled {
		return 0, nil
	}
	return o.last().version, o.last().belongs(target)
}

// belongs fails for a revision of another target.
func (r revision) belongs(target string) error {
	if r.target == "" || r.target == target {
		return nil
	}
	return fmt.Errorf("it belongs to %s", deploy.LabelledTarget(r.target))
}

// look reads the objects and judges them. One that cannot be read says so itself.
func (op *operation) look(objects []piece) []deploy.Live {
	out := make([]deploy.Live, len(objects))
	var group errgroup.Group
	group.SetLimit(maxLooks)
	for i, o := range objects {
		group.Go(func() error {
			u, err := op.dynamic.Resource(o.mapping.Resource).Namespace(o.GetNamespace()).Get(op.ctx, o.GetName(), metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
				out[i] = deploy.Live{Object: o.id, Health: healthNotFound}
			case err != nil:
				out[i] = deploy.Live{Object: o.id, Health: healthUnknown, Message: err.Error()}
			default:
				out[i] = op.kube.rules.liveOf(u)
				out[i].Children = op.podsOf(u)
			}
			return nil
		})
	}
	_ = group.Wait() // nobody fails
	return out
}

// liveOf judges an object as the waits do, Jobs by their completion.
func (r rules) liveOf(u *unstructured.Unstructured) deploy.Live {
	l := deploy.Live{Object: deploy.IDOf(u), Created: u.GetCreationTimestamp().Time}
	if u.GetDeletionTimestamp() != nil {
		l.Health, l.Finalizers = healthTerminating, u.GetFinalizers()
		if len(l.Finalizers) > 0 {
			l.Message = "held by finalizer " + strings.Join(l.Finalizers, ", ")
		}
		return l
	}
	v := r.judge(u, true)
	l.Message = v.detail
	switch {
	case v.failed:
		l.Health = healthFailed
	case v.ready:
		l.Health = healthCurrent
	default:
		l.Health = healthInProgress
	}
	return l
}

var podResource = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// podsOf are a workload's pods, at most as many as one page holds. What cannot be listed is left out: the workload itself says how many are ready.
func (op *operation) podsOf(u *unstructured.Unstructured) (out []deploy.Live) {
	selector, ok := podSelector(u)
	if !ok {
		return nil
	}
	const page = 500
	list, err := op.dynamic.Resource(podResource).Namespace(u.GetNamespace()).List(op.ctx, metav1.ListOptions{LabelSelector: selector, Limit: page})
	if err != nil {
		return nil
	}
	for i := range list.Items {
		if metav1.GetControllerOfNoCopy(&list.Items[i]) != nil { // else it was only labelled alike
			out = append(out, op.kube.rules.liveOf(&list.Items[i]))
		}
	}
	slices.SortFunc(out, func(a, b deploy.Live) int { return strings.Compare(a.Object.Name, b.Object.Name) })
	return out
}
