package applier

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/apply/task"
	"sigs.k8s.io/cli-utils/pkg/apply/taskrunner"
	"sigs.k8s.io/cli-utils/pkg/object"
	"sigs.k8s.io/cli-utils/pkg/object/graph"
)

func isWebhook(u *unstructured.Unstructured) bool {
	gk := u.GroupVersionKind().GroupKind()
	return gk.Group == "admissionregistration.k8s.io" && (gk.Kind == "MutatingWebhookConfiguration" || gk.Kind == "ValidatingWebhookConfiguration")
}

// webhooksLast moves the webhooks' configurations into the last wave of what is applied, and into the first of what is deleted. The solver puts what depends on nothing
// into the first, before all that lives in a namespace of the same artifact: the server would ask the webhook about that already, and whoever answers for it is among that.
// One that another object depends on stays where it is.
func webhooksLast(tasks []taskrunner.Task, g *graph.Graph) {
	var applies []*task.ApplyTask
	var prunes []*task.PruneTask
	for _, t := range tasks {
		switch t := t.(type) {
		case *task.ApplyTask:
			applies = append(applies, t)
		case *task.PruneTask:
			prunes = append(prunes, t)
		}
	}
	movable := func(u *unstructured.Unstructured) bool {
		return isWebhook(u) && len(g.Dependents(object.UnstructuredToObjMetadata(u))) == 0
	}
	for i, last := 0, len(applies)-1; i < last; i++ {
		moveTo(&applies[last].Objects, &applies[i].Objects, movable)
	}
	for i := 1; i < len(prunes); i++ {
		moveTo(&prunes[0].Objects, &prunes[i].Objects, movable)
	}
}

func moveTo(to, from *object.UnstructuredSet, movable func(*unstructured.Unstructured) bool) {
	for _, u := range *from {
		if movable(u) {
			*to = append(*to, u)
		}
	}
	*from = slices.DeleteFunc(slices.Clone(*from), movable)
}
