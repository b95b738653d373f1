package applier

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/towline/towline/internal/deploy"
)

// explain words an error about an object for status and logs. What a server says about a Secret, or an object with secret fields, may quote it: only why it refused and
// which fields it names are passed on, with what we say around that.
func explain(u *unstructured.Unstructured, err error) error {
	if err == nil || !deploy.HoldsSecrets(u) {
		return err
	}
	var short []string
	text, refusals := err.Error(), refusalsIn(err)
	for _, s := range refusals {
		words := refused(u, s)
		short = append(short, words)
		if s.Message != "" {
			text = strings.ReplaceAll(text, s.Message, words)
		}
	}
	switch {
	case len(refusals) == 0:
		return err
	case slices.ContainsFunc(refusals, func(s metav1.Status) bool { return s.Message == "" || strings.Contains(text, s.Message) }):
		text = strings.Join(short, "; ") // somebody worded it anew
	}
	return errors.New(text)
}

// refused says of an answer what cannot quote anything.
func refused(u *unstructured.Unstructured, s metav1.Status) string {
	text := fmt.Sprintf("the API server refused it (%s)", cmp.Or(string(s.Reason), fmt.Sprintf("HTTP %d", s.Code)))
	if s.Details == nil {
		return text
	}
	var fields []string
	for _, c := range s.Details.Causes {
		if c.Field != "" {
			fields = append(fields, c.Field)
		}
	}
	for _, f := range shownFields(u, fields) {
		text += ", " + f
	}
	return text
}

// refusalsIn are the answers of a server in an error, and in all that it wraps.
func refusalsIn(err error) []metav1.Status {
	var out []metav1.Status
	if s, ok := err.(apierrors.APIStatus); ok { //nolint:errorlint // what it wraps comes below
		out = append(out, s.Status())
	}
	switch w := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		if inner := w.Unwrap(); inner != nil {
			out = append(out, refusalsIn(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range w.Unwrap() {
			out = append(out, refusalsIn(inner)...)
		}
	}
	return out
}

// shownFields are paths of fields in an object without keys that may be secret.
func shownFields(u *unstructured.Unstructured, fields []string) []string {
	secret := deploy.SecretFieldsOf(u)
	if len(secret) == 0 {
		return fields
	}
	var out []string
	for _, f := range fields {
		if text := shownField(splitField(f), secret); text != "" && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// splitField parts spec.ports[0].port into its steps; those in brackets keep the opening one.
func splitField(f string) []string {
	var steps []string
	for f != "" {
		end := strings.IndexAny(f[1:], ".[") + 1
		if f[0] == '[' {
			end = strings.IndexByte(f, ']')
		}
		if end <= 0 {
			end = len(f)
		}
		if step := strings.TrimPrefix(f[:end], "."); step != "" {
			steps = append(steps, step)
		}
		f = strings.TrimPrefix(f[end:], "]")
	}
	return steps
}

// shownField writes steps again: down to a secret field, and of keys in brackets only numbers, and those that the secret fields name.
func shownField(steps []string, secret deploy.SecretFields) string {
	text, left := "", secret
	for depth, step := range steps {
		if slices.ContainsFunc(left, func(p []string) bool { return len(p) <= depth }) {
			break
		}
		key, bracketed := strings.CutPrefix(step, "[")
		_, err := strconv.Atoi(key)
		number := bracketed && err == nil
		var next deploy.SecretFields
		for _, p := range left {
			if p[depth] == strings.Trim(key, `"`) || p[depth] == "*" && bracketed {
				next = append(next, p)
			}
		}
		named := slices.ContainsFunc(next, func(p []string) bool { return p[depth] != "*" })
		left = next
		switch {
		case !bracketed:
			text += "." + step
		case number || named:
			text += "[" + key + "]"
		default:
			text += "[…]"
		}
	}
	return strings.TrimPrefix(text, ".")
}

// errUnsaid stands for an error that quotes metadata with secrets in it.
var errUnsaid = errors.New("an annotation or label of it is not valid; which one is not shown, since a secret was put into one")

// discreet is an error about the annotations and labels of an object, without its words where they may quote a secret.
func discreet(u *unstructured.Unstructured, err error) error {
	inMetadata := func(p []string) bool {
		return len(p) == 0 || p[0] == "metadata" && (len(p) == 1 || p[1] == "annotations" || p[1] == "labels")
	}
	if err == nil || u == nil || !slices.ContainsFunc(deploy.SecretFieldsOf(u), inMetadata) {
		return err
	}
	return errUnsaid
}

// reticent is the health of an object without a message that may quote it: controllers write into conditions what they cannot use. The messages about built-in kinds are
// kstatus' own, unless a rule of the target took them from the object.
func (h health) reticent(u *unstructured.Unstructured, ruled bool) health {
	if h.message == "" || len(deploy.SecretFieldsOf(u)) == 0 {
		return h
	}
	if !ruled && status.GetLegacyConditionsFn(u) != nil && u.GetKind() != "CustomResourceDefinition" {
		return h
	}
	if h.message = ""; h.status != status.CurrentStatus {
		h.message = string(h.status) + "; its message is not shown, since it may quote a secret"
	}
	return h
}

// sealed stands in place of a secret field: it can be compared and not looked into.
type sealed struct{ value any }

// closed are two versions of an object with their secret fields sealed.
func closed(before, after *unstructured.Unstructured) (a, b map[string]any) {
	fields := append(deploy.SecretFieldsOf(before), deploy.SecretFieldsOf(after)...)
	if len(fields) == 0 {
		return before.Object, after.Object
	}
	a, b = before.DeepCopy().Object, after.DeepCopy().Object
	fields.Hide(a, b, func(x, y any, _ bool) (any, any) {
		return seal(x), seal(y)
	})
	return a, b
}

func seal(v any) any {
	if s, ok := v.(sealed); ok { // fields of the two versions may lie in each other
		return s
	}
	return sealed{v}
}
