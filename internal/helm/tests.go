package helm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
)

// test runs the tests of the newest revision's chart, hooks that are run only when asked for, one after the other until one fails. failed is why a test did not pass, err why they
// could not be run. All share the time that the operation has.
func (op *operation) test(t deploy.Target) (failed, err error) {
	rel, err := op.cfg.Releases.Last(op.place.name)
	if err != nil {
		return nil, fmt.Errorf("read the newest revision of release %s: %w", op.place, err)
	}
	include, exclude, err := chosenTests(testsOf(rel), t.HelmRelease.Test)
	if err != nil {
		return nil, fmt.Errorf("the chart of release %s: %w", op.place, err)
	}
	run := action.NewReleaseTesting(op.cfg)
	run.Namespace, run.Timeout = op.place.namespace, max(time.Until(op.kube.deadline), time.Second)
	run.Filters[action.IncludeNameFilter], run.Filters[action.ExcludeNameFilter] = include, exclude
	op.kube.testing, op.hooks = true, rel.Hooks
	defer func() { op.kube.testing, op.hooks = false, nil }()
	tested, err := run.Run(op.place.name)
	if err == nil {
		return nil, nil
	}
	if op.ctx.Err() != nil {
		return nil, op.ctx.Err()
	}
	if tested != nil {
		for _, h := range tested.Hooks {
			if isTest(h) && h.LastRun.Phase == release.HookPhaseFailed {
				return fmt.Errorf("test %s: %w", h.Name, err), nil
			}
		}
	}
	return nil, fmt.Errorf("run the tests of release %s: %w", op.place, err)
}

// testsOf are the names of a release's tests, sorted.
func testsOf(r *release.Release) []string {
	var names []string
	for _, h := range r.Hooks {
		if isTest(h) {
			names = append(names, h.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// whole puts back the hooks that the SDK leaves out of the record while chosen tests run: were it interrupted, they would be lost, those that an uninstallation runs among them.
func (op *operation) whole(r *release.Release) *release.Release {
	if len(op.hooks) == 0 {
		return r
	}
	c := *r
	c.Hooks = make([]*release.Hook, len(op.hooks))
	for i, h := range op.hooks {
		c.Hooks[i] = h
		if now := slices.IndexFunc(r.Hooks, func(o *release.Hook) bool { return o.Path == h.Path && o.Name == h.Name && o.Kind == h.Kind }); now >= 0 {
			c.Hooks[i] = r.Hooks[now]
		}
	}
	return &c
}

func isTest(h *release.Hook) bool { return slices.Contains(h.Events, release.HookTest) }

// chosenTests are the filters as Helm takes them. One that chooses a test which the chart does not have would let everything pass, and is an error; leaving out what is
// not there is none.
func chosenTests(have []string, spec *deploy.Test) (include, exclude []string, err error) {
	if spec == nil {
		return nil, nil, nil
	}
	for _, f := range spec.Filters {
		switch {
		case f.Exclude:
			exclude = append(exclude, f.Name)
		case !slices.Contains(have, f.Name) && len(have) == 0:
			return nil, nil, fmt.Errorf("test.filters names the test %s, it has none", f.Name)
		case !slices.Contains(have, f.Name):
			return nil, nil, fmt.Errorf("test.filters names the test %s, it has %s", f.Name, strings.Join(have, ", "))
		default:
			include = append(include, f.Name)
		}
	}
	return include, exclude, nil
}
