package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	helmkube "helm.sh/helm/v3/pkg/kube"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
)

// Annotations that Helm puts on what it installs.
const (
	annotationRelease          = "meta.helm.sh/release-name"
	annotationReleaseNamespace = "meta.helm.sh/release-namespace"
)

// client is Helm's Kubernetes client with waits that end with the operation, and with care about whose objects it takes.
type client struct {
	*helmkube.Client
	ctx      context.Context // of the operation: see there
	set      *kubernetes.Clientset
	dynamic  dynamic.Interface
	deadline time.Time
	place    place
	target   string // deploy.LabelTarget's value
	rules    rules
	progress deploy.Progress
	log      func(string, ...any)
	// tried is what revisions after the last good one have sent before they failed, oldest first.
	tried []helmkube.ResourceList
	// recorded says that the pending record is stored.
	recorded bool
	// removing says that this is an uninstallation, testing that the chart's tests run.
	removing, testing bool
	// late says that a wait ran out of time: the SDK keeps only the text of some errors.
	late bool
	// named are the names of all objects that the operation has had to do with.
	named []string
	// undeleted is why objects could not be deleted: the SDK drops that.
	undeleted []error
	// lingering: objects of an uninstalled release are still there, when the time was up.
	lingering bool
}

var (
	_ helmkube.Interface                    = (*client)(nil)
	_ helmkube.InterfaceExt                 = (*client)(nil)
	_ helmkube.InterfaceThreeWayMerge       = (*client)(nil)
	_ helmkube.InterfaceLogs                = (*client)(nil)
	_ helmkube.InterfaceDeletionPropagation = (*client)(nil)
)

// IsReachable costs a request and says nothing that the next request would not.
func (c *client) IsReachable() error { return nil }

// GetPodList finds nothing, so that no hook's output is copied: it may hold secrets, and nobody reads it.
func (c *client) GetPodList(string, metav1.ListOptions) (*corev1.PodList, error) {
	return &corev1.PodList{}, nil
}

// OutputContainerLogsForPodList copies nothing: see GetPodList.
func (c *client) OutputContainerLogsForPodList(*corev1.PodList, string, func(_, _, _ string) io.Writer) error {
	return nil
}

// Build reads a manifest. Where that is not one to be applied (validate is false), kinds that the server no longer has are left out: their objects are gone with
// them, and an upgrade or uninstall must not fail for ever because a CRD was deleted first. The mapper says so only of groups that answered.
func (c *client) Build(r io.Reader, validate bool) (list helmkube.ResourceList, err error) {
	defer recovered(&err)
	list, err = c.Client.Build(r, validate)
	for _, i := range list {
		c.named = append(c.named, i.Name, i.Namespace)
	}
	if err == nil || validate {
		return list, err
	}
	return list, utilerrors.FilterOut(err, func(err error) bool {
		var gone *meta.NoKindMatchError
		return errors.As(err, &gone)
	})
}

// Create sends the objects kind by kind, and stops between kinds when the operation has ended.
func (c *client) Create(list helmkube.ResourceList) (res *helmkube.Result, err error) {
	defer recovered(&err)
	done := &helmkube.Result{}
	var errs []error
	for rest := list; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(i *resource.Info) bool { return kindOf(i) != kindOf(rest[0]) })
		if n < 0 {
			n = len(rest)
		}
		if err := c.ctx.Err(); err != nil {
			return done, err
		}
		got, err := c.create(rest[:n])
		if err != nil {
			errs = append(errs, flat(err))
		} else {
			done.Created = append(done.Created, got.Created...)
		}
		rest = rest[n:]
		if c.recorded {
			crashpoint.At("helm.installed-record-pending")
		}
	}
	return done, errors.Join(errs...)
}

// create creates objects of one kind. A namespace may have come to be since the SDK looked: install.createNamespace makes it, and the chart may have it too.
func (c *client) create(list helmkube.ResourceList) (*helmkube.Result, error) {
	if kindOf(list[0]) == "Namespace" {
		return c.Client.UpdateThreeWayMerge(nil, list, false)
	}
	return c.Client.Create(list)
}

