package helm

import (
	"time"

	"github.com/towline/towline/internal/deploy"
)

// defaultMaxHistory is how many revisions are kept where the target does not say. Same as Flux.
const defaultMaxHistory = 5

// place is where a release lives: its name, the namespace of its records and that of its objects.
type place struct {
	name, storage, namespace string
}

// String is storage namespace/release name: what identifies a release.
func (p place) String() string { return p.storage + "/" + p.name }

func (p place) id() deploy.ObjectID {
	return deploy.ObjectID{Group: "helm.sh", Kind: "Release", Namespace: p.storage, Name: p.name}
}

func placeOf(t deploy.Target) place {
	id := t.Release()
	return place{name: id.Name, storage: id.Storage, namespace: id.Namespace}
}

func maxHistory(t deploy.Target) int {
	if m := t.HelmRelease.MaxHistory; m != nil {
		return *m
	}
	return defaultMaxHistory
}

func targetTimeout(t deploy.Target) time.Duration {
	if t.Timeout > 0 {
		return t.Timeout
	}
	return defaultTimeout
}

func installTimeout(t deploy.Target) time.Duration {
	if i := t.HelmRelease.Install; i != nil && i.Timeout != nil && i.Timeout.Duration > 0 {
		return i.Timeout.Duration
	}
	return targetTimeout(t)
}

func upgradeTimeout(t deploy.Target) time.Duration {
	if u := t.HelmRelease.Upgrade; u != nil && u.Timeout != nil && u.Timeout.Duration > 0 {
		return u.Timeout.Duration
	}
	return targetTimeout(t)
}

func uninstallTimeout(t deploy.Target) time.Duration {
	if u := t.HelmRelease.Uninstall; u != nil && u.Timeout != nil && u.Timeout.Duration > 0 {
		return u.Timeout.Duration
	}
	return targetTimeout(t)
}

func rollbackTimeout(t deploy.Target) time.Duration {
	if r := t.HelmRelease.Rollback; r != nil && r.Timeout != nil && r.Timeout.Duration > 0 {
		return r.Timeout.Duration
	}
	return targetTimeout(t)
}

func testTimeout(t deploy.Target) time.Duration {
	if r := t.HelmRelease.Test; r != nil && r.Timeout != nil && r.Timeout.Duration > 0 {
		return r.Timeout.Duration
	}
	return targetTimeout(t)
}
