// Package login finds the credentials of a registry outside of the cluster: in files, and in the ambient login of a cloud.
package login

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// everyProvider can be named in a config, whether this build has it or not. The build tag of each is its name.
var everyProvider = []string{"aws", "azure", "gcp"}

// ambients holds the providers of this build. They live as long as the process, so that all sources share their tokens.
var ambients = map[string]*ambient{}

// Keychain is the ambient login of a provider: aws, azure or gcp. It answers for the registries of that cloud only; for all others it is anonymous, so that a
// token never goes elsewhere. Without a provider (generic, or none) it is nil. A provider that this build lacks is an error.
func Keychain(provider string) (authn.Keychain, error) {
	switch {
	case provider == "" || provider == "generic":
		return nil, nil
	case Supports(provider):
		return ambients[provider], nil
	case slices.Contains(everyProvider, provider):
		return nil, fmt.Errorf("provider %s: this build cannot log in there: build it with -tags %s (or cloud, for all of them), "+
			"or name credentials in secretRef or credentialFiles", provider, provider)
	}
	return nil, fmt.Errorf("provider %q is not known: want generic, %s", provider, strings.Join(everyProvider, ", "))
}

// Supports says whether this build can log in at a provider.
func Supports(provider string) bool { return ambients[provider] != nil }

// Providers of this build, sorted.
func Providers() []string {
	var built []string
	for _, p := range everyProvider {
		if Supports(p) {
			built = append(built, p)
		}
	}
	return built
}
