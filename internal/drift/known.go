package drift

import (
	"hash/maphash"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/towline/towline/internal/deploy"
)

// object names one within its kind.
type object struct{ namespace, name string }

// state is all that is kept of an object: enough to tell a change that may be drift from one that cannot.
type state struct {
	label      string
	uid        types.UID
	version    string
	generation int64
	// marks is a hash of labels and annotations.
	marks uint64
}

// known takes the place of a reflector's store. It keeps a few words of each object in place of the object, and hands on what changed. It belongs to the reflector's goroutine.
type known struct {
	sees    func(label string, s Sight)
	kind    schema.GroupKind
	objects map[object]state
	// listed: what is new from now on was made since.
	listed bool
	// begun is called with each whole list: what follows is seen. May be nil.
	begun func()
}

var _ cache.ReflectorStore = (*known)(nil)

// Add, Update and Delete take one event in. Their error is nil.
func (k *known) Add(obj any) error    { return k.take(obj) }
func (k *known) Update(obj any) error { return k.take(obj) }

// Delete takes in that an object is gone, or lost the label.
func (k *known) Delete(obj any) error {
	m, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	k.lose(object{m.GetNamespace(), m.GetName()})
	return nil
}

// Replace takes in a whole list: what is not in it went while nobody watched.
func (k *known) Replace(list []any, _ string) error {
	here := make(map[object]bool, len(list))
	for _, obj := range list {
		m, err := meta.Accessor(obj)
		if err != nil {
			return err
		}
		here[object{m.GetNamespace(), m.GetName()}] = true
		if err := k.take(obj); err != nil {
			return err
		}
	}
	for o := range k.objects {
		if !here[o] {
			k.lose(o)
		}
	}
	k.listed = true
	if k.begun != nil {
		k.begun()
	}
	return nil
}

// Resync does nothing: nobody asks for it.
func (k *known) Resync() error { return nil }

func (k *known) take(obj any) error {
	m, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil // the metadata client has no other type
	}
	o, now := object{m.Namespace, m.Name}, stateOf(m)
	before, isKnown := k.objects[o]
	k.objects[o] = now
	switch {
	case isKnown && before.version == now.version:
		return nil
	case isKnown && before.label != now.label:
		k.sees(before.label, k.gone(o, before))
	case isKnown && before.uid == now.uid && before.marks == now.marks && before.generation == now.generation && now.generation > 0:
		return nil // its status, or who owns a field of it
	}
	k.sees(now.label, Sight{Object: k.id(o), UID: m.UID, Metadata: m, First: !k.listed && !isKnown})
	return nil
}

// lose hands on that an object is gone.
func (k *known) lose(o object) {
	before, ok := k.objects[o]
	if !ok {
		return
	}
	delete(k.objects, o)
	k.sees(before.label, k.gone(o, before))
}

func (k *known) gone(o object, s state) Sight { return Sight{Object: k.id(o), UID: s.uid} }

func (k *known) id(o object) deploy.ObjectID {
	return deploy.ObjectID{Group: k.kind.Group, Kind: k.kind.Kind, Namespace: o.namespace, Name: o.name}
}

// seed makes hashes comparable within the process.
var seed = maphash.MakeSeed()

func stateOf(m *metav1.PartialObjectMetadata) state {
	return state{
		label: m.Labels[deploy.LabelTarget], uid: m.UID, version: m.ResourceVersion, generation: m.Generation,
		marks: hashOf(m.Labels) ^ (hashOf(m.Annotations) * 31),
	}
}

// hashOf does not depend on the order of the entries.
func hashOf(m map[string]string) (sum uint64) {
	for k, v := range m {
		sum += maphash.Comparable(seed, [2]string{k, v})
	}
	return sum
}
