package deploy

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// HelmReleaseSpec is a HelmRelease: a chart, installed and upgraded.
type HelmReleaseSpec struct {
	// ChartRef names the source that holds the chart, usually with layerSelector.operation copy.
	ChartRef SourceRef `json:"chartRef"`
	// Interval between checks of the release. Default: 10m.
	Interval *metav1.Duration `json:"interval,omitempty"`
	// RetryInterval after a failure. Default: the interval.
	RetryInterval *metav1.Duration `json:"retryInterval,omitempty"`
	// Timeout of one Helm operation. Default: 5m.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// ReleaseName default: [targetNamespace-]name, shortened to 53 characters with a hash. A release that gets another name, or another of the two namespaces, is uninstalled
	// where it was and installed anew.
	ReleaseName string `json:"releaseName,omitempty"`
	// TargetNamespace that the chart is installed to. Default: the entry's namespace.
	TargetNamespace string `json:"targetNamespace,omitempty"`
	// StorageNamespace that Helm's records are kept in. Default: the entry's namespace, as in Flux.
	StorageNamespace string `json:"storageNamespace,omitempty"`
	// MaxHistory is how many revisions are kept; 0 means all. Default: 5.
	MaxHistory *int `json:"maxHistory,omitempty"`
	// Values of the chart. Keys keep their case and dots. They go before those of valuesFrom.
	Values Values `json:"values,omitempty"`
	// ValuesFrom lists where further values come from; later ones go before earlier ones.
	ValuesFrom []ValuesFrom `json:"valuesFrom,omitempty"`
	// Install holds the options of the first installation.
	Install *Install `json:"install,omitempty"`
	// Upgrade holds the options of an upgrade.
	Upgrade *Upgrade `json:"upgrade,omitempty"`
	// Rollback holds the options of a rollback, which is one way to remediate a failed upgrade.
	Rollback *Rollback `json:"rollback,omitempty"`
	// Uninstall holds the options of the removal, when the target leaves the config or an installation is remediated.
	Uninstall *Uninstall `json:"uninstall,omitempty"`
	// Test runs the chart's tests after an installation or upgrade.
	Test *Test `json:"test,omitempty"`
	// DriftDetection finds and repairs what others changed of the release's objects.
	DriftDetection *DriftDetection `json:"driftDetection,omitempty"`
	// PostRenderers change what the chart renders, in order.
	PostRenderers []PostRenderer `json:"postRenderers,omitempty"`
	// CommonMetadata is set on every object, after the postRenderers. Hooks are left as they are.
	CommonMetadata *CommonMetadata `json:"commonMetadata,omitempty"`
	// HealthCheckExprs say for kinds, in CEL, when their objects are healthy, wherever an operation waits.
	HealthCheckExprs []HealthCheckExpr `json:"healthCheckExprs,omitempty"`
	// DependsOn lists the targets that have to be Ready first.
	DependsOn []DependsOn `json:"dependsOn,omitempty"`
	// Suspend stops installing, upgrading and repairing.
	Suspend bool `json:"suspend,omitempty"`
	// ServiceAccountName is the account, in the entry's namespace, as which everything is done, Helm's records included. Default: the agent's own.
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// KubeConfig names the cluster to install to, Helm's records included. Default: the one that the agent's state is in.
	KubeConfig *KubeConfig `json:"kubeConfig,omitempty"`
}

// ValuesFrom names a holder of values: kind and name of a ConfigMap or Secret, or a file.
type ValuesFrom struct {
	// Kind of the object: ConfigMap or Secret.
	Kind string `json:"kind,omitempty"`
	// Name of the object, in the entry's namespace.
	Name string `json:"name,omitempty"`
	// File in place of an object: an absolute path on the agent's machine.
	File string `json:"file,omitempty"`
	// ValuesKey is the key of the object that holds the values. Default: values.yaml. A file has none.
	ValuesKey string `json:"valuesKey,omitempty"`
	// TargetPath sets what is found as one value, at this path in the notation of helm --set, in place of merging it as YAML.
	TargetPath string `json:"targetPath,omitempty"`
	// Literal takes the value at targetPath as text, as helm --set-literal does: commas, brackets, numbers and true mean nothing.
	Literal bool `json:"literal,omitempty"`
	// Optional: it need not be there.
	Optional bool `json:"optional,omitempty"`
}

// PostRenderer changes what a chart renders.
type PostRenderer struct {
	// Kustomize patches objects and replaces images; there is no other.
	Kustomize *KustomizeRenderer `json:"kustomize"`
}

// KustomizeRenderer is what a postRenderer does.
type KustomizeRenderer struct {
	// Patches are applied in order.
	Patches []Patch `json:"patches,omitempty"`
	// Images replaces names, tags and digests of container images.
	Images []Image `json:"images,omitempty"`
}

