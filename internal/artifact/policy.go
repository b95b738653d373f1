package artifact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/towline/towline/internal/artifact/login"
	"github.com/towline/towline/internal/artifact/verify"
	"github.com/towline/towline/internal/deploy"
)

// Keys of a Secret that a policy is read from.
const (
	keyTrustedRoot = "trusted_root.json"
	keyTrustPolicy = "trustpolicy.json"
)

// policy is what a source's signatures are checked with, as its Secrets and files say now; nil where it demands none. The error is a *deploy.Failure: SourceNoPolicy
// where what is named is missing or no good, SourceNoCredentials where it cannot be read just now.
func (s *Store) policy(ctx context.Context, src deploy.Source) (*verify.Policy, error) {
	v := src.Spec.Verify
	if v == nil {
		return nil, nil
	}
	m, err := s.material(ctx, src.Name.Namespace, v)
	if err != nil {
		reason := deploy.SourceNoCredentials
		if missing(err) || errors.Is(err, errNoGood) {
			reason = deploy.SourceNoPolicy
		}
		return nil, &deploy.Failure{Reason: reason, Err: fmt.Errorf("verify: %w", err)}
	}
	key := deploy.HashOf(m)
	s.mu.Lock()
	known := s.policies[src.Name]
	s.mu.Unlock()
	if known.material == key {
		return known.policy, nil
	}
	p, err := verify.New(m)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policies[src.Name] = parsed{material: key, policy: p}
	return p, nil
}

// errNoGood is what was read and is not what it has to be, in contrast to what cannot be read just now.
var errNoGood = errors.New("cannot be used")

// policyFile reads a key, a certificate, a trusted root or a trust policy.
func policyFile(path string) ([]byte, error) {
	b, err := login.ReadFile(path)
	var system *fs.PathError
	if err == nil || errors.As(err, &system) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	return nil, fmt.Errorf("%w, and %w", err, errNoGood) // such as an empty one
}

// parsed is a policy and the hash of what it was made of.
type parsed struct {
	material string
	policy   *verify.Policy
}

// material reads the Secrets and files that a source names for its signatures.
func (s *Store) material(ctx context.Context, namespace string, v *deploy.Verify) (verify.Material, error) {
	m := verify.Material{Provider: v.Provider, Identities: v.MatchOIDCIdentity, Keys: map[string][]byte{}, Certificates: map[string][]byte{}}
	if v.SecretRef != nil {
		data, err := s.secret(ctx, namespace, v.SecretRef.Name)
		if err != nil {
			return m, err
		}
		m.TrustPolicy = data[keyTrustPolicy]
		for name, b := range data {
			switch filepath.Ext(name) {
			case ".pub":
				m.Keys[name] = b
			case ".crt", ".pem":
				m.Certificates[name] = b
			}
		}
	}
	if v.TrustedRootSecretRef != nil {
		data, err := s.secret(ctx, namespace, v.TrustedRootSecretRef.Name)
		if err != nil {
			return m, err
		}
		if m.TrustedRoot = data[keyTrustedRoot]; m.TrustedRoot == nil {
			return m, fmt.Errorf("secret %s/%s has no key %s and %w", namespace, v.TrustedRootSecretRef.Name, keyTrustedRoot, errNoGood)
		}
	}
	for into, path := range map[*[]byte]string{&m.TrustedRoot: v.TrustedRoot, &m.TrustPolicy: v.TrustPolicy} {
		if path == "" {
			continue
		}
		b, err := policyFile(path)
		if err != nil {
			return m, err
		}
		*into = b
	}
	for kind, paths := range map[*map[string][]byte][]string{&m.Keys: v.Keys, &m.Certificates: v.Certificates} {
		for _, path := range paths {
			b, err := policyFile(path)
			if err != nil {
				return m, err
			}
			(*kind)[nameOf(path, *kind)] = b
		}
	}
	return m, nil
}

// nameOf is the last element of a path; the whole path where that is taken.
func nameOf(path string, taken map[string][]byte) string {
	name := filepath.Base(path)
	if _, ok := taken[name]; ok {
		return strings.TrimPrefix(path, "./")
	}
	return name
}
