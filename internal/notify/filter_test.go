package notify

import (
	"strings"
	"testing"

	"github.com/towline/towline/internal/deploy"
)

func TestFilter(t *testing.T) {
	failure := deploy.Event{Object: app, Severity: "error", Reason: "VerificationFailed", Message: "signature refused"}
	info := deploy.Event{Object: web, Severity: "info", Reason: "ReconciliationSucceeded", Message: "applied: 3 changes"}
	source := func(kind deploy.Kind, namespace, name string) []deploy.EventSource {
		return []deploy.EventSource{{Kind: kind, Namespace: namespace, Name: name}}
	}
	for name, c := range map[string]struct {
		spec          deploy.SinkSpec
		failure, info bool
	}{
		"lets everything through by default":            {deploy.SinkSpec{}, true, true},
		"info means everything":                         {deploy.SinkSpec{EventSeverity: "info"}, true, true},
		"error means errors only":                       {deploy.SinkSpec{EventSeverity: "error"}, true, false},
		"sends nothing while suspended":                 {deploy.SinkSpec{Suspend: true}, false, false},
		"chooses by name, of any kind":                  {deploy.SinkSpec{EventSources: source("", "", "app")}, true, false},
		"chooses by kind":                               {deploy.SinkSpec{EventSources: source(deploy.KindKustomization, "", "*")}, false, true},
		"chooses by kind and name":                      {deploy.SinkSpec{EventSources: source(deploy.KindKustomization, "", "app")}, false, false},
		"a star is every name in the alert's namespace": {deploy.SinkSpec{EventSources: source("", "", "*")}, true, true},
		"another namespace is another":                  {deploy.SinkSpec{EventSources: source("", "staging", "*")}, false, false},
		"a star is every namespace too":                 {deploy.SinkSpec{EventSources: source("", "*", "web")}, false, true},
		"one of several sources is enough":              {deploy.SinkSpec{EventSources: append(source("", "", "web"), source("", "", "app")...)}, true, true},
		"a message must match one inclusion":            {deploy.SinkSpec{InclusionList: []string{"^nothing", "signature"}}, true, false},
		"and no exclusion":                              {deploy.SinkSpec{ExclusionList: []string{`\d changes`}}, true, false},
		"exclusion goes before inclusion":               {deploy.SinkSpec{InclusionList: []string{"."}, ExclusionList: []string{"refused"}}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := NewFilter(deploy.Sink{Name: "chat", Namespace: "default", Spec: c.spec})
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Match(failure); got != c.failure {
				t.Errorf("failure: %v", got)
			}
			if got := f.Match(info); got != c.info {
				t.Errorf("info: %v", got)
			}
		})
	}
	t.Run("a pattern that is none is named and left out", func(t *testing.T) {
		f, err := NewFilter(deploy.Sink{Namespace: "default", Spec: deploy.SinkSpec{InclusionList: []string{"ok", "("}, ExclusionList: []string{"signature"}}})
		if err == nil || !strings.Contains(err.Error(), "inclusionList[1]") {
			t.Errorf("error %v", err)
		}
		if f.Match(failure) {
			t.Error("the good pattern is not used")
		}
	})
}