// DriftDetection says what is done about objects that somebody changed.
type DriftDetection struct {
	// Mode is enabled (repaired), warn (said, not repaired) or disabled. Default: enabled for a Kustomization, disabled for a HelmRelease. An object of a release annotated with towline.dev/driftDetection: disabled (or with
	// helm.toolkit.fluxcd.io/ in place of towline.dev/) is left alone.
	Mode DriftMode `json:"mode,omitempty"`
	// Ignore names fields that are left to others.
	Ignore []IgnoreRule `json:"ignore,omitempty"`
}

// DriftMode says what is done about drift.
type DriftMode string

// The modes of drift detection.
const (
	DriftEnabled  DriftMode = "enabled"
	DriftWarn     DriftMode = "warn"
	DriftDisabled DriftMode = "disabled"
)

// CRDsPolicy says what is done with the crds folder of a chart.
type CRDsPolicy string

// The policies for crds/.
const (
	CRDsSkip          CRDsPolicy = "Skip"
	CRDsCreate        CRDsPolicy = "Create"
	CRDsCreateReplace CRDsPolicy = "CreateReplace"
)

// Strategy says what follows a failed installation or upgrade.
type Strategy struct {
	// Name is RemediateOnFailure (as remediation says) or RetryOnFailure (nothing is undone, and it is tried again, for ever). Default: RemediateOnFailure where remediation
	// is given, else RetryOnFailure.
	Name StrategyName `json:"name"`
	// RetryInterval of RetryOnFailure. Default: the release's retryInterval.
	RetryInterval *metav1.Duration `json:"retryInterval,omitempty"`
}

// StrategyName is what follows a failure.
type StrategyName string

// The strategies.
const (
	StrategyRemediate StrategyName = "RemediateOnFailure"
	StrategyRetry     StrategyName = "RetryOnFailure"
)

// InstallRemediation says what follows a failed installation: it is uninstalled and tried again.
type InstallRemediation struct {
	// Retries after the first failure; -1 means without end. Default: 0.
	Retries int `json:"retries,omitempty"`
	// IgnoreTestFailures does not count failed tests as failures. Default: test.ignoreFailures.
	IgnoreTestFailures *bool `json:"ignoreTestFailures,omitempty"`
	// RemediateLastFailure uninstalls what the last try left, too. Default: false.
	RemediateLastFailure *bool `json:"remediateLastFailure,omitempty"`
}

// UpgradeRemediation says what follows a failed upgrade.
type UpgradeRemediation struct {
	// Retries after the first failure; -1 means without end. Default: 0.
	Retries int `json:"retries,omitempty"`
	// Strategy is rollback (to the last good revision) or uninstall. Default: rollback.
	Strategy RemediationStrategy `json:"strategy,omitempty"`
	// IgnoreTestFailures does not count failed tests as failures. Default: test.ignoreFailures.
	IgnoreTestFailures *bool `json:"ignoreTestFailures,omitempty"`
	// RemediateLastFailure undoes the last try, too. Default: true where there are retries.
	RemediateLastFailure *bool `json:"remediateLastFailure,omitempty"`
}

// RemediationStrategy is how a failed upgrade is undone.
type RemediationStrategy string

// The ways of undoing an upgrade.
const (
	RemediateRollback  RemediationStrategy = "rollback"
	RemediateUninstall RemediationStrategy = "uninstall"
)

// Install holds the options of the first installation.
type Install struct {
	// Timeout of the installation. Default: the release's timeout.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// CreateNamespace creates the target namespace where it is missing.
	CreateNamespace bool `json:"createNamespace,omitempty"`
	// CRDs default: Create.
	CRDs CRDsPolicy `json:"crds,omitempty"`
	// Replace installs over records of an earlier release of this name that was uninstalled with its history kept, or failed. Default: true, as no release may be stuck;
	// false makes such records an error.
	Replace *bool `json:"replace,omitempty"`
	// DisableWait does not wait until everything is ready.
	DisableWait bool `json:"disableWait,omitempty"`
	// DisableWaitForJobs does not wait for Jobs to complete.
	DisableWaitForJobs bool `json:"disableWaitForJobs,omitempty"`
	// DisableHooks runs no hooks.
	DisableHooks bool `json:"disableHooks,omitempty"`
	// DisableOpenAPIValidation is accepted for Flux's sake and changes nothing: the server itself validates what it gets.
	DisableOpenAPIValidation bool `json:"disableOpenAPIValidation,omitempty"`
	// DisableSchemaValidation does not hold the values against the chart's values.schema.json.
	DisableSchemaValidation bool `json:"disableSchemaValidation,omitempty"`
	// DisableTakeOwnership refuses objects that exist already and are not the release's, in place of taking over those that nobody owns.
	DisableTakeOwnership bool `json:"disableTakeOwnership,omitempty"`
	// Remediation of a failed installation.
	Remediation *InstallRemediation `json:"remediation,omitempty"`
	// Strategy for a failed installation.
	Strategy *Strategy `json:"strategy,omitempty"`
}

