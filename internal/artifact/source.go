package artifact

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/deploy"
)

// scheme begins every source's url.
const scheme = "oci://"

// repository parses a source's url. The error never quotes it: people put passwords there.
func repository(spec deploy.SourceSpec) (name.Repository, error) {
	path, ok := strings.CutPrefix(spec.URL, scheme)
	if !ok {
		return name.Repository{}, errors.New("the url must begin with oci://")
	}
	if strings.Contains(path, "@") {
		return name.Repository{}, errors.New("the url must hold neither credentials (use secretRef) nor a digest (use ref.digest)")
	}
	host, rest, _ := strings.Cut(path, "/")
	if rest == "" || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return name.Repository{}, errors.New("the url must be oci://host/repository, with a dot or a port in the host")
	}
	if strings.Contains(rest, ":") {
		return name.Repository{}, errors.New("the url must not hold a tag: use ref.tag")
	}
	var opts []name.Option
	if spec.Insecure {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(path, opts...)
	if err != nil {
		return name.Repository{}, fmt.Errorf("the url names no repository: %w", err)
	}
	return repo, nil
}

// access is a source's repository with the credentials to use there.
func (s *Store) access(src deploy.Source) (oci.Access, error) {
	repo, err := repository(src.Spec)
	if err != nil {
		return oci.Access{}, err
	}
	a := oci.Access{Repo: repo, Insecure: src.Spec.Insecure}
	if src.Spec.SecretRef != nil {
		a.Owner = src.Name.Namespace + "/" + src.Spec.SecretRef.Name
	}
	a.Login = func(ctx context.Context) (authn.Authenticator, error) {
		keychain := s.opts.Keychain
		if a.Owner != "" {
			if s.opts.Credentials == nil {
				return nil, fmt.Errorf("secret %s: there is no cluster to read it from", a.Owner)
			}
			k, err := s.opts.Credentials(ctx, src)
			if err != nil {
				return nil, fmt.Errorf("secret %s: %w", a.Owner, err)
			}
			keychain = k
		}
		return authn.Resolve(ctx, keychain, repo)
	}
	return a, nil
}

// hint adds to a refusal what the user can do about it.
func hint(err error, a oci.Access) error {
	var e *oci.Error
	if !errors.As(err, &e) || !errors.Is(err, ErrUnauthorized) {
		return err
	}
	host := a.Repo.RegistryStr()
	switch {
	case e.Anonymous && a.Owner != "":
		return fmt.Errorf("%w; secret %s has no credentials for %s", err, a.Owner, host)
	case e.Anonymous:
		return fmt.Errorf("%w; no credentials for %s were found: set secretRef, or put them into the docker config", err, host)
	case a.Owner != "":
		return fmt.Errorf("%w; these are the credentials of secret %s", err, a.Owner)
	}
	return fmt.Errorf("%w; these are the credentials of the docker config for %s", err, host)
}

// DockerConfigKeychain reads the .dockerconfigjson of a Secret of type kubernetes.io/dockerconfigjson.
func DockerConfigKeychain(json []byte) (authn.Keychain, error) { return oci.DockerConfigKeychain(json) }
