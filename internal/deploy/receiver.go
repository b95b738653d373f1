package deploy

// The types of a Receiver: whose webhooks it understands. But for distribution, the names are those of Flux's Receiver.
const (
	ReceiverGeneric      = "generic"      // any POST
	ReceiverGenericHMAC  = "generic-hmac" // any POST whose body is signed in the header X-Signature
	ReceiverDistribution = "distribution" // notifications of the CNCF Distribution registry, and of those that are built on it
	ReceiverHarbor       = "harbor"
	ReceiverGitHub       = "github" // packages of ghcr.io
	ReceiverDockerHub    = "dockerhub"
	ReceiverQuay         = "quay"
	ReceiverACR          = "acr"
)

// ReceiverTypes are all types.
var ReceiverTypes = []string{
	ReceiverGeneric, ReceiverGenericHMAC, ReceiverDistribution, ReceiverHarbor, ReceiverGitHub, ReceiverDockerHub, ReceiverQuay, ReceiverACR,
}

// Receiver is a webhook that makes its source be polled: exactly one of secretRef and tokenFile. Its path is made from the token (`towline receiver NAME` prints it), and so
// is a secret too.
type Receiver struct {
	// Type says whose webhooks these are: generic (any POST), generic-hmac (any POST whose body is signed in the header X-Signature), distribution (the CNCF Distribution
	// registry), harbor, github (packages of ghcr.io), dockerhub, quay or acr.
	Type string `json:"type"`
	// SecretRef names a Secret with the key token in the entry's namespace.
	SecretRef *LocalRef `json:"secretRef,omitempty"`
	// TokenFile is a file with the token, read again when it changes. A path that is not absolute is below $CREDENTIALS_DIRECTORY.
	TokenFile string `json:"tokenFile,omitempty"`
}
