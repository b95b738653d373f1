package deploy

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// This file holds the three kinds as users write them: the spec of Flux's kind of the same name. Which fields are there and what they mean:
// docs/reference.md. Field order is the order of the reference.

// Meta is what stands before a spec: metadata in a Flux document, plain keys in a native entry.
type Meta struct {
	// Name of the entry, unique among its kind and namespace: a DNS-1123 label of at most 63 characters.
	Name string `json:"name"`
	// Namespace that the entry belongs to; secretRefs resolve here. Default: the config's namespace.
	Namespace string `json:"namespace,omitempty"`
}

// LocalRef names an object in the entry's own namespace.
type LocalRef struct {
	// Name of the object.
	Name string `json:"name"`
}

// SourceRef names the source of a target. In YAML it is a name or {kind, name, namespace}.
type SourceRef struct {
	// Kind of the source: OCIRepository, which is also the default.
	Kind Kind `json:"kind,omitempty"`
	// Name of the source.
	Name string `json:"name"`
	// Namespace of the source. Default: the entry's namespace.
	Namespace string `json:"namespace,omitempty"`
}

// UnmarshalJSON reads the short form, a plain name, too.
func (r *SourceRef) UnmarshalJSON(b []byte) error {
	if n, short, err := shortForm(b, KindSource); short {
		if err != nil {
			return err
		}
		*r = SourceRef{Kind: n.Kind, Name: n.Name, Namespace: n.Namespace}
		return nil
	}
	type plain SourceRef
	return json.Unmarshal(b, (*plain)(r))
}

// anyKind is an answer of ParseName that says: the text had no kind.
const anyKind Kind = "-"

// shortForm reads a reference that is written as a text; short says whether it is. The kind is that of a text without one; with anyKind it is then empty.
func shortForm(b []byte, kind Kind) (n Name, short bool, err error) {
	var s string
	if json.Unmarshal(b, &s) != nil {
		return Name{}, false, nil //nolint:nilerr // it is written in full, and the caller reads it so
	}
	n, err = ParseName(s, kind, "")
	if n.Kind == anyKind {
		n.Kind = ""
	}
	return n, true, err
}

// DependsOn names a target that has to be Ready first. In YAML it is a name (of the same kind), kind/name, kind/namespace/name, or an object.
type DependsOn struct {
	// Kind of the target: Kustomization or HelmRelease. Default: the entry's own kind.
	Kind Kind `json:"kind,omitempty"`
	// Name of the target.
	Name string `json:"name"`
	// Namespace of the target. Default: the entry's namespace.
	Namespace string `json:"namespace,omitempty"`
	// ReadyExpr is a CEL expression, a boolean, that says when the target is ready enough, in place of being Ready at its newest revision. It sees dep, the target that is
	// waited for, and self, this entry: both with metadata, spec and status as Flux's objects have them.
	ReadyExpr string `json:"readyExpr,omitempty"`
}

// UnmarshalJSON reads the short forms too.
func (d *DependsOn) UnmarshalJSON(b []byte) error {
	if n, short, err := shortForm(b, anyKind); short {
		if err != nil {
			return err
		}
		*d = DependsOn{Kind: n.Kind, Name: n.Name, Namespace: n.Namespace}
		return nil
	}
	type plain DependsOn
	return json.Unmarshal(b, (*plain)(d))
}