// Upgrade holds the options of an upgrade.
type Upgrade struct {
	// Timeout of the upgrade. Default: the release's timeout.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// CRDs default: Skip.
	CRDs CRDsPolicy `json:"crds,omitempty"`
	// PreserveValues merges the values into those of the last revision, in place of starting from the chart's own.
	PreserveValues bool `json:"preserveValues,omitempty"`
	// DisableWait does not wait until everything is ready.
	DisableWait bool `json:"disableWait,omitempty"`
	// DisableWaitForJobs does not wait for Jobs to complete.
	DisableWaitForJobs bool `json:"disableWaitForJobs,omitempty"`
	// DisableHooks runs no hooks.
	DisableHooks bool `json:"disableHooks,omitempty"`
	// DisableOpenAPIValidation is accepted for Flux's sake and changes nothing: the server itself validates what it gets.
	DisableOpenAPIValidation bool `json:"disableOpenAPIValidation,omitempty"`
	// DisableSchemaValidation does not hold the values against the chart's values.schema.json.
	DisableSchemaValidation bool `json:"disableSchemaValidation,omitempty"`
	// DisableTakeOwnership refuses objects that exist already and are not the release's, in place of taking over those that nobody owns.
	DisableTakeOwnership bool `json:"disableTakeOwnership,omitempty"`
	// Force replaces objects in place of patching them: what others added to them is gone. What is immutable stays so.
	Force bool `json:"force,omitempty"`
	// CleanupOnFail deletes what a failed upgrade created.
	CleanupOnFail bool `json:"cleanupOnFail,omitempty"`
	// Remediation of a failed upgrade.
	Remediation *UpgradeRemediation `json:"remediation,omitempty"`
	// Strategy for a failed upgrade.
	Strategy *Strategy `json:"strategy,omitempty"`
}

// Rollback holds the options of a rollback, and says what leads to one.
type Rollback struct {
	// OnFailure is keep (what follows a failed upgrade is for upgrade to say) or lastGood: where an upgrade has failed as often as upgrade.remediation.retries allows, it is
	// rolled back, and not tried again before there is news or somebody says towline reconcile --force. Default: keep.
	OnFailure OnFailure `json:"onFailure,omitempty"`
	// Group names targets of this namespace that go back together: where one of them goes back to its last good revision, so do the others of the group, to the
	// revisions that they had when all of them were last Ready.
	Group string `json:"group,omitempty"`
	// Timeout of the rollback. Default: the release's timeout.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// DisableWait does not wait until everything is ready.
	DisableWait bool `json:"disableWait,omitempty"`
	// DisableWaitForJobs does not wait for Jobs to complete.
	DisableWaitForJobs bool `json:"disableWaitForJobs,omitempty"`
	// DisableHooks runs no hooks.
	DisableHooks bool `json:"disableHooks,omitempty"`
	// Recreate restarts the pods of workloads.
	Recreate bool `json:"recreate,omitempty"`
	// Force replaces objects in place of patching them.
	Force bool `json:"force,omitempty"`
	// CleanupOnFail deletes what a failed rollback created.
	CleanupOnFail bool `json:"cleanupOnFail,omitempty"`
}

// Uninstall holds the options of the removal.
type Uninstall struct {
	// Timeout of the removal. Default: the release's timeout.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// KeepHistory keeps Helm's records of the release.
	KeepHistory bool `json:"keepHistory,omitempty"`
	// DisableWait does not wait until everything is gone.
	DisableWait bool `json:"disableWait,omitempty"`
	// DisableHooks runs no hooks.
	DisableHooks bool `json:"disableHooks,omitempty"`
	// DeletionPropagation is background, foreground or orphan. Default: background.
	DeletionPropagation DeletionPropagation `json:"deletionPropagation,omitempty"`
}

// DeletionPropagation says what becomes of what controllers made for a deleted object.
type DeletionPropagation string

// The ways of propagation.
const (
	PropagationBackground DeletionPropagation = "background"
	PropagationForeground DeletionPropagation = "foreground"
	PropagationOrphan     DeletionPropagation = "orphan"
)

// Test runs the tests of a chart: hooks of the kind test.
type Test struct {
	// Enable runs them after each installation and upgrade.
	Enable bool `json:"enable,omitempty"`
	// Timeout of the tests together. Default: the release's timeout.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// IgnoreFailures lets the release be Ready although a test failed.
	IgnoreFailures bool `json:"ignoreFailures,omitempty"`
	// Filters choose the tests to run. Default: all.
	Filters []TestFilter `json:"filters,omitempty"`
}

// TestFilter chooses tests by name.
type TestFilter struct {
	// Name of the test.
	Name string `json:"name"`
	// Exclude leaves it out; else only those that are named run.
	Exclude bool `json:"exclude,omitempty"`
}

// Values are Helm values as JSON, kept as text so that nothing on the way can change a key or a number.
type Values json.RawMessage

// MarshalJSON is the text itself.
func (v Values) MarshalJSON() ([]byte, error) { return json.RawMessage(v).MarshalJSON() }

// UnmarshalJSON keeps the text. Anything but an object or null is refused.
func (v *Values) UnmarshalJSON(b []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("values must be a map: %w", err)
	}
	if m == nil {
		*v = nil
		return nil
	}
	*v = append((*v)[:0], b...)
	return nil
}
