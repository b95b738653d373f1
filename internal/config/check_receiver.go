package config

import (
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// checkReceiver wants a type that fits the url, and one place for the token.
func (e *entry) checkReceiver(r *deploy.Receiver, url string) {
	e.oneOf("receiver.type", r.Type, deploy.ReceiverTypes...)
	if r.Type == "" {
		e.emptyIfWritten("receiver.type", "want one of "+strings.Join(deploy.ReceiverTypes, ", "))
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
	if local && r.Type != "" && r.Type != deploy.ReceiverGeneric && r.Type != deploy.ReceiverGenericHMAC {
		e.bad("receiver.type", "%s is what a registry sends, and no registry holds %s://: want %s or %s", r.Type, scheme, deploy.ReceiverGeneric, deploy.ReceiverGenericHMAC)
	}
}
