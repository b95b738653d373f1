package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
)

// What stands in place of a secret value: nobody can read it, or guess it from its length.
const (
	maskSame   = "***"
	maskBefore = "*** (before)"
	maskAfter  = "*** (after)"
)

// maskSecrets replaces the data of Secrets and what was filled from secrets in two versions of an object, in place, so that one still sees what differs. Either may be nil.
func maskSecrets(before, after *unstructured.Unstructured) {
	fields := slices.Concat(secretFields(before), secretFields(after))
	if before != nil && deploy.IsSecret(before) || after != nil && deploy.IsSecret(after) {
		maskFields(before, after, []string{"data"}, []string{"stringData"})
	}
	maskFields(before, after, []string{"metadata", "annotations", corev1.LastAppliedConfigAnnotation}) // kubectl's copy of the whole object
	if len(fields) == 0 {
		return
	}
	a, b := bodyOf(before), bodyOf(after)
	v := secretValues{}
	fields.Hide(a, b, func(x, y any, both bool) (any, any) {
		v.add(x)
		v.add(y)
		return maskOne(x, y, both)
	})
	v.hideObject(a, b)
}

func secretFields(u *unstructured.Unstructured) deploy.SecretFields {
	if u == nil {
		return nil
	}
	return deploy.SecretFieldsOf(u)
}

func bodyOf(u *unstructured.Unstructured) map[string]any {
	if u == nil {
		return nil
	}
	return u.Object
}

func maskFields(before, after *unstructured.Unstructured, fields ...[]string) {
	for _, field := range fields {
		a, inBefore := valueOf(before, field)
		b, inAfter := valueOf(after, field)
		maskedA, maskedB := maskPair(a, b, inBefore && inAfter)
		if inBefore {
			_ = unstructured.SetNestedField(before.Object, maskedA, field...) // the parents are there
		}
		if inAfter {
			_ = unstructured.SetNestedField(after.Object, maskedB, field...)
		}
	}
}

func valueOf(u *unstructured.Unstructured, field []string) (any, bool) {
	if u == nil {
		return nil, false
	}
	v, found, err := unstructured.NestedFieldNoCopy(u.Object, field...)
	return v, found && err == nil
}

// maskPair masks two values, of maps each value on its own.
func maskPair(a, b any, both bool) (maskedA, maskedB any) {
	left, leftMap := a.(map[string]any)
	right, rightMap := b.(map[string]any)
	if (leftMap || a == nil) && (rightMap || b == nil) {
		return maskMap(left, right, maskBefore), maskMap(right, left, maskAfter)
	}
	return maskOne(a, b, both)
}

func maskMap(values, counterpart map[string]any, word string) map[string]any {
	out := maps.Clone(values)
	for k, v := range values {
		out[k] = maskSame
		if other, ok := counterpart[k]; ok && !reflect.DeepEqual(v, other) {
			out[k] = word
		}
	}
	return out
}

// maskOne masks two values whole.
func maskOne(a, b any, both bool) (maskedA, maskedB any) {
	if both && !reflect.DeepEqual(a, b) {
		return maskBefore, maskAfter
	}
	return maskSame, maskSame
}

const (
	// minCopied is the length from which a text that equals a secret value counts as a copy of it, in bytes: shorter ones equal it by chance.
	minCopied = 2
	// minWithin is the length from which it counts within other text too.
	minWithin = 6
)

// secretValues are the texts, and the numbers as texts, that stand in secret fields. Servers copy some into other fields, such as a Service's port into its targetPort.
type secretValues map[string]bool

func (s secretValues) add(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			s.add(e)
		}
	case []any:
		for _, e := range v {
			s.add(e)
		}
	case bool, nil:
	default:
		if text := fmt.Sprint(v); len(text) >= minCopied && !strings.HasPrefix(text, maskSame) {
			s[text] = true
		}
	}
}

func (s secretValues) has(v any) bool {
	switch v.(type) {
	case map[string]any, []any, bool, nil:
		return false
	}
	text := fmt.Sprint(v)
	if s[text] {
		return true
	}
	for secret := range s {
		if len(secret) >= minWithin && strings.Contains(text, secret) {
			return true
		}
	}
	return false
}

// hideObject masks the copies in two versions of an object, but in what names it and in the annotation that tells of its secret fields.
func (s secretValues) hideObject(a, b map[string]any) {
	below := func(a, b map[string]any, left ...string) {
		s.hideMaps(a, b, func(key string) bool { return slices.Contains(left, key) })
	}
	below(a, b, "apiVersion", "kind", "metadata")
	a, b = mapIn(a, "metadata"), mapIn(b, "metadata")
	below(a, b, "name", "namespace", "annotations")
	below(mapIn(a, "annotations"), mapIn(b, "annotations"), deploy.AnnotationSecretFields)
}

func mapIn(m map[string]any, key string) map[string]any {
	v, _ := m[key].(map[string]any)
	return v
}

func (s secretValues) hideMaps(a, b map[string]any, left func(key string) bool) {
	for key, x := range a {
		y, inB := b[key]
		if left != nil && left(key) {
			continue
		}
		x, y = s.hide(x, y, inB)
		if a[key] = x; inB {
			b[key] = y
		}
	}
	for key, y := range b {
		if _, inA := a[key]; !inA && (left == nil || !left(key)) {
			b[key], _ = s.hide(y, nil, false)
		}
	}
}

// hide masks the copies in two values, where both have one side by side, so that one sees whether they differ.
func (s secretValues) hide(a, b any, both bool) (maskedA, maskedB any) {
	am, _ := a.(map[string]any)
	bm, _ := b.(map[string]any)
	s.hideMaps(am, bm, nil)
	al, _ := a.([]any)
	bl, _ := b.([]any)
	for i := range max(len(al), len(bl)) {
		switch {
		case i >= len(al):
			bl[i], _ = s.hide(bl[i], nil, false)
		case i >= len(bl):
			al[i], _ = s.hide(al[i], nil, false)
		default:
			al[i], bl[i] = s.hide(al[i], bl[i], true)
		}
	}
	hidA, hidB := maskOne(a, b, both)
	switch inA, inB := s.has(a), s.has(b); {
	case inA && inB:
		return hidA, hidB
	case inA:
		return hidA, b
	case inB:
		return a, hidB
	}
	return a, b
}
