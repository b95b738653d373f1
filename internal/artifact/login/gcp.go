//go:build gcp || cloud

package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloud.google.com/go/compute/metadata"
	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/oauth2/google"
)

const (
	googleScope = "https://www.googleapis.com/auth/cloud-platform"
	// googleUser goes with an access token, from the documentation of Artifact Registry.
	googleUser = "oauth2accesstoken"
)

func init() {
	ambients["gcp"] = newAmbient(cloud{
		name:   "gcp",
		tried:  "GOOGLE_APPLICATION_CREDENTIALS, gcloud's application default credentials and the metadata server (workload identity)",
		serves: servesGoogle,
		shared: true,
		fetch:  fetchGoogle,
	})
}

func servesGoogle(host string) bool {
	return host == "gcr.io" || strings.HasSuffix(host, ".gcr.io") || strings.HasSuffix(host, ".pkg.dev")
}

// fetchGoogle takes the application default credentials where there are some. Else it asks the metadata server itself: the libraries ask only once in a
// process's life whether there is one, and that of a Kubernetes node may come up after the agent.
func fetchGoogle(ctx context.Context, _ string) (token, error) {
	found, err := defaultCredentials()
	if err != nil {
		return token{}, err
	}
	if !found {
		return fetchMetadata(ctx)
	}
	source, err := google.DefaultTokenSource(ctx, googleScope)
	if err != nil {
		return token{}, fmt.Errorf("read the application default credentials: %w", err)
	}
	t, err := source.Token()
	if err != nil {
		return token{}, fmt.Errorf("get a token with the application default credentials: %w", err)
	}
	return googleToken(t.AccessToken, t.Expiry), nil
}

// defaultCredentials says whether a file of them is named or in gcloud's place. One that is named must exist.
func defaultCredentials() (bool, error) {
	if os.Getenv("GOOGLE_APPLICATION_CREDENTIALS") != "" {
		return true, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return false, nil
	}
	_, err = os.Stat(filepath.Join(home, ".config", "gcloud", "application_default_credentials.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read the application default credentials: %w", err)
	}
	return err == nil, nil
}

func fetchMetadata(ctx context.Context) (token, error) {
	asked := time.Now()
	raw, err := metadata.NewClient(nil).GetWithContext(ctx, "instance/service-accounts/default/token?scopes="+url.QueryEscape(googleScope))
	if err != nil {
		return token{}, fmt.Errorf("ask the metadata server: %w", err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"` // seconds
	}
	if err := json.Unmarshal([]byte(raw), &answer); err != nil || answer.AccessToken == "" {
		return token{}, errors.New("ask the metadata server: the answer holds no token")
	}
	return googleToken(answer.AccessToken, asked.Add(time.Duration(answer.ExpiresIn)*time.Second)), nil
}

func googleToken(access string, expires time.Time) token {
	return token{auth: authn.AuthConfig{Username: googleUser, Password: access}, expires: expires}
}
