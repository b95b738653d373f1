package applier

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/cli-utils/pkg/common"
	"sigs.k8s.io/cli-utils/pkg/inventory"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// annotationPrune: enabled lets a protected kind go. It counts on the object in the cluster.
const (
	annotationPrune = "towline.dev/prune"
	pruneEnabled    = "enabled"
)

// protected kinds take data or other people's objects with them: they are only deleted where they are annotated.
var protected = map[schema.GroupKind]string{
	{Kind: "Namespace"}:             "everything in it would be deleted",
	{Kind: "PersistentVolume"}:      "data may be lost",
	{Kind: "PersistentVolumeClaim"}: "data may be lost",
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: "all objects of the kind would be deleted",
}

// recordPrefix is how the names of the agent's records begin.
const recordPrefix = "towline-record."

// fate is what becomes of an object that the target dropped.
type fate int

const (
	fateDelete  fate = iota
	fateKeep         // stays in the cluster and in the inventory, and is looked at again
	fateRelease      // stays in the cluster, loses our marks and leaves the inventory
	fateForget       // is somebody else's by now: leaves the inventory untouched
	fateBlocked      // would be deleted, but pruneLimit says that too many would: stays as it is, everywhere
)

// judge decides over one dropped object as it is in the cluster; uid is the one that the inventory remembers. The text says why it is not deleted.
func judge(live *unstructured.Unstructured, i info, uid types.UID, prune bool) (fate, string) {
	annotations := live.GetAnnotations()
	switch inventory.IDMatch(i, live) {
	case inventory.NoMatch:
		return fateForget, "it belongs to " + owner(live) + " now"
	case inventory.Empty:
		// Every apply of ours marks. Without marks it is either one that lost them, or somebody else's of the same name: made anew, or there before an apply that failed.
		if uid == "" || uid != live.GetUID() {
			return fateForget, "it is not the one that was applied here"
		}
	}
	if ownState(live, i) {
		return fateKeep, "the agent needs it"
	}
	if key, yes := says(live, markReconcile, valueDisabled); yes {
		return fateKeep, "its " + key + " is " + valueDisabled
	}
	if !prune {
		return fateRelease, "prune is off"
	}
	if key, yes := says(live, markPrune, valueDisabled); yes {
		return fateRelease, "its " + key + " is " + valueDisabled
	}
	for key, value := range annotations {
		if common.NoDeletion(key, value) {
			return fateRelease, fmt.Sprintf("its annotation %s is %s", key, value)
		}
	}
	gk := live.GroupVersionKind().GroupKind()
	if why, ok := protected[gk]; ok && annotations[annotationPrune] != pruneEnabled {
		return fateKeep, fmt.Sprintf("%s; annotate the %s with %s=%s to let it go", why, gk.Kind, annotationPrune, pruneEnabled)
	}
	return fateDelete, ""
}

// ownState reports whether deleting the object would take the agent's memory away.
func ownState(u *unstructured.Unstructured, i info) bool {
	return i.cluster == "" && object.IsKindNamespace(u) && u.GetName() == i.namespace || memory(u, i)
}

// memory reports whether an object is an inventory or a record, or would be taken for one: an artifact that could write it could make the agent forget.
func memory(u *unstructured.Unstructured, i info) bool {
	if i.cluster != "" {
		return false // the state is not there
	}
	gk := u.GroupVersionKind().GroupKind()
	if gk.Group != "" || gk.Kind != "ConfigMap" && gk.Kind != "Secret" || u.GetNamespace() != i.namespace {
		return false
	}
	_, labelled := u.GetLabels()[deploy.LabelState]
	return labelled || strings.HasPrefix(u.GetName(), namePrefix) || strings.HasPrefix(u.GetName(), recordPrefix)
}

// owner says in words whose object this is.
func owner(u *unstructured.Unstructured) string {
	of := fmt.Sprintf("inventory %q", u.GetAnnotations()[inventory.OwningInventoryKey])
	if t := u.GetLabels()[deploy.LabelTarget]; t != "" {
		return deploy.LabelledTarget(t) + " (" + of + ")"
	}
	return of
}
