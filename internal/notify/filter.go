package notify

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/towline/towline/internal/deploy"
)

// anyName matches every name and namespace of an EventSource.
const anyName = "*"

// Filter decides which events a sink gets.
type Filter struct {
	suspended  bool
	errorsOnly bool
	namespace  string // that sources without one mean
	sources    []deploy.EventSource
	include    []*regexp.Regexp
	exclude    []*regexp.Regexp
}

// NewFilter reads what a sink wants. The filter can be used even with an error, which names the patterns that are no regular expressions: those are left out.
func NewFilter(s deploy.Sink) (*Filter, error) {
	f := &Filter{
		suspended:  s.Spec.Suspend,
		errorsOnly: s.Spec.EventSeverity == deploy.SeverityError,
		namespace:  s.Namespace,
		sources:    s.Spec.EventSources,
	}
	var errs [2]error
	f.include, errs[0] = compile("inclusionList", s.Spec.InclusionList)
	f.exclude, errs[1] = compile("exclusionList", s.Spec.ExclusionList)
	return f, errors.Join(errs[:]...)
}

func compile(field string, patterns []string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	var errs []error
	for i, p := range patterns {
		r, err := regexp.Compile(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s[%d]: %w", field, i, err))
			continue
		}
		out = append(out, r)
	}
	return out, errors.Join(errs...)
}

// Match reports whether an event is for the sink. A nil filter lets everything through.
func (f *Filter) Match(e deploy.Event) bool {
	switch {
	case f == nil:
		return true
	case f.suspended, f.errorsOnly && e.Severity != deploy.SeverityError, !f.about(e.Object):
		return false
	case len(f.include) > 0 && !matchAny(f.include, e.Message):
		return false
	}
	return !matchAny(f.exclude, e.Message)
}

func (f *Filter) about(n deploy.Name) bool {
	if len(f.sources) == 0 {
		return true
	}
	for _, s := range f.sources {
		namespace := s.Namespace
		if namespace == "" {
			namespace = f.namespace
		}
		if (s.Kind == "" || s.Kind == n.Kind) && (s.Name == anyName || s.Name == n.Name) && (namespace == anyName || namespace == n.Namespace) {
			return true
		}
	}
	return false
}

func matchAny(patterns []*regexp.Regexp, s string) bool {
	for _, p := range patterns {
		if p.MatchString(s) {
			return true
		}
	}
	return false
}
