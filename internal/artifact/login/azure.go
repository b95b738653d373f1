//go:build azure || cloud

package login

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/chrismellard/docker-credential-acr-env/pkg/registry"
	acr "github.com/chrismellard/docker-credential-acr-env/pkg/token"
	"github.com/google/go-containerregistry/pkg/authn"
)

// azureLife of a registry's refresh token, from Microsoft's documentation of its token exchange.
const azureLife = 3 * time.Hour

func init() {
	ambients["azure"] = newAmbient(cloud{
		name: "azure",
		tried: "a client secret (AZURE_CLIENT_SECRET), a workload identity (AZURE_FEDERATED_TOKEN_FILE) and the managed identity; " +
			"other clouds than the public one want AZURE_ENVIRONMENT",
		serves: servesAzure,
		fetch:  fetchAzure,
	})
}

// servesAzure is stricter than the helper, whose pattern fits hosts that merely contain such a name.
func servesAzure(host string) bool {
	for _, suffix := range []string{".azurecr.io", ".azurecr.cn", ".azurecr.de", ".azurecr.us"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

func fetchAzure(ctx context.Context, host string) (token, error) {
	principal, settings, err := acr.GetServicePrincipalTokenFromEnvironment()
	if err != nil {
		return token{}, err
	}
	principal.MaxMSIRefreshAttempts = 1 // the poller tries again
	if err := principal.EnsureFreshWithContext(ctx); err != nil {
		return token{}, fmt.Errorf("get a token of the identity: %w", err)
	}
	asked := time.Now()
	refresh, err := registry.GetRegistryRefreshTokenFromAADExchange(host, principal, settings.Values["AZURE_TENANT_ID"])
	if err != nil {
		return token{}, fmt.Errorf("exchange it at the registry: %w", err)
	}
	return token{auth: authn.AuthConfig{IdentityToken: refresh}, expires: asked.Add(azureLife)}, nil
}
