package deploy

import (
	"maps"
	"slices"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// AnnotationSecretFields is on objects that have fields, other than the data of a Secret, which were filled from something secret: from a variable of a Secret or of a file, or
// from what was encrypted in the artifact. It names the fields as JSON pointers (RFC 6901), parted by commas, in which * is every item of a list; / alone is the whole
// object. It stands on the object in the cluster too, so that whoever shows the object knows, also when no artifact has it any more. People may set it themselves.
const AnnotationSecretFields = "towline.dev/secret-fields"

// SecretFields are the paths of such fields; the empty path is the whole object but for what names it.
type SecretFields [][]string

// maxSecretFields bounds the annotation, in bytes: more fields are named by what they lie in.
const maxSecretFields = 2 << 10

var (
	pointerEscapes   = strings.NewReplacer("~", "~0", "/", "~1")
	pointerUnescapes = strings.NewReplacer("~1", "/", "~0", "~")
)

// SecretFieldsOf reads the annotation of an object.
func SecretFieldsOf(o interface{ GetAnnotations() map[string]string }) SecretFields {
	return ParseSecretFields(o.GetAnnotations()[AnnotationSecretFields])
}

// ParseSecretFields reads the annotation's text. What is no pointer counts as the whole object: a mistake must not show anything.
func ParseSecretFields(text string) SecretFields {
	if text == "" {
		return nil
	}
	var out SecretFields
	for p := range strings.SplitSeq(text, ",") {
		p = strings.TrimSpace(p)
		if p == "/" || !strings.HasPrefix(p, "/") {
			return SecretFields{{}}
		}
		tokens := strings.Split(p[1:], "/")
		for i := range tokens {
			tokens[i] = pointerUnescapes.Replace(tokens[i])
		}
		out = append(out, tokens)
	}
	return out
}

// IsSecret reports whether an object is a Secret.
func IsSecret(u *unstructured.Unstructured) bool {
	return u.GetKind() == "Secret" && u.GroupVersionKind().Group == ""
}

// HoldsSecrets reports whether an object is a Secret or has secret fields: what others say about it may quote them.
func HoldsSecrets(u *unstructured.Unstructured) bool {
	return u != nil && (IsSecret(u) || u.GetAnnotations()[AnnotationSecretFields] != "")
}

// Names reports whether a path is one of the fields that say which object it is. Those are shown wherever the object is.
func Names(path []string) bool {
	switch len(path) {
	case 1:
		return path[0] == "apiVersion" || path[0] == "kind"
	case 2:
		return path[0] == "metadata" && (path[1] == "name" || path[1] == "namespace")
	}
	return false
}

// String is the text of the annotation: sorted, each field once, and of fields that lie in each other the outer one.
func (f SecretFields) String() string {
	deepest := 0
	for _, p := range f {
		deepest = max(deepest, len(p))
	}
	for ; deepest > 0; deepest-- {
		if text := f.text(deepest); len(text) <= maxSecretFields {
			return text
		}
	}
	if len(f) == 0 {
		return ""
	}
	return "/"
}

// text names fields down to a depth.
func (f SecretFields) text(depth int) string {
	paths := make(SecretFields, len(f))
	for i, p := range f {
		paths[i] = p[:min(len(p), depth)]
		if at := slices.IndexFunc(paths[i], unfit); at >= 0 {
			paths[i] = paths[i][:at]
		}
		if len(paths[i]) == 0 {
			return "/"
		}
	}
	slices.SortFunc(paths, slices.Compare)
	var texts []string
	var last []string
	for _, p := range paths {
		if last != nil && len(p) >= len(last) && slices.Equal(p[:len(last)], last) {
			continue // it is, or lies in, the one before
		}
		last = p
		escaped := make([]string, len(p))
		for i, token := range p {
			escaped[i] = pointerEscapes.Replace(token)
		}
		texts = append(texts, "/"+strings.Join(escaped, "/"))
	}
	return strings.Join(texts, ",")
}

// unfit reports whether a key cannot stand in the annotation.
func unfit(token string) bool {
	return token == "" || strings.ContainsFunc(token, func(r rune) bool { return r == ',' || unicode.IsSpace(r) || !unicode.IsPrint(r) })
}

// Hide replaces the fields in two versions of an object, in place; either may be nil. It is called with what a field is in each and says what to show instead; both
// tells whether both have it. Items of lists are put side by side by their numbers.
func (f SecretFields) Hide(a, b map[string]any, hide func(a, b any, both bool) (any, any)) {
	for _, p := range f {
		switch {
		case len(p) == 0:
			hideBelow(a, b, nil, hide)
		case len(p) == 1 && p[0] == "metadata":
			hideBelow(mapOf(a["metadata"]), mapOf(b["metadata"]), p, hide)
		case !Names(p):
			hideAt(a, b, p, hide)
		}
	}
}

// hideBelow hides all that lies in a map but what names the object.
func hideBelow(a, b map[string]any, at []string, hide func(a, b any, both bool) (any, any)) {
	for _, key := range keysOf(a, b) {
		switch p := append(slices.Clip(at), key); {
		case Names(p):
		case len(p) == 1 && key == "metadata":
			hideBelow(mapOf(a[key]), mapOf(b[key]), p, hide)
		default:
			hideAt(a, b, []string{key}, hide)
		}
	}
}

func hideAt(a, b any, path []string, hide func(a, b any, both bool) (any, any)) {
	am, bm := mapOf(a), mapOf(b)
	if x, y, inA, inB := pair(am, bm, path[0]); inA || inB {
		if len(path) > 1 {
			hideAt(x, y, path[1:], hide)
		} else {
			x, y = hide(x, y, inA && inB)
			if inA {
				am[path[0]] = x
			}
			if inB {
				bm[path[0]] = y
			}
		}
	}
	al, _ := a.([]any)
	bl, _ := b.([]any)
	for i := range max(len(al), len(bl)) { // whatever the token is: the lists of a cluster have other items, and in another order
		var x, y any
		inA, inB := i < len(al), i < len(bl)
		if inA {
			x = al[i]
		}
		if inB {
			y = bl[i]
		}
		if len(path) > 1 {
			hideAt(x, y, path[1:], hide)
			continue
		}
		x, y = hide(x, y, inA && inB)
		if inA {
			al[i] = x
		}
		if inB {
			bl[i] = y
		}
	}
}

func pair(a, b map[string]any, key string) (x, y any, inA, inB bool) {
	x, inA = a[key]
	y, inB = b[key]
	return x, y, inA, inB
}

func mapOf(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func keysOf(a, b map[string]any) []string {
	keys := slices.Collect(maps.Keys(a))
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}
