package deploy

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SourceSpec is an OCIRepository: where an artifact comes from.
type SourceSpec struct {
	// URL of the repository, oci://host[:port]/path, without tag or digest. Without a registry: oci-layout:///path of an OCI image layout (a folder or a .tar), or
	// file:///path of a folder or archive of manifests.
	URL string `json:"url"`
	// Mirrors are further repositories that hold the same artifacts, oci://host[:port]/path. Contents are pulled from them in order, before the url, and only with
	// the digest that the url said; where the url cannot be reached, they also say which digest a tag means, as long as none is known.
	Mirrors []string `json:"mirrors,omitempty"`
	// Ref selects the artifact: digest before semver before tag. Default: tag latest.
	Ref *Ref `json:"ref,omitempty"`
	// LayerSelector chooses the layer and what is done with it. Default: the first layer, extracted.
	LayerSelector *LayerSelector `json:"layerSelector,omitempty"`
	// Platform chooses from an index with several: os/arch[/variant]. Default: linux on this machine's architecture, then linux/amd64.
	Platform string `json:"platform,omitempty"`
	// Ignore drops files of an extracted layer: patterns as in .gitignore, one a line, that come behind those of the artifact's .sourceignore files. Default: VCS and CI
	// files, images, archives.
	Ignore *string `json:"ignore,omitempty"`
	// AllowDowngrade lets ref.semver follow to a version lower than the one before, such as when the highest tag was deleted. Default: false, the higher one is kept.
	AllowDowngrade bool `json:"allowDowngrade,omitempty"`
	// Interval between polls, jittered by 5 %.
	Interval metav1.Duration `json:"interval"`
	// Timeout of one poll: resolve, verify, pull and unpack together. Default: 60s.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// Verify demands a signature before anything is unpacked.
	Verify *Verify `json:"verify,omitempty"`
	// Provider of an ambient cloud login, used where no other credentials are found: generic (none), aws, azure, gcp. Default: generic.
	Provider string `json:"provider,omitempty"`
	// SecretRef names a Secret of type kubernetes.io/dockerconfigjson in the entry's namespace.
	SecretRef *LocalRef `json:"secretRef,omitempty"`
	// ServiceAccountName whose imagePullSecrets are used too; those of secretRef come first.
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// CredentialFiles are read again when they change; they come before secretRef.
	CredentialFiles *CredentialFiles `json:"credentialFiles,omitempty"`
	// CertSecretRef names a Secret with ca.crt, or tls.crt and tls.key, or all three.
	CertSecretRef *LocalRef `json:"certSecretRef,omitempty"`
	// CertFiles do the same from files.
	CertFiles *CertFiles `json:"certFiles,omitempty"`
	// ProxySecretRef names a Secret with address and, where the proxy wants them, username and password. Default: the environment's proxy.
	ProxySecretRef *LocalRef `json:"proxySecretRef,omitempty"`
	// Insecure allows plain HTTP.
	Insecure bool `json:"insecure,omitempty"`
	// Receiver makes the source be polled at once when its registry, or whoever pushes, says that there is news. The agent listens for it where listenReceivers says.
	Receiver *Receiver `json:"receiver,omitempty"`
	// Suspend stops polling.
	Suspend bool `json:"suspend,omitempty"`
}

// Ref selects one artifact of a repository.
type Ref struct {
	// Tag to follow. Default: latest.
	Tag string `json:"tag,omitempty"`
	// Semver is a constraint over the tags, the highest match wins; pre-releases only with a -0 bound.
	Semver string `json:"semver,omitempty"`
	// SemverFilter is a Go regular expression that tags must match before they are compared.
	SemverFilter string `json:"semverFilter,omitempty"`
	// Digest, algorithm:hex; a pinned source is never polled.
	Digest string `json:"digest,omitempty"`
}

// The operations of a LayerSelector.
const (
	OperationExtract = "extract"
	OperationCopy    = "copy"
)

// LayerSelector chooses a layer of an artifact.
type LayerSelector struct {
	// MediaType of the layer: the first with exactly this type is taken.
	MediaType string `json:"mediaType,omitempty"`
	// Operation is extract (default: an archive is unpacked, a single manifest is taken as it is) or copy (the blob as it is: a chart archive).
	Operation string `json:"operation,omitempty"`
}

