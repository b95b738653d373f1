package helm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"

	"helm.sh/helm/v3/pkg/chart"

	"github.com/towline/towline/internal/deploy"
)

// crds is what the policy would do with the chart's crds folder. Kinds that come by that count as served from here on, to templates too.
func (s *sketch) crds(crds []chart.CRD, policy deploy.CRDsPolicy) ([]deploy.Difference, error) {
	s.kinds = map[schema.GroupKind]bool{}
	if policy == deploy.CRDsSkip {
		return nil, nil
	}
	var out []deploy.Difference
	caps := *s.op.cfg.Capabilities
	caps.APIVersions = slices.Clone(caps.APIVersions)
	for _, crd := range crds {
		list, err := s.op.kube.Build(bytes.NewReader(crd.File.Data), true)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", crd.Filename, err)
		}
		for _, i := range list {
			d, err := drySend(i, policy)
			if err != nil {
				return nil, fmt.Errorf("try %s of %s: %w", nameOf(i), crd.Filename, err)
			}
			if d == nil {
				continue
			}
			out = append(out, *d)
			for _, kind := range servedKinds(i) {
				caps.APIVersions = append(caps.APIVersions, kind, kind[:strings.LastIndex(kind, "/")])
			}
			s.promise(i)
		}
	}
	s.op.cfg.Capabilities = &caps
	return out, nil
}

// promise notes the kind of a CRD.
func (s *sketch) promise(i *resource.Info) {
	u, ok := i.Object.(*unstructured.Unstructured)
	if !ok || u.GetKind() != crdKind {
		return
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &crd) == nil {
		s.kinds[schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind}] = crd.Spec.Scope == apiextensionsv1.NamespaceScoped
	}
}

// drySend is sendCRD without the sending; nil: nothing would change.
func drySend(i *resource.Info, policy deploy.CRDsPolicy) (*deploy.Difference, error) {
	h := resource.NewHelper(i.Client, i.Mapping).WithFieldManager(deploy.FieldManager).DryRun(true)
	now, err := h.Get(i.Namespace, i.Name)
	if apierrors.IsNotFound(err) {
		u, _ := i.Object.(*unstructured.Unstructured) // that is what the SDK builds
		return &deploy.Difference{Change: deploy.Change{Action: deploy.ActionCreate, Object: idOf(i)}, After: u}, nil
	}
	if err != nil || policy != deploy.CRDsCreateReplace {
		return nil, err
	}
	then, err := applyCRD(h, i)
	if err != nil {
		return nil, err
	}
	before, okBefore := now.(*unstructured.Unstructured)
	after, okAfter := then.(*unstructured.Unstructured)
	if !okBefore || !okAfter {
		return nil, errUnexpected
	}
	before, after = own(before), own(after)
	fields := fieldsThatDiffer(before.Object, after.Object)
	if len(fields) == 0 {
		return nil, nil
	}
	return &deploy.Difference{Change: deploy.Change{Action: deploy.ActionUpdate, Object: idOf(i), Fields: fields}, Before: before, After: after}, nil
}