// KustomizationSpec is a Kustomization: a folder of an artifact, built and applied.
type KustomizationSpec struct {
	// SourceRef names the source that holds the folder.
	SourceRef SourceRef `json:"sourceRef"`
	// Path inside the artifact; it never leaves it. Default: the root.
	Path string `json:"path,omitempty"`
	// Interval between full checks against the cluster. Default: 10m.
	Interval *metav1.Duration `json:"interval,omitempty"`
	// RetryInterval after a failure. Default: the interval.
	RetryInterval *metav1.Duration `json:"retryInterval,omitempty"`
	// Timeout of build, apply and health together. Default: 5m.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// Prune deletes what the artifact dropped.
	Prune bool `json:"prune,omitempty"`
	// PruneLimit is the most that one artifact may prune: a count of objects, or a share of what the target has, such as 30%. Beyond it nothing is pruned until
	// allowMassPrune names the artifact. Default: 50%, for targets of ten objects or more. 0 prunes nothing without asking; 100% is no limit, but an artifact without
	// objects never prunes by itself.
	PruneLimit *intstr.IntOrString `json:"pruneLimit,omitempty"`
	// AllowMassPrune names the digest of the one artifact (sha256:hex, as the message of a blocked prune has it) that may prune more than pruneLimit, and everything though
	// it renders no objects. It means nothing for any other artifact and may stay.
	AllowMassPrune string `json:"allowMassPrune,omitempty"`
	// DeletionPolicy says what happens to the objects when the target leaves the config: MirrorPrune (Delete if prune is on, else Orphan), Delete, WaitForTermination (the
	// same, and done only when they are gone) or Orphan (they stay). Default: MirrorPrune.
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
	// Wait makes the target Ready only when every object of it is.
	Wait bool `json:"wait,omitempty"`
	// HealthChecks names objects that have to be healthy for the target to be Ready; they need not be the target's own. With wait, all of its own are checked too.
	HealthChecks []HealthCheck `json:"healthChecks,omitempty"`
	// HealthCheckExprs say for kinds, in CEL, when their objects are healthy. They make nothing wait by themselves: that is for wait and healthChecks.
	HealthCheckExprs []HealthCheckExpr `json:"healthCheckExprs,omitempty"`
	// DependsOn lists the targets that have to be Ready first.
	DependsOn []DependsOn `json:"dependsOn,omitempty"`
	// Suspend stops applying and repairing.
	Suspend bool `json:"suspend,omitempty"`
	// Force recreates objects whose immutable fields changed, once a dry run has shown that the new object is accepted; never a Namespace, a
	// CustomResourceDefinition, a PersistentVolume or a PersistentVolumeClaim.
	Force bool `json:"force,omitempty"`
	// Ignore leaves fields to others, such as the replicas that an autoscaler sets: they are set when the object is created and never changed again.
	Ignore []IgnoreRule `json:"ignore,omitempty"`
	// DriftDetection says what is done about objects that somebody changed.
	DriftDetection *DriftDetection `json:"driftDetection,omitempty"`
	// Rollback says what follows a revision that does not become healthy.
	Rollback *RollbackPolicy `json:"rollback,omitempty"`
	// ServiceAccountName is the account, in the entry's namespace, as which the target reads, applies, prunes and checks health. Default: the agent's own.
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// KubeConfig names the cluster to apply to. Default: the one that the agent's state is in.
	KubeConfig *KubeConfig `json:"kubeConfig,omitempty"`

	// TargetNamespace is set on every namespaced object. Default: as the manifests say.
	TargetNamespace string `json:"targetNamespace,omitempty"`
	// NamePrefix is put before the name of every object.
	NamePrefix string `json:"namePrefix,omitempty"`
	// NameSuffix is put behind the name of every object.
	NameSuffix string `json:"nameSuffix,omitempty"`
	// CommonMetadata is set on every object.
	CommonMetadata *CommonMetadata `json:"commonMetadata,omitempty"`
	// Components are folders with kustomize components, relative to path and inside the artifact, such as ../components/tls. They are applied in order.
	Components []string `json:"components,omitempty"`
	// IgnoreMissingComponents leaves out components whose folder is not in the artifact, in place of an error.
	IgnoreMissingComponents bool `json:"ignoreMissingComponents,omitempty"`
	// Patches are applied in order.
	Patches []Patch `json:"patches,omitempty"`
	// Images replaces names, tags and digests of container images.
	Images []Image `json:"images,omitempty"`
	// PostBuild replaces variables in what was built.
	PostBuild *PostBuild `json:"postBuild,omitempty"`
	// Decryption of what is encrypted in the artifact. Without it, an encrypted resource is an error.
	Decryption *Decryption `json:"decryption,omitempty"`
}

// HealthCheck names an object that has to be healthy, by its name: there are no patterns.
type HealthCheck struct {
	// APIVersion of the object, such as apps/v1.
	APIVersion string `json:"apiVersion"`
	// Kind of the object.
	Kind string `json:"kind"`
	// Name of the object.
	Name string `json:"name"`
	// Namespace of the object; none for cluster-scoped kinds.
	Namespace string `json:"namespace,omitempty"`
}

// HealthCheckExpr says of one kind when its objects are healthy. The expressions are CEL, give a boolean, and see the object's fields: apiVersion, kind, metadata, spec, status, data …
// They are tried in the order inProgress, failed, current. An object without status is in progress.
type HealthCheckExpr struct {
	// APIVersion of the kind, such as cert-manager.io/v1.
	APIVersion string `json:"apiVersion"`
	// Kind that the expressions are for.
	Kind string `json:"kind"`
	// InProgress is true while the object is not done yet.
	InProgress string `json:"inProgress,omitempty"`
	// Failed is true where it will not become healthy by itself.
	Failed string `json:"failed,omitempty"`
	// Current is true where it is healthy.
	Current string `json:"current"`
}

// RollbackPolicy says what follows a revision that does not become healthy.
type RollbackPolicy struct {
	// OnFailure is keep (what was applied stays, and is tried again) or lastGood (the last revision that was healthy is applied again; the other one is quarantined: not tried
	// again before the source means another, the entry changes, or somebody says towline reconcile --force). Default: keep.
	OnFailure OnFailure `json:"onFailure,omitempty"`
	// Group names targets of this namespace that go back together: where one of them goes back to its last good revision, so do the others of the group, to the
	// revisions that they had when all of them were last Ready.
	Group string `json:"group,omitempty"`
}

// OnFailure says what becomes of a revision that does not become healthy.
type OnFailure string

// What may follow.
const (
	OnFailureKeep     OnFailure = "keep"
	OnFailureLastGood OnFailure = "lastGood"
)

