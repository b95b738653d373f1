package applier

import (
	"context"
	"fmt"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// neededError is an object that others need, so that it is not deleted.
type neededError struct{ why string }

func (n *neededError) Error() string { return "not deleted: " + n.why }

// needed looks, right before a deletion, whether it would take more away than the target ever made: a *neededError says what.
func (r *run) needed(ctx context.Context, u *unstructured.Unstructured) error {
	switch {
	case object.IsKindNamespace(u):
		return r.inhabited(ctx, u.GetName())
	case u.GroupVersionKind().GroupKind() == schema.GroupKind{Kind: "ServiceAccount"} && u.GetNamespace() == r.info.namespace && r.info.cluster == "":
		self, err := r.engine.own.Kubernetes.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("find out whether the agent runs as it: %w", err)
		}
		if self.Status.UserInfo.Username == "system:serviceaccount:"+u.GetNamespace()+":"+u.GetName() {
			return &neededError{"the agent runs as it"}
		}
	}
	return nil
}

// inhabited looks through a namespace for objects that are not the target's; they would go with it. It costs a LIST for each kind, and namespaces go rarely.
func (r *run) inhabited(ctx context.Context, namespace string) error {
	resources, err := r.clients.Discovery.ServerPreferredNamespacedResources()
	if err != nil {
		return fmt.Errorf("list what is in it: %w", err)
	}
	for _, group := range resources {
		gv, err := schema.ParseGroupVersion(group.GroupVersion)
		if err != nil {
			return err
		}
		for _, kind := range group.APIResources {
			if !slices.Contains(kind.Verbs, "list") || !slices.Contains(kind.Verbs, "delete") || kind.Kind == "Event" || kind.Kind == "Endpoints" {
				continue // not stored, or the cluster's own notes
			}
			if err := r.inhabitedBy(ctx, namespace, gv.WithResource(kind.Name), kind.Kind); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) inhabitedBy(ctx context.Context, namespace string, resource schema.GroupVersionResource, kind string) error {
	const page = 100 // objects; the first foreign one ends the search
	opts := metav1.ListOptions{LabelSelector: deploy.LabelTarget + "!=" + r.target.Name.LabelValue(), Limit: page}
	for {
		list, err := r.clients.Metadata.Resource(resource).Namespace(namespace).List(ctx, opts)
		if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list the %s in it: %w", resource.Resource, err)
		}
		for i := range list.Items {
			if m := &list.Items[i]; !followsAlong(m, kind) {
				return &neededError{fmt.Sprintf("%s is in it and not this target's", deploy.ObjectID{Group: resource.Group, Kind: kind, Namespace: m.Namespace, Name: m.Name})}
			}
		}
		if opts.Continue = list.Continue; opts.Continue == "" {
			return nil
		}
	}
}

// followsAlong reports whether an object is there only because of another one, or is going already.
func followsAlong(m *metav1.PartialObjectMetadata, kind string) bool {
	switch {
	case len(m.OwnerReferences) > 0, m.DeletionTimestamp != nil:
		return true
	case kind == "ConfigMap":
		return m.Name == "kube-root-ca.crt"
	case kind == "ServiceAccount":
		return m.Name == "default"
	case kind == "Secret":
		return m.Annotations["kubernetes.io/service-account.name"] != ""
	}
	return false
}
