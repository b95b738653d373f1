package helm

import (
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	helmkube "helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
)

// sketch works out what an operation would change.
type sketch struct {
	op *operation
	// kinds are those that the chart's CRDs would bring, and whether they are namespaced.
	kinds map[schema.GroupKind]bool
	// lost are the objects that were left out.
	lost []*unstructured.Unstructured
	// replaced says why the release is uninstalled and installed anew; nil: it is not.
	replaced error
}

// piece is an object of a manifest, as Helm sends it.
type piece struct {
	*unstructured.Unstructured
	id deploy.ObjectID
	// mapping is nil for a kind that the server does not have yet.
	mapping *meta.RESTMapping
}

// objects reads a revision's manifest: lists taken apart, namespaces filled in, Helm's marks put on. Where it is not about to be sent, objects of kinds that the server does not have are
// left out: see client.Build.
func (s *sketch) objects(r *release.Release, sent bool) ([]piece, error) {
	if r == nil {
		return nil, nil
	}
	parsed, err := parseObjects(r.Manifest)
	if err != nil {
		return nil, err
	}
	var out []piece
	for _, u := range flatten(parsed) {
		s.op.kube.named = append(s.op.kube.named, u.GetName(), u.GetNamespace())
		gvk := u.GroupVersionKind()
		mapping, err := s.op.pool.clients.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		namespaced, promised := s.kinds[gvk.GroupKind()]
		switch {
		case err == nil:
			namespaced = mapping.Scope.Name() == meta.RESTScopeNameNamespace
		case meta.IsNoMatchError(err) && promised:
			mapping = nil
		case meta.IsNoMatchError(err) && !sent:
			s.lost = append(s.lost, u)
			continue
		case meta.IsNoMatchError(err):
			return nil, fmt.Errorf("%s: the server has no kind %s in %s: ensure CRDs are installed first: %w", deploy.IDOf(u), gvk.Kind, u.GetAPIVersion(), err)
		default:
			return nil, err
		}
		switch {
		case !namespaced:
			u.SetNamespace("")
		case u.GetNamespace() == "":
			u.SetNamespace(s.op.place.namespace)
		}
		mark(u, s.op.place)
		out = append(out, piece{Unstructured: u, id: deploy.IDOf(u), mapping: mapping})
	}
	return out, nil
}

// flatten takes lists apart.
func flatten(in []*unstructured.Unstructured) (out []*unstructured.Unstructured) {
	for _, u := range in {
		if !u.IsList() {
			out = append(out, u)
			continue
		}
		_ = u.EachListItem(func(o runtime.Object) error { // only the callback could fail
			if item, ok := o.(*unstructured.Unstructured); ok {
				out = append(out, item)
			}
			return nil
		})
	}
	return out
}

