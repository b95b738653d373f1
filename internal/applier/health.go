package applier

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/cli-utils/pkg/object"
)

// health is how an object is doing, by kstatus.
type health struct {
	status  status.Status
	message string
}

// healthOf computes it from the object alone. What kstatus cannot judge counts as in progress: it never passes for healthy.
func healthOf(u *unstructured.Unstructured) health {
	r, err := status.Compute(u)
	if err != nil {
		return health{status.InProgressStatus, fmt.Sprintf("its status cannot be read: %v", err)}
	}
	if r.Status == status.CurrentStatus && jobRuns(u) {
		return health{status.InProgressStatus, r.Message}
	}
	return health{r.Status, r.Message}
}

// jobRuns reports whether a Job has neither completed nor been suspended. To kstatus a Job is current from its start on; who waits for one wants its end, as Flux does.
func jobRuns(u *unstructured.Unstructured) bool {
	if u.GroupVersionKind().GroupKind() != (schema.GroupKind{Group: "batch", Kind: "Job"}) {
		return false
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions") // of another shape: no condition that could end the wait
	for _, c := range conditions {
		c, _ := c.(map[string]any)
		if (c["type"] == "Complete" || c["type"] == "Suspended") && c["status"] == "True" {
			return false
		}
	}
	return true
}

// heldBy goes on from the news that an object is being deleted: what it waits for, its finalizers, since when, and of a namespace what the server says is left in it.
func heldBy(u *unstructured.Unstructured) string {
	text := ""
	if f := holders(u); len(f) > 0 {
		text = ": it waits for " + strings.Join(f, ", ")
	}
	if since := u.GetDeletionTimestamp(); since != nil {
		text += " since " + since.UTC().Format(time.RFC3339)
	}
	if !object.IsKindNamespace(u) {
		return text
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions") // of another shape: nothing to tell
	for _, c := range conditions {
		c, _ := c.(map[string]any)
		if message, _ := c["message"].(string); c["status"] == "True" && message != "" {
			text += "; " + message
		}
	}
	return text
}

// holders are what has to let an object go before a deletion ends.
func holders(u *unstructured.Unstructured) []string {
	if object.IsKindNamespace(u) {
		return append(u.GetFinalizers(), "kubernetes")
	}
	return u.GetFinalizers()
}

func (h health) String() string {
	switch {
	case h.message == "" && h.status == "":
		return "it could not be read yet"
	case h.message == "":
		return string(h.status)
	}
	return h.message
}
