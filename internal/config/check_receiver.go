package config

import (
	"slices"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// othersOfFlux are the types of Flux's Receiver that are about Git or registries whose payload is not read here.
var othersOfFlux = []string{"gitlab", "bitbucket", "nexus", "gcr", "cdevents"}

// checkReceiver wants a type that fits the url, and one place for the token.
func (e *entry) checkReceiver(r *deploy.Receiver, url string) {
	switch {
	case r.Type == "":
		e.emptyIfWritten("receiver.type", "want one of "+strings.Join(deploy.ReceiverTypes, ", "))
	case slices.Contains(othersOfFlux, r.Type):
		e.bad("receiver.type", "%s, a type of Flux's, is not there: want %s for what can sign, or else %s", r.Type, deploy.ReceiverGenericHMAC, deploy.ReceiverGeneric)
	default:
		e.oneOf("receiver.type", r.Type, deploy.ReceiverTypes...)
	}
	e.checkSecretRef("receiver.secretRef", r.SecretRef)
	e.checkFile("receiver.tokenFile", r.TokenFile)
	switch {
	case r.SecretRef != nil && r.TokenFile != "":
		e.bad("receiver.tokenFile", "secretRef says the same: keep one")
	case r.SecretRef == nil && r.TokenFile == "" && !e.brokenBelow("receiver"):
		if _, written := e.places["receiver.tokenFile"]; !written { // an empty one is said above
			e.bad("receiver", "has no token: give tokenFile, or a Secret with the key token in secretRef; whoever knows it can make the source be polled")
		}
	}
	scheme, _, found := strings.Cut(url, "://")
	local := found && (scheme == schemeLayout || scheme == schemeFile)
	if local && slices.Contains(deploy.ReceiverTypes, r.Type) && r.Type != deploy.ReceiverGeneric && r.Type != deploy.ReceiverGenericHMAC {
		e.bad("receiver.type", "%s is what a registry sends, and no registry holds %s://: want %s or %s", r.Type, scheme, deploy.ReceiverGeneric, deploy.ReceiverGenericHMAC)
	}
}
