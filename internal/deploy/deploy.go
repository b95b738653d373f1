// Package deploy is the vocabulary that the rooms of the agent share: what a source, a target, a revision, a plan and an outcome are. Data types only.
package deploy

import (
	"encoding/json"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Labels and annotations that objects of ours bear.
const (
	// LabelTarget names the target that an object belongs to: LabelValue of its name.
	LabelTarget = "towline.dev/target"
	// LabelState is on every ConfigMap that holds state of ours: its value says which (StateInventory, StateRecord).
	LabelState     = "towline.dev/state"
	StateInventory = "inventory"
	StateRecord    = "record"
	// FieldManager owns the fields that we apply.
	FieldManager = "towline"
)

// Source is one entry of sources with its defaults filled in. Immutable.
type Source struct {
	Name     Name
	Spec     SourceSpec
	Interval time.Duration
	Timeout  time.Duration
	// Hash of the spec: equal entries have equal hashes across restarts.
	Hash string
}

// Target is one entry of kustomizations or helmReleases with its defaults filled in and its references resolved. Immutable.
type Target struct {
	Name      Name
	Source    Name
	DependsOn []Name
	// ReadyExprs are the CEL expressions of those dependencies that have one.
	ReadyExprs map[Name]string `json:",omitempty"`
	Interval   time.Duration
	// RetryInterval is where the backoff after failures starts being capped.
	RetryInterval time.Duration
	Timeout       time.Duration
	Suspend       bool
	// Hash of the spec: it changes exactly when the entry does.
	Hash string
	// Exactly one of these two is set.
	Kustomization *KustomizationSpec
	HelmRelease   *HelmReleaseSpec
}

// Access says as which account, and in which cluster, a target works: the agent's own where both are empty.
func (t Target) Access() (serviceAccount string, cluster *KubeConfig) {
	switch {
	case t.Kustomization != nil:
		return t.Kustomization.ServiceAccountName, t.Kustomization.KubeConfig
	case t.HelmRelease != nil:
		return t.HelmRelease.ServiceAccountName, t.HelmRelease.KubeConfig
	}
	return "", nil
}

// FallsBack reports whether the target goes back to its last good revision where a new one does not become healthy.
func (t Target) FallsBack() bool {
	switch {
	case t.Kustomization != nil:
		return t.Kustomization.Rollback != nil && t.Kustomization.Rollback.OnFailure == OnFailureLastGood
	case t.HelmRelease != nil:
		return t.HelmRelease.Rollback != nil && t.HelmRelease.Rollback.OnFailure == OnFailureLastGood
	}
	return false
}

// RollbackGroup names the targets of its namespace that the target goes back together with; empty: none.
func (t Target) RollbackGroup() string {
	switch {
	case t.Kustomization != nil && t.Kustomization.Rollback != nil:
		return t.Kustomization.Rollback.Group
	case t.HelmRelease != nil && t.HelmRelease.Rollback != nil:
		return t.HelmRelease.Rollback.Group
	}
	return ""
}

// Cluster names the cluster that a target is for, the same text for the same kubeConfig; empty for the one that the agent's state is in.
func (t Target) Cluster() string {
	_, k := t.Access()
	if k == nil {
		return ""
	}
	name := "file " + k.File
	if r := k.SecretRef; r != nil {
		name = "secret " + t.Name.Namespace + "/" + r.Name
		if r.Key != "" && r.Key != "value" && r.Key != "value.yaml" { // the defaults: spelling one out names no other cluster
			name += " " + r.Key
		}
	}
	if k.Context != "" {
		name += " context " + k.Context
	}
	return name
}

// Revision is one artifact, fetched, checked and unpacked. Immutable.
type Revision struct {
	Source Name
	// Ref as it was resolved: a tag; empty where the source is pinned to a digest.
	Ref string
	// Digest of the manifest that was resolved, algorithm:hex.
	Digest string
	// Dir holds the unpacked layer; for a copied layer, that one file.
	Dir string
	// File is the path below Dir of a copied layer; empty for an extracted one.
	File string
	// Annotations of the manifest, org.opencontainers.image.* among them.
	Annotations map[string]string
	// VerifiedBy says what vouched for the digest; empty where nothing was asked for.
	VerifiedBy string
	// Policy is the hash of what it was verified with, as in a Pin.
	Policy string
	Seen   time.Time
}

// String is how Flux writes a revision: tag@digest, or the digest alone.
func (r Revision) String() string {
	if r.Ref == "" {
		return r.Digest
	}
	return r.Ref + "@" + r.Digest
}

// ObjectID names an object of the cluster, without the version that it was sent in.
type ObjectID struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is Kind/namespace/name or Kind/name, with the group behind the kind where there is one: Deployment.apps/default/web.
func (o ObjectID) String() string {
	s := o.Kind
	if o.Group != "" {
		s += "." + o.Group
	}
	if o.Namespace != "" {
		s += "/" + o.Namespace
	}
	return s + "/" + o.Name
}

// IDOf is the ObjectID of an object.
func IDOf(u *unstructured.Unstructured) ObjectID {
	gvk := u.GroupVersionKind()
	return ObjectID{Group: gvk.Group, Kind: gvk.Kind, Namespace: u.GetNamespace(), Name: u.GetName()}
}

// Action is what is done, or would be done, to an object or a release.
type Action string

// The actions of a plan.
const (
	ActionCreate    Action = "create"
	ActionApply     Action = "apply" // the object may exist: what changes is decided by the server
	ActionUpdate    Action = "update"
	ActionPrune     Action = "prune"
	ActionKeep      Action = "keep"     // would be pruned, but something forbids it; Err says what
	ActionRecreate  Action = "recreate" // deleted and created, because an immutable field changed
	ActionSkip      Action = "skip"     // left alone, because somebody said so; Reason says who
	ActionWait      Action = "wait"     // nothing to send, but its health is waited for
	ActionInstall   Action = "install"
	ActionUpgrade   Action = "upgrade"
	ActionRecover   Action = "recover" // an operation that a crash interrupted is taken up again
	ActionUninstall Action = "uninstall"
	ActionRollback  Action = "rollback"
	ActionTest      Action = "test"
	ActionDrift     Action = "drift" // somebody changed it, and nothing is done about that; Reason says what
)

// Change is one action of a plan, and afterwards how it went. Fields holds paths, never values; Reason says in a few words why the action is needed.
type Change struct {
	Action Action
	Object ObjectID
	Fields []string
	Reason string
	Err    error
}

// changeJSON is a Change on the wire: the error is text.
type changeJSON struct {
	Action Action   `json:"action"`
	Object ObjectID `json:"object"`
	Fields []string `json:"fields,omitempty"`
	Reason string   `json:"reason,omitempty"`
	Error  string   `json:"error,omitempty"`
}

// MarshalJSON writes the error as text.
func (c Change) MarshalJSON() ([]byte, error) {
	out := changeJSON{Action: c.Action, Object: c.Object, Fields: c.Fields, Reason: c.Reason}
	if c.Err != nil {
		out.Error = c.Err.Error()
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote. The error keeps its text only: errors.Is and errors.As no longer find what it wrapped.
func (c *Change) UnmarshalJSON(b []byte) error {
	var in changeJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*c = Change{Action: in.Action, Object: in.Object, Fields: in.Fields, Reason: in.Reason}
	if in.Error != "" {
		c.Err = errors.New(in.Error)
	}
	return nil
}

// Plan is what an engine will do for one target at one digest. An empty Changes means: nothing. Printable.
type Plan struct {
	Target  Name
	Digest  string
	Objects []*unstructured.Unstructured
	Changes []Change
	// Private is the engine's own note from Plan to Apply. Nobody else reads it.
	Private any
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool { return p == nil || len(p.Changes) == 0 }

// Phase is what a target is doing, or how its last attempt ended.
type Phase string

// The phases. The first five are stages of a running attempt, in order.
const (
	PhaseBuilding  Phase = "Building"
	PhasePlanning  Phase = "Planning"
	PhaseApplying  Phase = "Applying"
	PhaseWaiting   Phase = "Waiting" // for health
	PhasePruning   Phase = "Pruning"
	PhasePending   Phase = "Pending" // not tried yet: waits for a source or a dependency
	PhaseReady     Phase = "Ready"
	PhaseDegraded  Phase = "Degraded" // some objects failed, the others are as wanted
	PhaseFailed    Phase = "Failed"
	PhaseSuspended Phase = "Suspended"
	PhaseDeleting  Phase = "Deleting"
)

// Cancelable reports whether news may cancel an attempt in this stage. Applying and pruning are never cut short.
func (p Phase) Cancelable() bool {
	return p == PhaseBuilding || p == PhasePlanning || p == PhaseWaiting
}

// Outcome is how one attempt for one target ended.
type Outcome struct {
	Target   Name
	Digest   string
	Revision string
	// Hash of the target's spec that the attempt was made with.
	Hash    string
	Phase   Phase
	Changes []Change
	Err     error
	// Reason is one word for Err: BuildFailed, ApplyFailed, HealthCheckFailed, PruneBlocked, Canceled, ... Empty when Err is nil.
	Reason string
	// RetryAfter is Failure's.
	RetryAfter time.Duration
	// FellBack is Failure's.
	FellBack bool
	// Watched: whatever happens to what the target has is seen when it happens, so that looking for it can be rare.
	Watched           bool
	Started, Finished time.Time
}

// Reasons of a failed attempt.
const (
	ReasonBuildFailed       = "BuildFailed"
	ReasonPlanFailed        = "PlanFailed"
	ReasonApplyFailed       = "ApplyFailed"
	ReasonHealthCheckFailed = "HealthCheckFailed"
	ReasonPruneFailed       = "PruneFailed"
	ReasonPruneBlocked      = "PruneBlocked"
	ReasonInstallFailed     = "InstallFailed"
	ReasonUpgradeFailed     = "UpgradeFailed"
	ReasonUninstallFailed   = "UninstallFailed"
	ReasonRollbackFailed    = "RollbackFailed"
	ReasonTestFailed        = "TestFailed"
	// ReasonRetriesExceeded: a release failed as often as its remediation allows; nothing more is tried before there is news, or somebody asks.
	ReasonRetriesExceeded = "RetriesExceeded"
	// ReasonRolledBack: the target is held at an earlier revision than is wanted, since that one failed or somebody said so, until there is news or somebody asks.
	ReasonRolledBack = "RolledBack"
	// ReasonDriftDetected: objects of a release differ from its manifest, and driftDetection.mode says to warn only, or they could not be repaired.
	ReasonDriftDetected = "DriftDetected"
	// ReasonClockSuspect: a certificate on the way to the cluster begins in the future as this machine's clock goes.
	ReasonClockSuspect = "ClockSuspect"
	ReasonTimeout      = "Timeout"
	ReasonCanceled     = "Canceled"
)

// Failure is an error with the reason that an engine gives it; reconcile turns it into status. Degraded says that the rest of the target is as wanted.
type Failure struct {
	Reason   string
	Degraded bool
	// RetryAfter is when another attempt makes sense; 0 leaves it to the backoff.
	RetryAfter time.Duration
	// FellBack: the engine itself went back to what was good before, and does not try again what failed before there is news.
	FellBack bool
	Err      error
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// Difference is what an action would change of one object: the object in the cluster and as it would be afterwards, by a dry run of the server. Nil Before: it would be created;
// nil After: deleted. Both hold the values of Secrets and of secret fields in clear: whoever shows them masks them.
type Difference struct {
	Change
	Before, After *unstructured.Unstructured
	// Blocked is an object that is kept (ActionKeep) only until somebody says whether so much may be pruned.
	Blocked bool
}

// Live is one object of a target as the cluster has it.
type Live struct {
	Object ObjectID `json:"object"`
	// Health is a word of kstatus: Current, InProgress, Failed, Terminating, NotFound, Unknown; Message says more.
	Health  string    `json:"health"`
	Message string    `json:"message,omitempty"`
	Created time.Time `json:"created,omitzero"`
	// Finalizers of an object that is being deleted.
	Finalizers []string `json:"finalizers,omitempty"`
	// Kept says that the artifact does not have it any more, but that it may not be pruned.
	Kept bool `json:"kept,omitempty"`
	// PruneBlocked says what stops the object from being pruned until somebody gives their word: BlockedByLimit or BlockedByEmpty; empty where it is not to be pruned.
	PruneBlocked string `json:"pruneBlocked,omitempty"`
	// Children are what controllers made for it.
	Children []Live `json:"children,omitempty"`
}

// What stops a prune that nobody has allowed: it is more than pruneLimit, or it is everything because the artifact renders no objects.
const (
	BlockedByLimit = "pruneLimit"
	BlockedByEmpty = "emptyArtifact"
)

// Progress tells the scheduler and the board which stage an attempt is in. It may be called from one goroutine at a time and never blocks.
type Progress func(Phase, string)