// Update implements helmkube.Interface. Custom resources are merged three-way too: without that, a field that a chart dropped would stay.
func (c *client) Update(original, target helmkube.ResourceList, force bool) (*helmkube.Result, error) {
	return c.UpdateThreeWayMerge(original, target, force)
}

// UpdateThreeWayMerge implements helmkube.InterfaceThreeWayMerge. Objects that are in both lists by identity are those that Helm found in the cluster and is about to adopt.
func (c *client) UpdateThreeWayMerge(original, target helmkube.ResourceList, force bool) (res *helmkube.Result, err error) {
	res = &helmkube.Result{} // the SDK reads it also after an error
	defer recovered(&err)
	for _, o := range original {
		if slices.Contains(target, o) {
			if err := c.refuseForeign(o); err != nil {
				return res, err
			}
		}
	}
	if err := c.refuseDropped(original.Difference(target)); err != nil {
		return res, err
	}
	for _, sent := range c.tried {
		created, err := c.takeBack(sent, target)
		res.Created = append(res.Created, created...)
		if err != nil {
			return res, err
		}
	}
	got, err := c.Client.UpdateThreeWayMerge(original, target, force)
	if got != nil {
		got.Created = append(res.Created, got.Created...)
		res = got
	}
	return res, err
}

// takeBack merges the target with what a failed revision has sent. Helm compares with the last good revision only: a container or key that the failed one added, and
// the next one has no more, would stay for ever.
func (c *client) takeBack(sent, target helmkube.ResourceList) (helmkube.ResourceList, error) {
	var from, to helmkube.ResourceList
	for _, t := range target {
		if s := sent.Get(t); s != nil {
			mine := *t
			mine.Object = t.Object.DeepCopyObject() // it becomes the live object, and the SDK has not sent its own yet
			from, to = append(from, s), append(to, &mine)
		}
	}
	if len(to) == 0 {
		return nil, nil
	}
	got, err := c.Client.UpdateThreeWayMerge(from, to, false)
	if got == nil {
		return nil, err
	}
	return got.Created, err
}

// DeleteWithPropagationPolicy implements helmkube.InterfaceDeletionPropagation.
func (c *client) DeleteWithPropagationPolicy(list helmkube.ResourceList, policy metav1.DeletionPropagation) (*helmkube.Result, []error) {
	res, errs := c.Client.DeleteWithPropagationPolicy(list, policy)
	c.undeleted = append(c.undeleted, errs...)
	return res, errs
}

// refuseForeign fails for an object that another release or target has: two owners would take it from each other for ever.
func (c *client) refuseForeign(i *resource.Info) error {
	live, err := resource.NewHelper(i.Client, i.Mapping).Get(i.Namespace, i.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", nameOf(i), err)
	}
	m, err := meta.Accessor(live)
	if err != nil {
		return fmt.Errorf("read %s: %w", nameOf(i), err)
	}
	return c.foreign(m, nameOf(i))
}

// foreign says whose a live object is, where that is another release or target.
func (c *client) foreign(m metav1.Object, called string) error {
	if t := m.GetLabels()[deploy.LabelTarget]; t != "" && t != c.target {
		return fmt.Errorf("%s exists and belongs to %s: remove it there or take it out of the chart", called, deploy.LabelledTarget(t))
	}
	a := m.GetAnnotations()
	name, ns := a[annotationRelease], a[annotationReleaseNamespace]
	if name != "" && (name != c.place.name || ns != c.place.namespace) {
		return fmt.Errorf("%s exists and belongs to release %s/%s: remove it there, or take the annotation %s off it", called, ns, name, annotationRelease)
	}
	return nil
}

// flat undoes the SDK's lists of errors, which are many lines long even for one.
func flat(err error) error {
	var many interface{ WrappedErrors() []error }
	if errors.As(err, &many) {
		return errors.Join(many.WrappedErrors()...)
	}
	return err
}

func kindOf(i *resource.Info) string { return i.Object.GetObjectKind().GroupVersionKind().Kind }

func nameOf(i *resource.Info) string { return idOf(i).String() }

func idOf(i *resource.Info) deploy.ObjectID {
	gvk := i.Mapping.GroupVersionKind
	return deploy.ObjectID{Group: gvk.Group, Kind: gvk.Kind, Namespace: i.Namespace, Name: i.Name}
}
