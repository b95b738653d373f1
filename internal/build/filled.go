package build

import (
	"context"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
)

// filled are the fields of the objects of a build that were filled from secrets.
type filled map[*unstructured.Unstructured]deploy.SecretFields

// substituted adds the fields that variables filled. The paths from before were those of an object whose keys variables may have changed: they hold where each still
// leads somewhere.
func (f filled) substituted(o *unstructured.Unstructured, fields deploy.SecretFields) {
	for _, p := range f[o] {
		if !leads(o.Object, p) {
			f[o] = deploy.SecretFields{{}}
			break
		}
	}
	if len(fields) > 0 {
		f[o] = append(f[o], fields...)
	}
}

// leads reports whether there is something at a path.
func leads(v any, path []string) bool {
	if len(path) == 0 {
		return true
	}
	switch v := v.(type) {
	case map[string]any:
		child, ok := v[path[0]]
		return ok && leads(child, path[1:])
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return leads(e, path[1:]) })
	}
	return false
}

// annotate says it on the objects. What names an object is shown wherever it is, and the data of Secrets is known to be secret.
func (f filled) annotate() {
	for o, fields := range f {
		hidden := o.GetKind() == "Secret" && o.GetAPIVersion() == "v1"
		fields = slices.DeleteFunc(append(fields, deploy.SecretFieldsOf(o)...), func(p []string) bool {
			return deploy.Names(p) || hidden && len(p) > 0 && (p[0] == "data" || p[0] == "stringData")
		})
		if len(fields) == 0 {
			continue
		}
		annotations := o.GetAnnotations()
		if annotations == nil {
			annotations = make(map[string]string, 1)
		}
		annotations[deploy.AnnotationSecretFields] = fields.String()
		o.SetAnnotations(annotations)
	}
}

// encrypted notes which fields came from what was encrypted in the artifact: those that come out otherwise where it is replaced by random letters, whatever kustomize made
// of it. A build that opens nothing is made once; where the second build is not the like of the first, all objects but Secrets count as filled.
// The error is the context's.
func (b *build) encrypted(ctx context.Context, start string, objects []*unstructured.Unstructured, into filled) error {
	opened := b.view.decrypt
	if len(opened.opened) == 0 {
		return nil
	}
	defer func() { b.view.decrypt = opened }()
	b.view.decrypt = opened.disguised()
	again := &build{view: b.view, spec: b.spec, check: checker{view: b.view, work: make(map[string]int64)}}
	others, err := again.objects(ctx, start)
	c := comparison{names: make(map[string]string)}
	if err != nil || !c.alike(objects, others) {
		for _, o := range objects {
			if o.GetKind() != "Secret" {
				into[o] = deploy.SecretFields{{}}
			}
		}
		return ctx.Err()
	}
	for i, o := range objects {
		if fields := c.differing(o.Object, others[i].Object); len(fields) > 0 {
			into[o] = fields
		}
	}
	return nil
}

// comparison compares what two builds made.
type comparison struct {
	// names that generators gave to the objects of the second build, with those of the first: they end in a hash of the content.
	names map[string]string
}

// alike reports whether two builds gave the same objects, in the same order.
func (c *comparison) alike(objects, others []*unstructured.Unstructured) bool {
	if len(objects) != len(others) {
		return false
	}
	for i, o := range objects {
		if o.GroupVersionKind() != others[i].GroupVersionKind() || o.GetNamespace() != others[i].GetNamespace() {
			return false
		}
		if name := others[i].GetName(); name != o.GetName() {
			c.names[name] = o.GetName()
		}
	}
	return true
}

func (c *comparison) differing(a, b map[string]any) deploy.SecretFields {
	var out deploy.SecretFields
	c.walk(a, b, nil, &out)
	return out
}

func (c *comparison) walk(a, b any, path []string, out *deploy.SecretFields) {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || !sameKeys(a, b) {
			break // the keys are secret too
		}
		for key, v := range a {
			c.walk(v, b[key], append(slices.Clip(path), key), out)
		}
		return
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			break
		}
		for i, v := range a {
			c.walk(v, b[i], append(slices.Clip(path), "*"), out)
		}
		return
	case string:
		if b, ok := b.(string); ok && (a == b || a != "" && c.names[b] == a) {
			return
		}
	default:
		if reflect.DeepEqual(a, b) {
			return
		}
	}
	*out = append(*out, path)
}

func sameKeys(a, b map[string]any) bool {
	return len(a) == len(b) && !slices.ContainsFunc(slices.Collect(maps.Keys(a)), func(key string) bool { _, ok := b[key]; return !ok })
}
