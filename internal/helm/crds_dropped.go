package helm

import (
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"

	helmkube "helm.sh/helm/v3/pkg/kube"
)

// refuseDropped fails for CRDs of the templates that the new revision does not have any more, as long as there are objects of their kinds: these would be deleted with them, and with these
// whatever they stand for.
func (c *client) refuseDropped(dropped helmkube.ResourceList) error {
	for _, i := range dropped {
		if kindOf(i) != crdKind {
			continue
		}
		n, err := c.instances(i)
		if err != nil {
			return fmt.Errorf("find out whether there are objects of the kind that %s defines: %w", nameOf(i), err)
		}
		if n > 0 {
			return fmt.Errorf("%s is not part of the chart any more, and %d objects of its kind would be deleted with it: annotate it with %s: %s to have it stay, or delete them first",
				nameOf(i), n, helmkube.ResourcePolicyAnno, helmkube.KeepPolicy)
		}
	}
	return nil
}

// instances is how many objects there are of the kind that a CRD defines; 0 also where it is gone, or would stay.
func (c *client) instances(i *resource.Info) (int64, error) {
	live, err := c.dynamic.Resource(i.Mapping.Resource).Get(c.ctx, i.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if live.GetAnnotations()[helmkube.ResourcePolicyAnno] == helmkube.KeepPolicy {
		return 0, nil
	}
	return c.countOf(live)
}

func (c *client) countOf(live *unstructured.Unstructured) (int64, error) {
	var crd apiextensionsv1.CustomResourceDefinition
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &crd); err != nil {
		return 0, err
	}
	for _, v := range crd.Spec.Versions {
		if !v.Served {
			continue
		}
		of := schema.GroupVersionResource{Group: crd.Spec.Group, Version: v.Name, Resource: crd.Spec.Names.Plural}
		list, err := c.dynamic.Resource(of).List(c.ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return 0, err
		}
		n := int64(len(list.Items))
		if more := list.GetRemainingItemCount(); more != nil {
			n += *more
		}
		return n, nil
	}
	return 0, nil // none can be seen, and none would be served again
}
