package deploy

import (
	"fmt"
	"regexp"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// Matcher is a Selector, compiled.
type Matcher struct {
	group, version, kind, namespace, name *regexp.Regexp // nil: any
	labels, annotations                   labels.Selector
}

// Matcher compiles a selector; nil chooses everything. The expressions have to match the whole text, as in kustomize. The error names the field.
func (s *Selector) Matcher() (*Matcher, error) {
	m := &Matcher{labels: labels.Everything(), annotations: labels.Everything()}
	if s == nil {
		return m, nil
	}
	for _, f := range []struct {
		name, text string
		to         **regexp.Regexp
	}{
		{"group", s.Group, &m.group}, {"version", s.Version, &m.version}, {"kind", s.Kind, &m.kind}, {"namespace", s.Namespace, &m.namespace}, {"name", s.Name, &m.name},
	} {
		if f.text == "" {
			continue
		}
		re, err := regexp.Compile("^(?:" + f.text + ")$")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		*f.to = re
	}
	for _, f := range []struct {
		name, text string
		to         *labels.Selector
	}{{"labelSelector", s.LabelSelector, &m.labels}, {"annotationSelector", s.AnnotationSelector, &m.annotations}} {
		sel, err := labels.Parse(f.text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		*f.to = sel
	}
	return m, nil
}

// Matches reports whether the selector chooses an object.
func (m *Matcher) Matches(u *unstructured.Unstructured) bool {
	gvk := u.GroupVersionKind()
	for _, f := range []struct {
		re   *regexp.Regexp
		text string
	}{{m.group, gvk.Group}, {m.version, gvk.Version}, {m.kind, gvk.Kind}, {m.namespace, u.GetNamespace()}, {m.name, u.GetName()}} {
		if f.re != nil && !f.re.MatchString(f.text) {
			return false
		}
	}
	return m.labels.Matches(labels.Set(u.GetLabels())) && m.annotations.Matches(labels.Set(u.GetAnnotations()))
}
