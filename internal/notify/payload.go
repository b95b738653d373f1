package notify

import (
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// object is what an event is about, as Flux writes it.
type object struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// payload is an event as Flux's notification-controller sends it to generic receivers, field by field, so that what understands one understands the other.
type payload struct {
	InvolvedObject      object            `json:"involvedObject"`
	Severity            string            `json:"severity"`
	Timestamp           string            `json:"timestamp"` // RFC 3339
	Message             string            `json:"message"`
	Reason              string            `json:"reason"`
	Metadata            map[string]string `json:"metadata,omitempty"`
	ReportingController string            `json:"reportingController"`
	ReportingInstance   string            `json:"reportingInstance,omitempty"`
}

// encode is the body that generic receivers get. Flux's notification-controller takes the groups off the keys, so they are not on here either.
func encode(e deploy.Event, spec deploy.SinkSpec, instance string) ([]byte, error) {
	metadata := maps.Clone(spec.EventMetadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	if spec.Summary != "" {
		metadata["summary"] = spec.Summary
	}
	for key, value := range revisions(e) { // last: what is true beats what is configured
		metadata[strings.TrimPrefix(key, group(e.Object.Kind)+"/")] = value
	}
	about := objectOf(e.Object)
	return json.Marshal(payload{
		InvolvedObject: about, Severity: e.Severity, Timestamp: e.At.UTC().Format(time.RFC3339),
		Message: e.Message, Reason: e.Reason, Metadata: metadata,
		ReportingController: controller, ReportingInstance: instance,
	})
}

// revisions are revision and digest under the keys that Flux's controllers give their Events: group of the object, slash, word.
func revisions(e deploy.Event) map[string]string {
	out := map[string]string{}
	if e.Revision != "" {
		out[group(e.Object.Kind)+"/revision"] = e.Revision
	}
	if e.Digest != "" {
		out[group(e.Object.Kind)+"/digest"] = e.Digest
	}
	return out
}

func objectOf(n deploy.Name) object {
	version := "/v1"
	if n.Kind == deploy.KindHelmRelease {
		version = "/v2"
	}
	return object{APIVersion: group(n.Kind) + version, Kind: string(n.Kind), Namespace: n.Namespace, Name: n.Name}
}

// group is the API group that Flux has a kind in.
func group(k deploy.Kind) string {
	switch k {
	case deploy.KindSource:
		return "source.toolkit.fluxcd.io"
	case deploy.KindKustomization:
		return "kustomize.toolkit.fluxcd.io"
	case deploy.KindHelmRelease:
		return "helm.toolkit.fluxcd.io"
	}
	return "towline.dev"
}
