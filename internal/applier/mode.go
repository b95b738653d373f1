package applier

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// prefixes of the marks by which an object says how it wants to be treated: ours, and Flux's for those who come from there.
var prefixes = []string{"towline.dev/", "kustomize.toolkit.fluxcd.io/"}

// Names of marks and their values. Each is an annotation or a label.
const (
	markReconcile = "reconcile" // disabled: neither applied nor deleted
	markSSA       = "ssa"       // one of the four below
	markForce     = "force"     // enabled: recreated where a field is immutable
	markPrune     = "prune"     // disabled: never deleted; enabled (ours only): also a protected kind

	ssaOverride     = "Override"
	ssaMerge        = "Merge"
	ssaIfNotPresent = "IfNotPresent"
	ssaIgnore       = "Ignore"

	valueEnabled  = "enabled"
	valueDisabled = "disabled"
)

// metadataOf is what marks are read from.
type metadataOf interface {
	GetAnnotations() map[string]string
	GetLabels() map[string]string
}

// says reports whether any mark of that name, under either prefix, has the value; case does not matter. The key is the first that does: ours goes before Flux's, an
// annotation before a label.
func says(o metadataOf, name, value string) (key string, ok bool) {
	annotations, labels := o.GetAnnotations(), o.GetLabels()
	for _, p := range prefixes {
		for _, from := range []map[string]string{annotations, labels} {
			if v, has := from[p+name]; has && strings.EqualFold(v, value) {
				return p + name, true
			}
		}
	}
	return "", false
}

// mode is how one object wants to be applied, by its marks.
type mode struct {
	// skip says why it is never sent; empty: it is.
	skip string
	// once: it is created where it is missing and never changed.
	once string
	// merge: what kubectl set stays.
	merge bool
	force bool
}

// modeOf reads the marks. Pure.
func modeOf(o metadataOf) mode {
	var m mode
	if key, ok := says(o, markReconcile, valueDisabled); ok {
		m.skip = key + " is " + valueDisabled
	} else if key, ok := says(o, markSSA, ssaIgnore); ok {
		m.skip = key + " is " + ssaIgnore
	}
	if key, ok := says(o, markSSA, ssaIfNotPresent); ok {
		m.once = key + " is " + ssaIfNotPresent
	}
	_, m.merge = says(o, markSSA, ssaMerge)
	_, m.force = says(o, markForce, valueEnabled)
	return m
}

// and is the mode of an object that has marks in the artifact and in the cluster: both count.
func (m mode) and(other mode) mode {
	if m.skip == "" {
		m.skip = other.skip
	}
	if m.once == "" {
		m.once = other.once
	}
	m.merge, m.force = m.merge || other.merge, m.force || other.force
	return m
}

// checkMarks names the marks of an artifact's object that have values which nobody knows: a typing error must not decide over an object.
func checkMarks(o metadataOf) error {
	var errs []error
	for name, values := range map[string][]string{
		markReconcile: {valueEnabled, valueDisabled}, markForce: {valueEnabled, valueDisabled}, markPrune: {valueEnabled, valueDisabled}, markDrift: {valueEnabled, valueDisabled},
		markSSA: {ssaOverride, ssaMerge, ssaIfNotPresent, ssaIgnore},
	} {
		for _, p := range prefixes {
			for _, from := range []map[string]string{o.GetAnnotations(), o.GetLabels()} {
				v, ok := from[p+name]
				if ok && !slices.ContainsFunc(values, func(known string) bool { return strings.EqualFold(known, v) }) {
					errs = append(errs, fmt.Errorf("%s%s is %q: want %s", p, name, v, strings.Join(values, ", ")))
				}
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}