// mark puts on an object what Helm puts on all that it sends.
func mark(u *unstructured.Unstructured, at place) {
	labels, annotations := maps.Clone(u.GetLabels()), maps.Clone(u.GetAnnotations())
	if labels == nil {
		labels = map[string]string{}
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	labels["app.kubernetes.io/managed-by"] = "Helm"
	annotations[annotationRelease], annotations[annotationReleaseNamespace] = at.name, at.namespace
	u.SetLabels(labels)
	u.SetAnnotations(annotations)
}

// changes holds the manifests against each other: what is new or different in the order of the new one, then what it dropped.
func (s *sketch) changes(before, after []piece) ([]deploy.Difference, error) {
	had := map[deploy.ObjectID]piece{}
	for _, o := range before {
		had[o.id] = o
	}
	var out []deploy.Difference
	has := map[deploy.ObjectID]bool{}
	for _, o := range after {
		has[o.id] = true
		old, ok := had[o.id]
		if !ok || s.replaced != nil {
			d, err := s.added(o, ok)
			if err != nil {
				return nil, err
			}
			out = append(out, d...)
			continue
		}
		if fields := fieldsThatDiffer(old.Object, o.Object); len(fields) > 0 {
			out = append(out, deploy.Difference{
				Change: deploy.Change{Action: deploy.ActionUpdate, Object: o.id, Fields: fields}, Before: old.Unstructured, After: o.Unstructured,
			})
		}
	}
	for _, o := range before {
		if has[o.id] {
			continue
		}
		d, err := s.dropped(o)
		if err != nil {
			return nil, err
		}
		out = append(out, d...)
	}
	return out, nil
}

// added is an object that the deployed revision does not have, or that goes with it. One that is there all the same is taken over, unless it is somebody else's.
func (s *sketch) added(o piece, goes bool) ([]deploy.Difference, error) {
	live, err := s.live(o)
	if err != nil {
		return nil, err
	}
	if live == nil {
		return []deploy.Difference{{Change: deploy.Change{Action: deploy.ActionCreate, Object: o.id}, After: o.Unstructured}}, nil
	}
	if goes && live.GetAnnotations()[helmkube.ResourcePolicyAnno] != helmkube.KeepPolicy {
		c := deploy.Change{Action: deploy.ActionRecreate, Object: o.id, Fields: fieldsThatDiffer(live.Object, o.Object), Reason: "the release is replaced"}
		return []deploy.Difference{{Change: c, Before: live, After: o.Unstructured}}, nil
	}
	c := deploy.Change{Action: deploy.ActionUpdate, Object: o.id, Reason: "it exists and is taken over"}
	a := live.GetAnnotations()
	if a[annotationRelease] == s.op.place.name && a[annotationReleaseNamespace] == s.op.place.namespace {
		c.Reason = "it is there from an earlier revision"
	}
	c.Err = s.op.kube.foreign(live, o.id.String())
	then, err := overlay(live, o.Unstructured)
	if err != nil {
		return nil, fmt.Errorf("work out what would become of %s: %w", o.id, err)
	}
	c.Fields = fieldsThatDiffer(live.Object, then.Object)
	if len(c.Fields) == 0 && c.Err == nil {
		return nil, nil
	}
	return []deploy.Difference{{Change: c, Before: live, After: then}}, nil
}

// dropped is an object that the new manifest does not have any more. Helm asks the live one whether it is to be kept.
func (s *sketch) dropped(o piece) ([]deploy.Difference, error) {
	live, err := s.live(o)
	if err != nil || live == nil {
		return nil, err
	}
	d := deploy.Difference{Change: deploy.Change{Action: deploy.ActionPrune, Object: o.id}, Before: o.Unstructured}
	if live.GetAnnotations()[helmkube.ResourcePolicyAnno] == helmkube.KeepPolicy {
		d.Action, d.After = deploy.ActionKeep, o.Unstructured
		d.Err = fmt.Errorf("its annotation %s says %s", helmkube.ResourcePolicyAnno, helmkube.KeepPolicy)
	}
	return []deploy.Difference{d}, nil
}

// leftovers are the objects of failed revisions that would be removed, without those that are shown already.
func (s *sketch) leftovers(left []deploy.Change, shown []deploy.Difference) (out []deploy.Difference) {
	for _, c := range left {
		if slices.ContainsFunc(shown, func(d deploy.Difference) bool { return d.Object == c.Object }) {
			continue
		}
		c.Reason = "a failed revision left it"
		u := &unstructured.Unstructured{Object: map[string]any{"kind": c.Object.Kind}}
		u.SetAPIVersion(schema.GroupVersion{Group: c.Object.Group, Version: s.version(c.Object)}.String())
		u.SetName(c.Object.Name)
		u.SetNamespace(c.Object.Namespace)
		out = append(out, deploy.Difference{Change: c, Before: u})
	}
	return out
}

// version is one that the server knows a kind in.
func (s *sketch) version(id deploy.ObjectID) string {
	m, err := s.op.pool.clients.Mapper.RESTMapping(schema.GroupKind{Group: id.Group, Kind: id.Kind})
	if err != nil {
		return "v1" // it was read a moment ago; this is for display only
	}
	return m.GroupVersionKind.Version
}

// live is the object in the cluster without what the server alone writes, nil where it is not there.
func (s *sketch) live(o piece) (*unstructured.Unstructured, error) {
	if o.mapping == nil {
		return nil, nil
	}
	u, err := s.op.dynamic.Resource(o.mapping.Resource).Namespace(o.GetNamespace()).Get(s.op.ctx, o.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.id, err)
	}
	return own(u), nil
}

// own leaves of a live object what people say of it.
func own(u *unstructured.Unstructured) *unstructured.Unstructured {
	for _, field := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"} {
		unstructured.RemoveNestedField(u.Object, "metadata", field)
	}
	delete(u.Object, "status")
	return u
}
