package schedule

import (
	"fmt"

	"github.com/towline/towline/internal/deploy"
)

// moveError says why a target that moved is held up where it was, and what gets it out of there.
func moveError(was, today deploy.Target, err error) error {
	from, to := placeOf(was), placeOf(today)
	switch {
	case was.HelmRelease == nil:
		err = fmt.Errorf("what it has in %s has to go before it is applied to %s: %w", from, to, err)
	case from == to:
		err = fmt.Errorf("release %s has to be uninstalled before release %s is installed: %w", was.Release().Name, today.Release().Name, err)
	default:
		err = fmt.Errorf("release %s has to be uninstalled from %s before release %s is installed in %s: %w", was.Release().Name, from, today.Release().Name, to, err)
	}
	switch {
	case !leavable(was):
		return err
	case was.HelmRelease != nil: // today's entry says nothing about what becomes of the release before
		return fmt.Errorf("%w; if %s is gone for good, set suspend: true, take the entry out when that has been read, and put it in again when it is no longer listed: then what is there is left behind",
			err, from)
	}
	return fmt.Errorf("%w; if %s is gone for good, set deletionPolicy: %s: then what is there is left behind", err, from, deploy.DeletionOrphan)
}

// deletionError says why what a target left cannot be deleted, and what gets rid of it all the same.
func deletionError(was deploy.Target, err error) error {
	if !leavable(was) {
		return err
	}
	wish := "suspend: true"
	if was.Kustomization != nil {
		wish = "deletionPolicy: " + string(deploy.DeletionOrphan)
	}
	return fmt.Errorf("%w; if %s is gone for good, put the entry back with %s and take it out again when that has been read: then what is there is left behind", err, placeOf(was), wish)
}

// placeOf names the cluster of a target in words.
func placeOf(t deploy.Target) string {
	if c := t.Cluster(); c != "" {
		return "the cluster of " + c
	}
	return "the agent's own cluster"
}

// leavable reports whether what a target made is in a cluster that may be gone, and would be left there if its entry said so.
func leavable(t deploy.Target) bool {
	return t.Cluster() != "" && (t.Kustomization == nil || t.Kustomization.DeletionPolicy != deploy.DeletionOrphan)
}
