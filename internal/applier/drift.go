package applier

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
)

// markDrift, a mark of an object, says disabled where drift of it is nobody's business.
const markDrift = "driftDetection"

// maxDrifts is how many objects a message names that drifted.
const maxDrifts = 5

// driftMode says what is done about objects of a target that somebody changed.
func driftMode(t deploy.Target) deploy.DriftMode {
	if k := t.Kustomization; k != nil && k.DriftDetection != nil && k.DriftDetection.Mode != "" {
		return k.DriftDetection.Mode
	}
	return deploy.DriftEnabled
}

// Minds reports whether drift of a target is anybody's business, so that its objects are to be watched.
func (e *Engine) Minds(t deploy.Target) bool { return driftMode(t) != deploy.DriftDisabled }

// ignoreRules are those of the entry itself, and those of its driftDetection.
func ignoreRules(k *deploy.KustomizationSpec) []deploy.IgnoreRule {
	if k.DriftDetection == nil {
		return k.Ignore
	}
	return append(k.Ignore[:len(k.Ignore):len(k.Ignore)], k.DriftDetection.Ignore...)
}

// lenient reports whether an object says that drift of it is to be left.
func lenient(o metav1.Object) bool {
	_, yes := says(o, markDrift, valueDisabled)
	return yes
}

// tolerated says what becomes of an object's drift: enabled, it is put right.
func (n *note) tolerated(u *unstructured.Unstructured, now seen) deploy.DriftMode {
	if lenient(u) || now.lenient {
		return deploy.DriftDisabled
	}
	return driftMode(n.work.Target)
}

// driftFailure says which objects drifted where that is only to be said; nil: none.
func (n *note) driftFailure(planned []deploy.Change) *deploy.Failure {
	var names []string
	for _, c := range planned {
		if c.Action != deploy.ActionDrift {
			continue
		}
		reason := c.Reason
		if strings.HasPrefix(reason, "by ") {
			reason = "changed " + reason
		}
		names = append(names, fmt.Sprintf("%s: %s", c.Object, reason))
	}
	if len(names) == 0 {
		return nil
	}
	total := len(names)
	if more := total - maxDrifts; more > 0 {
		names = append(names[:maxDrifts], fmt.Sprintf("and %d more", more))
	}
	return &deploy.Failure{
		Reason: deploy.ReasonDriftDetected, Degraded: true, RetryAfter: n.work.Target.Interval,
		Err: fmt.Errorf("%d of %d objects are not as the artifact has them, and driftDetection.mode is warn: %s", total, len(n.render.objects), strings.Join(names, "; ")),
	}
}
