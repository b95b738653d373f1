package applier

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
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
	return health{r.Status, r.Message}
}

func (h health) String() string {
	if h.message == "" {
		return string(h.status)
	}
	return h.message
}
