package login

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

func repository(t *testing.T, s string) name.Repository {
	t.Helper()
	r, err := name.NewRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// resolve is what a keychain gives for a repository.
func resolve(t *testing.T, k authn.Keychain, repo string) (authn.AuthConfig, error) {
	t.Helper()
	a, err := authn.Resolve(t.Context(), k, repository(t, repo))
	if err != nil {
		return authn.AuthConfig{}, err
	}
	c, err := authn.Authorization(t.Context(), a)
	if err != nil {
		return authn.AuthConfig{}, err
	}
	return *c, nil
}
