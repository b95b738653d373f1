package applier

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cli-utils/pkg/inventory"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// defaultNamespace is where namespaced objects without a namespace go, as with kubectl and a service account in the default namespace.
const defaultNamespace = "default"

// rendered is what a target's artifact says, ready to be sent.
type rendered struct {
	objects object.UnstructuredSet
	byID    map[object.ObjMetadata]*unstructured.Unstructured
	// hashes of the objects without the fields that are left to others.
	hashes map[object.ObjMetadata]string
	// ignored are the fields that are left to others, of the objects that have some; modes are what marks of the artifact ask for, of those that have any.
	ignored map[object.ObjMetadata][]deploy.Pointer
	modes   map[object.ObjMetadata]mode
	// invalid objects cannot be sent; the error says why. They are among objects as well.
	invalid map[object.ObjMetadata]error
	// unsureKinds are kinds of which not even the scope is known now: no object of theirs counts as dropped.
	unsureKinds map[schema.GroupKind]bool
}

// prepare copies the built objects and makes them ours: a namespace where one is needed, the target's label, the owning inventory. It waits a moment for kinds that
// the server does not know yet.
func (e *site) prepare(ctx context.Context, i info, t deploy.Target, built []*unstructured.Unstructured) (*rendered, error) {
	rules, err := deploy.CompileIgnore(ignoreRules(t.Kustomization))
	if err != nil {
		return nil, err
	}
	r := newRendered(len(built))
	var crds []*unstructured.Unstructured
	for _, u := range built {
		if object.IsCRD(u) {
			crds = append(crds, u)
		}
	}
	scopes := e.scopes(ctx, built, crds)
	label := t.Name.LabelValue()
	for _, u := range built {
		c := u.DeepCopy()
		scope, err := scopes.of(c)
		switch {
		case err != nil:
			r.unsureKinds[c.GroupVersionKind().GroupKind()] = true
		case scope == meta.RESTScopeNameNamespace && c.GetNamespace() == "":
			c.SetNamespace(defaultNamespace)
		case scope == meta.RESTScopeNameRoot:
			c.SetNamespace("") // kustomize's namespace transformer cannot know the scope of custom kinds
		}
		if c.GetName() == "" {
			err = errors.New("metadata.name is required: generateName would make one more object at every run")
		}
		stamp(c, i, label)
		encodeSecret(c)
		if memory(c, i) {
			err = errors.New("it is part of the agent's own state")
		}
		id := object.UnstructuredToObjMetadata(c)
		if _, twice := r.hashes[id]; twice && id.Name == "" {
			continue // one of them says it for all; the others of the artifact are applied nevertheless
		} else if twice {
			return nil, fmt.Errorf("%s is rendered twice", objectID(id))
		}
		r.add(id, c, rules)
		if err = errors.Join(err, discreet(c, checkMarks(c))); err != nil {
			r.invalid[id] = err
		}
	}
	if err := inventory.ValidateNoInventory(r.objects); err != nil {
		return nil, fmt.Errorf("the artifact contains an inventory of cli-utils: %w", err)
	}
	return r, nil
}

func newRendered(n int) *rendered {
	return &rendered{
		byID: make(map[object.ObjMetadata]*unstructured.Unstructured, n), hashes: make(map[object.ObjMetadata]string, n), invalid: map[object.ObjMetadata]error{},
		ignored: map[object.ObjMetadata][]deploy.Pointer{}, modes: map[object.ObjMetadata]mode{}, unsureKinds: map[schema.GroupKind]bool{},
	}
}

func (r *rendered) add(id object.ObjMetadata, u *unstructured.Unstructured, rules deploy.Ignored) {
	r.objects = append(r.objects, u)
	r.byID[id] = u
	ignored := rules.Of(u)
	if len(ignored) == 0 {
		r.hashes[id] = deploy.HashOf(u.Object)
	} else {
		r.ignored[id] = ignored
		r.hashes[id] = deploy.HashOf(without(u, ignored).Object)
	}
	if m := modeOf(u); m != (mode{}) {
		r.modes[id] = m
	}
}

// stamp marks an object as the target's and removes what only a server may say.
func stamp(u *unstructured.Unstructured, i info, label string) {
	object.StripKyamlAnnotations(u)
	for _, f := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"} {
		unstructured.RemoveNestedField(u.Object, "metadata", f)
	}
	delete(u.Object, "status")
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[deploy.LabelTarget] = label
	u.SetLabels(labels)
	inventory.AddInventoryIDAnnotation(u, i)
}

// encodeSecret moves stringData into data, as the server would. Left there, fields that the artifact drops would stay in the Secret, and nobody would own data: a
// foreign change of a value would not be seen. What is not a Secret as the API has it is left for the server to refuse.
func encodeSecret(u *unstructured.Unstructured) {
	if u.GroupVersionKind().GroupKind() != (schema.GroupKind{Kind: "Secret"}) {
		return
	}
	plain, ok := u.Object["stringData"].(map[string]any)
	data, isMap := u.Object["data"].(map[string]any)
	if !ok || !isMap && u.Object["data"] != nil {
		return
	}
	all := map[string]any{}
	maps.Copy(all, data)
	for k, v := range plain {
		text, isText := v.(string)
		if !isText {
			return
		}
		all[k] = base64.StdEncoding.EncodeToString([]byte(text))
	}
	delete(u.Object, "stringData")
	u.Object["data"] = all
}

type scopes map[schema.GroupVersionKind]scopeOrError

type scopeOrError struct {
	scope meta.RESTScopeName
	err   error
}

func (s scopes) of(u *unstructured.Unstructured) (meta.RESTScopeName, error) {
	f := s[u.GroupVersionKind()]
	return f.scope, f.err
}

// scopes asks discovery, and the CRDs among the objects, how far each kind reaches. Kinds that nobody knows are asked for again for about two seconds: another
// target may be creating their CRD right now. The mapper reads discovery again by itself, once a second at most.
func (e *site) scopes(ctx context.Context, us, crds []*unstructured.Unstructured) scopes {
	s := scopes{}
	unknown := map[schema.GroupVersionKind]*unstructured.Unstructured{}
	for _, u := range us {
		unknown[u.GroupVersionKind()] = u
	}
	wait := retryFirst
	for try := 1; ; try++ {
		for gvk, u := range unknown {
			scope, err := object.LookupResourceScope(u, crds, e.clients.Mapper)
			if err != nil {
				s[gvk] = scopeOrError{err: err}
				continue
			}
			s[gvk] = scopeOrError{scope: scope.Name()}
			delete(unknown, gvk)
		}
		const tries = 5 // 0.1 + 0.2 + 0.4 + 0.8 s
		if len(unknown) == 0 || try == tries || sleep(ctx, wait) != nil {
			return s
		}
		wait *= 2
	}
}

// objectID is cli-utils' id in the words of the rest of the agent.
func objectID(id object.ObjMetadata) deploy.ObjectID {
	return deploy.ObjectID{Group: id.GroupKind.Group, Kind: id.GroupKind.Kind, Namespace: id.Namespace, Name: id.Name}
}
