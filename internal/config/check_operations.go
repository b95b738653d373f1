package config

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
)

// checkOperations checks the options of what Helm does, and what follows when it fails.
func (e *entry) checkOperations(h *deploy.HelmReleaseSpec) {
	policies := []string{string(deploy.CRDsSkip), string(deploy.CRDsCreate), string(deploy.CRDsCreateReplace)}
	if i := h.Install; i != nil {
		e.checkDuration("install.timeout", i.Timeout)
		e.oneOf("install.crds", string(i.CRDs), policies...)
		e.checkStrategy("install.strategy", i.Strategy)
		if r := i.Remediation; r != nil {
			e.checkRetries("install.remediation.retries", r.Retries)
		}
	}
	if u := h.Upgrade; u != nil {
		e.checkDuration("upgrade.timeout", u.Timeout)
		e.oneOf("upgrade.crds", string(u.CRDs), policies...)
		e.checkStrategy("upgrade.strategy", u.Strategy)
		if r := u.Remediation; r != nil {
			e.checkRetries("upgrade.remediation.retries", r.Retries)
			e.oneOf("upgrade.remediation.strategy", string(r.Strategy), string(deploy.RemediateRollback), string(deploy.RemediateUninstall))
		}
	}
	if r := h.Rollback; r != nil {
		e.checkDuration("rollback.timeout", r.Timeout)
		e.checkFallback(r.OnFailure, r.Group)
		if r.OnFailure == deploy.OnFailureLastGood && h.Upgrade != nil {
			e.checkNoContradiction(*h.Upgrade)
		}
	}
	if u := h.Uninstall; u != nil {
		e.checkDuration("uninstall.timeout", u.Timeout)
		e.oneOf("uninstall.deletionPropagation", string(u.DeletionPropagation),
			string(deploy.PropagationBackground), string(deploy.PropagationForeground), string(deploy.PropagationOrphan))
	}
	if t := h.Test; t != nil {
		e.checkDuration("test.timeout", t.Timeout)
		e.checkTestFilters("test.filters", t.Filters)
	}
}

// checkFallback checks what follows a revision that fails.
func (e *entry) checkFallback(onFailure deploy.OnFailure, group string) {
	e.oneOf("rollback.onFailure", string(onFailure), string(deploy.OnFailureKeep), string(deploy.OnFailureLastGood))
	e.checkLabel("rollback.group", group)
}

// checkNoContradiction checks that an upgrade that is to be rolled back when it fails is not to be left, or undone in another way, too.
func (e *entry) checkNoContradiction(u deploy.Upgrade) {
	contradicts := func(what string) {
		e.bad("rollback.onFailure", "%s rolls a failed upgrade back, and %s says otherwise: drop one of the two", deploy.OnFailureLastGood, what)
	}
	if s := u.Strategy; s != nil && s.Name == deploy.StrategyRetry {
		contradicts("upgrade.strategy " + string(s.Name))
	}
	r := u.Remediation
	if r == nil {
		return
	}
	switch {
	case r.Strategy == deploy.RemediateUninstall:
		contradicts("upgrade.remediation.strategy " + string(r.Strategy))
	case r.RemediateLastFailure != nil && !*r.RemediateLastFailure:
		contradicts("upgrade.remediation.remediateLastFailure: false")
	case r.Retries < 0:
		contradicts("upgrade.remediation.retries: -1, which has no end,")
	}
}

// checkStrategy checks what follows a failure. Remediation beside RetryOnFailure is allowed and means nothing, as in Flux.
func (e *entry) checkStrategy(path string, s *deploy.Strategy) {
	if s == nil {
		return
	}
	if s.Name == "" {
		e.emptyIfWritten(path+".name", "want RemediateOnFailure or RetryOnFailure")
	}
	e.oneOf(path+".name", string(s.Name), string(deploy.StrategyRemediate), string(deploy.StrategyRetry))
	e.checkDuration(path+".retryInterval", s.RetryInterval)
	if s.RetryInterval != nil && s.Name == deploy.StrategyRemediate {
		e.bad(path+".retryInterval", "is for RetryOnFailure: drop it, or set name: %s", deploy.StrategyRetry)
	}
}

func (e *entry) checkRetries(path string, n int) {
	if n < -1 {
		e.bad(path, "%d is no count: want 0 or more, or -1 for retries without end", n)
	}
}

func (e *entry) checkTestFilters(path string, filters []deploy.TestFilter) {
	for i, f := range filters {
		at := item(path, i) + ".name"
		switch {
		case f.Name == "":
			e.emptyIfWritten(at, "want the name of a test, which is its object's")
		case len(validation.IsDNS1123Subdomain(f.Name)) > 0:
			e.bad(at, "%q is not the name of a test: want its object's, in lower-case letters, digits, - and .", f.Name)
		case slices.ContainsFunc(filters[:i], func(other deploy.TestFilter) bool { return other.Name == f.Name }):
			e.bad(at, "%s is listed twice", f.Name)
		}
	}
}
