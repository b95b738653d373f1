package schedule

import (
	"fmt"

	"github.com/towline/towline/internal/deploy"
)

// moveError says why a target that moved is held up where it was, and what gets it out of there.
func moveError(was, today deploy.Target, err error) error {
	if was.HelmRelease != nil {
		return fmt.Errorf("release %s has to be uninstalled before release %s is installed: %w", was.Release().Name, today.Release().Name, err)
	}
	err = fmt.Errorf("what it has in %s has to go before it is applied to %s: %w", placeOf(was), placeOf(today), err)
	if !leavable(was) {
		return err
	}
	return fmt.Errorf("%w; if %s is gone for good, set deletionPolicy: %s: then what is there is left behind", err, placeOf(was), deploy.DeletionOrphan)
}

// placeOf names the cluster of a target in words.
func placeOf(t deploy.Target) string {
	if c := t.Cluster(); c != "" {
		return "the cluster of " + c
	}
	return "the agent's own cluster"
}

// leavable reports whether what a target made is in a cluster that may be gone, and would be left there if its policy said so.
func leavable(t deploy.Target) bool {
	return t.Cluster() != "" && t.Kustomization != nil && t.Kustomization.DeletionPolicy != deploy.DeletionOrphan
}