// IgnoreRule names fields that are left to others, such as the replicas that an autoscaler sets.
type IgnoreRule struct {
	// Paths of the fields as JSON pointers (RFC 6901), such as /spec/replicas. Within a name, / is written ~1 and ~ is written ~0.
	Paths []string `json:"paths"`
	// Target chooses the objects. Default: all.
	Target *Selector `json:"target,omitempty"`
}

// KubeConfig names a cluster: exactly one of secretRef and file.
type KubeConfig struct {
	// SecretRef names a Secret in the entry's namespace that holds a kubeconfig.
	SecretRef *SecretKeyRef `json:"secretRef,omitempty"`
	// File is the absolute path of a kubeconfig on the agent's machine.
	File string `json:"file,omitempty"`
	// Context of the kubeconfig. Default: its current one.
	Context string `json:"context,omitempty"`
}

// SecretKeyRef names a key of a Secret.
type SecretKeyRef struct {
	// Name of the Secret.
	Name string `json:"name"`
	// Key in it. Default: value, else value.yaml.
	Key string `json:"key,omitempty"`
}

// PostBuild replaces variables, ${name} and the functions of it, in what was built. One that is not defined and has no default is an error.
type PostBuild struct {
	// Substitute holds variables as text: numbers and true or false in quotes. They go before those of substituteFrom.
	Substitute map[string]string `json:"substitute,omitempty"`
	// SubstituteFrom lists where further variables come from; later ones go before earlier ones.
	SubstituteFrom []SubstituteFrom `json:"substituteFrom,omitempty"`
	// SubstituteStrategy is WithVariables (only where there is at least one variable) or Always. Default: WithVariables.
	SubstituteStrategy SubstituteStrategy `json:"substituteStrategy,omitempty"`
}

// SubstituteFrom names a holder of variables: kind and name of a ConfigMap or Secret, or a file.
type SubstituteFrom struct {
	// Kind of the object: ConfigMap or Secret.
	Kind string `json:"kind,omitempty"`
	// Name of the object, in the entry's namespace.
	Name string `json:"name,omitempty"`
	// File in place of an object: an absolute path on the agent's machine. Lines KEY=VALUE where it ends in .env, else a YAML map.
	File string `json:"file,omitempty"`
	// Optional: it need not be there.
	Optional bool `json:"optional,omitempty"`
}

// SubstituteStrategy says when variables are replaced.
type SubstituteStrategy string

// The strategies of Flux.
const (
	SubstituteWithVariables SubstituteStrategy = "WithVariables"
	SubstituteAlways        SubstituteStrategy = "Always"
)

// Decryption of resources and generator files. The keys come from a Secret, from files or from both.
type Decryption struct {
	// Provider is sops; there is no other.
	Provider string `json:"provider"`
	// SecretRef names a Secret whose keys that end in .agekey hold age identities and those that end in .asc armored OpenPGP private keys.
	SecretRef *LocalRef `json:"secretRef,omitempty"`
	// Keys are absolute paths of such files, named in the same way, on the agent's machine.
	Keys []string `json:"keys,omitempty"`
}

// DecryptionSOPS is the provider of Decryption.
const DecryptionSOPS = "sops"

// CommonMetadata is set on every object.
type CommonMetadata struct {
	// Labels to set.
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations to set.
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Patch is a strategic merge or JSON 6902 patch as YAML text.
type Patch struct {
	// Patch as YAML text: a map (strategic merge) or a list of operations (JSON 6902).
	Patch string `json:"patch"`
	// Target chooses the objects. A strategic merge patch that names its object needs none.
	Target *Selector `json:"target,omitempty"`
}

// Selector chooses the objects that a patch is for, as in kustomize.
type Selector struct {
	// Group of the API, a regular expression like all but the selectors.
	Group string `json:"group,omitempty"`
	// Version of the API.
	Version string `json:"version,omitempty"`
	// Kind of the objects.
	Kind string `json:"kind,omitempty"`
	// Namespace of the objects.
	Namespace string `json:"namespace,omitempty"`
	// Name of the objects.
	Name string `json:"name,omitempty"`
	// AnnotationSelector has the syntax of a label selector.
	AnnotationSelector string `json:"annotationSelector,omitempty"`
	// LabelSelector such as app=web,tier!=cache.
	LabelSelector string `json:"labelSelector,omitempty"`
}

// Image replaces the name, tag or digest of container images, as in kustomize.
type Image struct {
	// Name of the image as the manifests have it, without tag.
	Name string `json:"name"`
	// NewName replaces the name.
	NewName string `json:"newName,omitempty"`
	// NewTag replaces the tag.
	NewTag string `json:"newTag,omitempty"`
	// Digest replaces the tag: sha256:hex.
	Digest string `json:"digest,omitempty"`
}

// DeletionPolicy says what happens to a target's objects when the target itself goes away.
type DeletionPolicy string

// The deletion policies of Flux.
const (
	DeletionMirrorPrune DeletionPolicy = "MirrorPrune" // delete if prune was on
	DeletionDelete      DeletionPolicy = "Delete"
	DeletionWait        DeletionPolicy = "WaitForTermination"
	DeletionOrphan      DeletionPolicy = "Orphan"
)
