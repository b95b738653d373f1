package helm

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/metadata"

	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
)

// revision is what the labels of one release Secret say. The Secret itself is not read.
type revision struct {
	version     int
	status      release.Status
	target      string
	fingerprint fingerprint
	// stamped says that the labels were written for this very revision, not copied from another by somebody else's Helm.
	stamped bool
	// try is the attempt that made it.
	try try
	// rejected is the fingerprint of what was rolled back to come here; held says that somebody did so by hand.
	rejected fingerprint
	held     bool
	// tested is how its tests ended, one of the tests… words; empty where they did not run.
	tested string
	// writer is the field manager that wrote the record last, touched when.
	writer  string
	touched time.Time
}

// ours reports whether this agent wrote the record's present state.
func (r revision) ours() bool { return r.stamped && r.writer == deploy.FieldManager }

// isAs reports whether the revision was made of what is wanted.
func (r revision) isAs(want wanted) bool { return r.stamped && r.fingerprint == want.fingerprint }

// rolledBackFrom reports whether the revision was made by rolling back what is wanted.
func (r revision) rolledBackFrom(want wanted) bool {
	return r.stamped && r.rejected != "" && r.rejected == want.fingerprint
}

// inTransition reports whether somebody is in the middle of changing the release, or was when he died.
func (r revision) inTransition() bool {
	return r.status.IsPending() || r.status == release.StatusUninstalling
}

// observation is the history of a release, oldest revision first.
type observation []revision

func (o observation) last() revision { return o[len(o)-1] }

// everDeployed reports whether any revision that is still on record was deployed once.
func (o observation) everDeployed() bool {
	return slices.ContainsFunc(o, func(r revision) bool {
		switch r.status {
		case release.StatusDeployed, release.StatusSuperseded, release.StatusPendingUpgrade, release.StatusPendingRollback, release.StatusUninstalling:
			return true
		}
		return false
	})
}

// lastGood is the newest revision but the last that was deployed once and did not fail its tests; 0: none.
func (o observation) lastGood() int {
	for _, r := range slices.Backward(o[:max(0, len(o)-1)]) {
		if (r.status == release.StatusDeployed || r.status == release.StatusSuperseded) && r.tested != testsFailed {
			return r.version
		}
	}
	return 0
}

var secrets = corev1.SchemeGroupVersion.WithResource("secrets")

// observe reads the history of a target's release.
func (e *Engine) observe(ctx context.Context, t deploy.Target) (observation, error) {
	p, err := e.at(ctx, t)
	if err != nil {
		return nil, err
	}
	o, err := observe(ctx, p.clients.Metadata, placeOf(t))
	return o, e.missingAccount(ctx, t, err)
}

// observe reads a release's history from the labels of its Secrets: one LIST, no decoding.
func observe(ctx context.Context, c metadata.Interface, at place) (observation, error) {
	list, err := c.Resource(secrets).Namespace(at.storage).List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set{"owner": "helm", "name": at.name}.String(),
	})
	if err != nil {
		return nil, fmt.Errorf("read the history of release %s: %w", at, err)
	}
	var o observation
	for i := range list.Items {
		if r, ok := revisionOf(&list.Items[i]); ok {
			o = append(o, r)
		}
	}
	slices.SortFunc(o, func(a, b revision) int { return cmp.Compare(a.version, b.version) })
	return o, nil
}

func revisionOf(m *metav1.PartialObjectMetadata) (revision, bool) {
	version, err := strconv.Atoi(m.Labels["version"])
	if err != nil {
		return revision{}, false // not one of Helm's: its own listing would not know what to do with it either
	}
	r := revision{
		version:     version,
		status:      release.Status(m.Labels["status"]),
		target:      m.Labels[deploy.LabelTarget],
		fingerprint: fingerprint(m.Labels[labelFingerprint]),
		stamped:     m.Labels[labelRevision] == m.Labels["version"],
		touched:     m.CreationTimestamp.Time,
	}
	if r.stamped { // else they are another revision's, copied
		r.try, r.rejected = parseTry(m.Labels[labelTry]), fingerprint(m.Labels[labelRejected])
		r.held, r.tested = m.Labels[labelHeld] == "true", m.Labels[labelTested]
	}
	for _, f := range m.ManagedFields {
		// Whoever owns the data wrote the state; others may have touched labels or annotations.
		if f.FieldsV1 != nil && bytes.Contains(f.FieldsV1.GetRawBytes(), []byte(`"f:release"`)) {
			r.writer = f.Manager
			if f.Time != nil && f.Time.After(r.touched) {
				r.touched = f.Time.Time
			}
		}
	}
	return r, true
}

// refuseStray fails where the target has a release under another name or in another storage namespace: installing a second one would orphan the first.
// It costs one LIST of metadata, and is asked only before a first installation.
func (e *Engine) refuseStray(ctx context.Context, t deploy.Target, at place) error {
	p, err := e.at(ctx, t)
	if err != nil {
		return err
	}
	list, err := p.clients.Metadata.Resource(secrets).List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set{"owner": "helm", deploy.LabelTarget: t.Name.LabelValue()}.String(),
	})
	if apierrors.IsForbidden(err) {
		return nil // rights that end at namespaces: what is not ours to see is not ours to look after
	}
	if err != nil {
		return fmt.Errorf("look for other releases of %s: %w", t.Name, err)
	}
	newest := map[place]revision{}
	for i := range list.Items {
		m := &list.Items[i]
		old := place{name: m.Labels["name"], storage: m.Namespace}
		if r, ok := revisionOf(m); ok && r.version > newest[old].version {
			newest[old] = r
		}
	}
	for old, r := range newest {
		if r.status != release.StatusUninstalled && (old.storage != at.storage || old.name != at.name) {
			return fmt.Errorf("%s is installed as release %s and the config now says %s: uninstall the old one first (helm uninstall --namespace %s %s), or restore its name",
				t.Name, old, at, old.storage, old.name)
		}
	}
	return nil
}
