package helm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/resource"

	"helm.sh/helm/v3/pkg/chart"
	helmkube "helm.sh/helm/v3/pkg/kube"

	"github.com/towline/towline/internal/deploy"
)

// crdTimeout is how long a CRD may take to be served. The server needs a second or two.
const crdTimeout = time.Minute

// applyCRDs does with a chart's crds folder what the policy says. Helm itself never updates what is there, and the policy is ours to keep. CRDs get no label of ours and are never
// deleted: the data below them would go too.
func (op *operation) applyCRDs(crds []chart.CRD, policy deploy.CRDsPolicy) error {
	if policy == deploy.CRDsSkip || len(crds) == 0 {
		return nil
	}
	var sent helmkube.ResourceList
	for _, crd := range crds {
		list, err := op.kube.Build(bytes.NewReader(crd.File.Data), true)
		if err != nil {
			return fmt.Errorf("read %s: %w", crd.Filename, err)
		}
		for _, i := range list {
			op.progress(deploy.PhaseApplying, "applying "+nameOf(i))
			changed, err := sendCRD(i, policy)
			if err != nil {
				return fmt.Errorf("apply %s of %s: %w", nameOf(i), crd.Filename, err)
			}
			if changed {
				sent = append(sent, i)
			}
		}
	}
	if len(sent) == 0 {
		return nil
	}
	var kinds []string
	for _, i := range sent {
		served, err := op.kube.awaitServed(i)
		if err != nil {
			return err
		}
		kinds = append(kinds, served...)
	}
	// Discovery follows a moment later; templates that ask for the new kinds must not miss them.
	err := op.kube.poll(crdTimeout, func(context.Context) (ok bool, err error) {
		op.cfg.Capabilities, err = op.pool.capabilities(true)
		return err == nil && !slices.ContainsFunc(kinds, func(k string) bool { return !op.cfg.Capabilities.APIVersions.Has(k) }), err
	})
	if err != nil {
		return fmt.Errorf("wait until the server lists %s: %w", strings.Join(kinds, ", "), err)
	}
	return nil
}

// sendCRD creates or applies one object and reports whether the server's kinds may have changed by that.
func sendCRD(i *resource.Info, policy deploy.CRDsPolicy) (bool, error) {
	h := resource.NewHelper(i.Client, i.Mapping).WithFieldManager(deploy.FieldManager)
	if policy != deploy.CRDsCreateReplace {
		_, err := h.Create(i.Namespace, true, i.Object)
		if apierrors.IsAlreadyExists(err) {
			return false, nil
		}
		return err == nil, err
	}
	if u, ok := i.Object.(*unstructured.Unstructured); ok {
		unstructured.RemoveNestedField(u.Object, "status") // generators leave one in the file; it is the server's
	}
	body, err := json.Marshal(i.Object)
	if err != nil {
		return false, err
	}
	force := true // the chart's author decides about its CRDs, whoever applied them before
	_, err = h.Patch(i.Namespace, i.Name, types.ApplyPatchType, body, &metav1.PatchOptions{Force: &force})
	return err == nil, err
}

// awaitServed waits until a CRD's kinds can be used, and returns them: group/version/Kind. Other objects are ready at once.
func (c *client) awaitServed(i *resource.Info) (kinds []string, err error) {
	if kindOf(i) != "CustomResourceDefinition" {
		return nil, nil
	}
	err = c.poll(crdTimeout, func(context.Context) (bool, error) {
		live, err := resource.NewHelper(i.Client, i.Mapping).Get(i.Namespace, i.Name)
		u, ok := live.(*unstructured.Unstructured)
		if err != nil || !ok {
			return false, err
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &crd); err != nil {
			return false, err
		}
		kinds = nil
		for _, v := range crd.Spec.Versions {
			if v.Served {
				kinds = append(kinds, crd.Spec.Group+"/"+v.Name+"/"+crd.Spec.Names.Kind)
			}
		}
		return slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
		}), nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait until %s is established: %w", nameOf(i), err)
	}
	return kinds, nil
}