// The providers of a cloud login.
const (
	ProviderGeneric = "generic"
	ProviderAWS     = "aws"
	ProviderAzure   = "azure"
	ProviderGCP     = "gcp"
)

// CredentialFiles hold the credentials of a registry: dockerConfig, or token, or username and password. A path that is not absolute is below $CREDENTIALS_DIRECTORY.
type CredentialFiles struct {
	// DockerConfig is a file like ~/.docker/config.json.
	DockerConfig string `json:"dockerConfig,omitempty"`
	// Username is a file with the user's name. It needs password.
	Username string `json:"username,omitempty"`
	// Password is a file with the password.
	Password string `json:"password,omitempty"`
	// Token is a file with a bearer token that the registry takes as it is.
	Token string `json:"token,omitempty"`
}

// CertFiles are PEM files for TLS. A path that is not absolute is below $CREDENTIALS_DIRECTORY.
type CertFiles struct {
	// CA certificates that are trusted beside the system's.
	CA string `json:"ca,omitempty"`
	// Cert is the client's certificate. It needs key.
	Cert string `json:"cert,omitempty"`
	// Key of the client's certificate.
	Key string `json:"key,omitempty"`
}

// The providers of signatures.
const (
	VerifyCosign   = "cosign"
	VerifyNotation = "notation"
)

// Verify says whose signature an artifact must bear. Paths that are not absolute are below $CREDENTIALS_DIRECTORY; files and Secrets are read again when they change.
type Verify struct {
	// Provider is cosign (default) or notation.
	Provider string `json:"provider,omitempty"`
	// SecretRef names a Secret: for cosign with public keys under names that end .pub, for notation with trustpolicy.json and certificates under names that end .crt or .pem.
	SecretRef *LocalRef `json:"secretRef,omitempty"`
	// Keys are PEM files of public keys (cosign): one that fits is enough.
	Keys []string `json:"keys,omitempty"`
	// MatchOIDCIdentity lists who may have signed without a key (cosign): one that fits is enough. It needs a trusted root.
	MatchOIDCIdentity []OIDCIdentity `json:"matchOIDCIdentity,omitempty"`
	// TrustedRoot is a file trusted_root.json: the certificate authorities and logs that keyless signatures are checked with.
	TrustedRoot string `json:"trustedRoot,omitempty"`
	// TrustedRootSecretRef names a Secret with the key trusted_root.json.
	TrustedRootSecretRef *LocalRef `json:"trustedRootSecretRef,omitempty"`
	// TrustPolicy is a file trustpolicy.json (notation). It needs certificates.
	TrustPolicy string `json:"trustPolicy,omitempty"`
	// Certificates are PEM files of certificate authorities (notation).
	Certificates []string `json:"certificates,omitempty"`
}

// OIDCIdentity is a keyless signer.
type OIDCIdentity struct {
	// Issuer is a Go regular expression for the OIDC issuer. It may match anywhere: ^ and $ tie it to both ends.
	Issuer string `json:"issuer"`
	// Subject is a Go regular expression for the subject: a mail address or a workflow's URL. It may match anywhere, too.
	Subject string `json:"subject"`
}

// The reasons of a source's state: why the last poll failed.
const (
	SourceNotFound        = "NotFound"           // no such repository, tag, version or layer
	SourceUnauthorized    = "Unauthorized"       // the registry refused the credentials
	SourceNoCredentials   = "CredentialsMissing" // a Secret, file or login that is named gave none
	SourceRateLimited     = "RateLimited"
	SourceUnavailable     = "RegistryUnavailable" // it answered 5xx
	SourceNetwork         = "NetworkError"        // no answer, or one that broke off
	SourceTimeout         = "Timeout"
	SourceUnsigned        = "SignatureMissing"   // the artifact has no signature yet
	SourceUnverified      = "VerificationFailed" // there are signatures, and none is good
	SourceNoPolicy        = "PolicyInvalid"      // keys, roots or policies cannot be read
	SourceNotYetValid     = "NotYetValid"        // a certificate begins in the future: this clock is slow, or the signer's is fast
	SourceDowngrade       = "DowngradeRefused"
	SourceOverLimit       = "LimitExceeded"
	SourceInvalidArtifact = "InvalidArtifact" // not an artifact, a hostile archive, or not what its digest says
	SourceFailed          = "PollFailed"      // everything else
)
