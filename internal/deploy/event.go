package deploy

import (
	"encoding/json"
	"time"
)

// The severities of an Event, as in Flux.
const (
	SeverityInfo  = "info"
	SeverityError = "error"
)

// Event is a change of state of a source or target that somebody may want to hear of. It holds no secrets.
type Event struct {
	Object   Name   `json:"object"`
	Severity string `json:"severity"` // SeverityInfo or SeverityError
	Reason   string `json:"reason"`   // one CamelCase word: NewRevision, VerificationFailed
	Message  string `json:"message"`
	Revision string `json:"revision,omitempty"`
	// Digest of the artifact that it is about.
	Digest string    `json:"digest,omitempty"`
	At     time.Time `json:"at"`
}

// The types of a Sink.
const (
	SinkGeneric     = "generic"
	SinkGenericHMAC = "generic-hmac"
	SinkShoutrrr    = "shoutrrr"
)

// Sink is one entry of notify with its defaults filled in. Immutable.
type Sink struct {
	Name      string
	Namespace string // that secretRef resolves in
	Spec      SinkSpec
	// Hash of the spec: it changes exactly when the entry does.
	Hash string
}

// SinkSpec says where alerts go and which: Flux's Provider and Alert in one.
type SinkSpec struct {
	// Type is generic (the event as JSON by HTTP POST), generic-hmac (the same, signed in the header X-Signature) or shoutrrr (a chat or mail service).
	Type string `json:"type"`
	// Address is an http or https URL, or for shoutrrr one of its service URLs, such as slack://… An address that holds a secret belongs into a Secret or a file.
	Address string `json:"address,omitempty"`
	// AddressFile is a file with the address, read again when it changes. A path that is not absolute is below $CREDENTIALS_DIRECTORY.
	AddressFile string `json:"addressFile,omitempty"`
	// SecretRef names a Secret with the key address, or token (the key of generic-hmac, or a bearer token for generic), or both. They come before the fields here.
	SecretRef *LocalRef `json:"secretRef,omitempty"`
	// TokenFile is a file with the key of generic-hmac, or a bearer token for generic.
	TokenFile string `json:"tokenFile,omitempty"`
	// EventSeverity is info (everything; default) or error.
	EventSeverity string `json:"eventSeverity,omitempty"`
	// EventSources choose whose events are sent: each a name (of any kind), kind/name, kind/namespace/name, or an object; * stands for all names. Default: everything.
	EventSources []EventSource `json:"eventSources,omitempty"`
	// InclusionList are Go regular expressions: a message must match one of them. Default: all do.
	InclusionList []string `json:"inclusionList,omitempty"`
	// ExclusionList are Go regular expressions: a message that matches one of them is left out.
	ExclusionList []string `json:"exclusionList,omitempty"`
	// EventMetadata is sent with every event, such as the region.
	EventMetadata map[string]string `json:"eventMetadata,omitempty"`
	// Summary is sent with every event: what this agent is for.
	Summary string `json:"summary,omitempty"`
	// Suspend sends nothing.
	Suspend bool `json:"suspend,omitempty"`
}

// EventSource names whose events are meant. In YAML it is a name (of any kind), kind/name, kind/namespace/name, or an object.
type EventSource struct {
	// Kind: OCIRepository, Kustomization or HelmRelease. Default: any.
	Kind Kind `json:"kind,omitempty"`
	// Name of the entry, or * for all.
	Name string `json:"name"`
	// Namespace of the entry, or * for all. Default: the alert's namespace.
	Namespace string `json:"namespace,omitempty"`
}

// UnmarshalJSON reads the short forms too.
func (s *EventSource) UnmarshalJSON(b []byte) error {
	if n, short, err := shortForm(b, anyKind); short {
		if err != nil {
			return err
		}
		*s = EventSource{Kind: n.Kind, Name: n.Name, Namespace: n.Namespace}
		return nil
	}
	type plain EventSource
	return json.Unmarshal(b, (*plain)(s))
}
