package deploy

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ObjectKinds are the kinds of some objects, each with the namespaces that they are in, sorted; the empty one for objects that are in none.
type ObjectKinds map[schema.GroupKind][]string

// Add adds the kind and the namespace of an object.
func (k ObjectKinds) Add(kind schema.GroupKind, namespace string) {
	if i, there := slices.BinarySearch(k[kind], namespace); !there {
		k[kind] = slices.Insert(k[kind], i, namespace)
	}
}
