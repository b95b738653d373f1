package helm

import (
	"bytes"
	"encoding/json"
	"errors"
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
		kinds = append(kinds, servedKinds(i)...)
	}
	err := op.kube.await(sent, crdTimeout, question{
		phase: deploy.PhaseApplying, words: "waiting for", not: "is not established",
		judge: established, absent: failedFor("it is gone: something deleted it"),
	})
	if err != nil {
		return err
	}
	return op.awaitListed(kinds)
}

// awaitListed waits until discovery shows the kinds (group/version/Kind), which follows a moment after they are established and cannot be watched: templates that ask for
// them must not miss them.
func (op *operation) awaitListed(kinds []string) error {
	timer := time.NewTimer(crdTimeout)
	defer timer.Stop()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		caps, err := op.pool.capabilities(true)
		if err == nil {
			op.cfg.Capabilities = caps
			if !slices.ContainsFunc(kinds, func(k string) bool { return !caps.APIVersions.Has(k) }) {
				return nil
			}
		}
		select {
		case <-op.ctx.Done():
			return op.ctx.Err()
		case <-timer.C:
			return errors.Join(fmt.Errorf("the server does not list %s after %s", strings.Join(kinds, ", "), crdTimeout), err)
		case <-time.After(pause):
		}
	}
}

// sendCRD creates or applies one object and reports whether the server's kinds may have changed by that.
func sendCRD(i *resource.Info, policy deploy.CRDsPolicy) (bool, error) {
	h := resource.NewHelper(i.Client, i.Mapping).WithFieldManager(deploy.FieldManager)
	if policy != deploy.CRDsCreateReplace {
		live, err := h.Create(i.Namespace, true, i.Object)
		if apierrors.IsAlreadyExists(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return true, i.Refresh(live, true)
	}
	live, err := applyCRD(h, i)
	if err != nil {
		return false, err
	}
	return true, i.Refresh(live, true)
}

// applyCRD applies one object server-side and returns what came of it.
func applyCRD(h *resource.Helper, i *resource.Info) (runtime.Object, error) {
	if u, ok := i.Object.(*unstructured.Unstructured); ok {
		unstructured.RemoveNestedField(u.Object, "status") // generators leave one in the file; it is the server's
	}
	body, err := json.Marshal(i.Object)
	if err != nil {
		return nil, err
	}
	force := true // the chart's author decides about its CRDs, whoever applied them before
	return h.Patch(i.Namespace, i.Name, types.ApplyPatchType, body, &metav1.PatchOptions{Force: &force})
}

// established is the rule for CRDs whose kinds are about to be used. Other objects of a crds folder are ready at once.
func established(u *unstructured.Unstructured) verdict {
	if u.GetKind() != crdKind {
		return isReady
	}
	return judged(u, func(c *apiextensionsv1.CustomResourceDefinition) verdict {
		for _, cond := range c.Status.Conditions {
			switch {
			case cond.Type == apiextensionsv1.Established && cond.Status == apiextensionsv1.ConditionTrue:
				return isReady
			case cond.Type == apiextensionsv1.NamesAccepted && cond.Status == apiextensionsv1.ConditionFalse:
				return failedFor("its names are taken: %s", cond.Reason)
			}
		}
		return verdict{}
	})
}

const crdKind = "CustomResourceDefinition"

// servedKinds are the kinds of a CRD that can be used: group/version/Kind.
func servedKinds(i *resource.Info) (kinds []string) {
	u, ok := i.Object.(*unstructured.Unstructured)
	if !ok || u.GetKind() != crdKind {
		return nil
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &crd) != nil {
		return nil
	}
	for _, v := range crd.Spec.Versions {
		if v.Served {
			kinds = append(kinds, crd.Spec.Group+"/"+v.Name+"/"+crd.Spec.Names.Kind)
		}
	}
	return kinds
}
