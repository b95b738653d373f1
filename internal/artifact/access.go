package artifact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/towline/towline/internal/artifact/login"
	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/deploy"
)

// Secrets reads what sources name in the cluster. Its errors name the object, and wrap fs.ErrNotExist where there is none.
type Secrets interface {
	// Secret is the data of a Secret.
	Secret(ctx context.Context, namespace, name string) (map[string][]byte, error)
	// PullSecrets are the names of a service account's imagePullSecrets.
	PullSecrets(ctx context.Context, namespace, serviceAccount string) ([]string, error)
}

// Keys of Secrets.
const (
	keyDockerConfig = ".dockerconfigjson"
	keyCA           = "ca.crt"
	keyCert         = "tls.crt"
	keyKey          = "tls.key"
	keyAddress      = "address"
	keyUsername     = "username"
	keyPassword     = "password"
)

// errNoCluster is a Secret that is named where there is no cluster to read it from.
var errNoCluster = errors.New("there is no cluster to read it from")

// access is how a source gets to a repository, and where its credentials come from in words ("" for the docker config).
func (s *Store) access(src deploy.Source, repo name.Repository) (oci.Access, string) {
	spec := src.Spec
	a := oci.Access{Repo: repo, Insecure: spec.Insecure, Owner: owner(src)}
	var files *login.FileKeychain
	var from []string
	if f := spec.CredentialFiles; f != nil {
		files = login.Files(login.Paths{DockerConfig: f.DockerConfig, Username: f.Username, Password: f.Password, Token: f.Token})
		from = append(from, "credentialFiles")
	}
	if spec.SecretRef != nil {
		from = append(from, "secret "+src.Name.Namespace+"/"+spec.SecretRef.Name)
	}
	if spec.ServiceAccountName != "" {
		from = append(from, "service account "+src.Name.Namespace+"/"+spec.ServiceAccountName)
	}
	a.Login = func(ctx context.Context) (authn.Authenticator, error) {
		keychains, err := s.keychains(ctx, src, files)
		if err != nil {
			return nil, &deploy.Failure{Reason: deploy.SourceNoCredentials, Err: err}
		}
		auth, err := authn.Resolve(ctx, authn.NewMultiKeychain(keychains...), repo)
		if err != nil {
			return nil, &deploy.Failure{Reason: deploy.SourceNoCredentials, Err: err}
		}
		return auth, nil
	}
	if spec.CertSecretRef != nil || spec.CertFiles != nil || spec.ProxySecretRef != nil {
		a.Route = func(ctx context.Context) (oci.Route, error) {
			r, err := s.route(ctx, src)
			if err != nil {
				return oci.Route{}, &deploy.Failure{Reason: deploy.SourceNoCredentials, Err: err}
			}
			return r, nil
		}
	}
	if files != nil || spec.CertFiles != nil {
		a.Changed = func() string {
			print := ""
			if files != nil {
				print = files.Fingerprint()
			}
			if c := spec.CertFiles; c != nil {
				print += login.FingerprintOf(c.CA, c.Cert, c.Key)
			}
			return print
		}
	}
	return a, strings.Join(from, ", ")
}

// owner names whose credentials and route a source has: sources with equal ones share connections and logins. Names only, never what they hold.
func owner(src deploy.Source) string {
	spec := src.Spec
	if spec.SecretRef == nil && spec.ServiceAccountName == "" && spec.CredentialFiles == nil && spec.CertSecretRef == nil && spec.CertFiles == nil &&
		spec.ProxySecretRef == nil && (spec.Provider == "" || spec.Provider == deploy.ProviderGeneric) {
		return ""
	}
	host := "" // that the files are for; a docker config says that itself
	if f := spec.CredentialFiles; f != nil && f.DockerConfig == "" {
		if repo, err := repository(spec.URL, spec.Insecure); err == nil {
			host = repo.RegistryStr()
		}
	}
	return src.Name.Namespace + "/" + deploy.HashOf([]any{
		spec.SecretRef, spec.ServiceAccountName, spec.CredentialFiles, spec.CertSecretRef, spec.CertFiles, spec.ProxySecretRef, spec.Provider, host,
	})
}

// keychains are where a source's credentials are looked for, in order: what it names, else the docker config; the cloud's own login last.
func (s *Store) keychains(ctx context.Context, src deploy.Source, files *login.FileKeychain) ([]authn.Keychain, error) {
	var out []authn.Keychain
	spec, namespace := src.Spec, src.Name.Namespace
	if files != nil {
		if spec.CredentialFiles.DockerConfig == "" {
			out = append(out, onlyFor{files, spec.URL})
		} else { // it says itself which host gets which
			out = append(out, files)
		}
	}
	var names []string
	if spec.SecretRef != nil {
		names = append(names, spec.SecretRef.Name)
	}
	if spec.ServiceAccountName != "" {
		if s.opts.Secrets == nil {
			return nil, fmt.Errorf("service account %s/%s: %w", namespace, spec.ServiceAccountName, errNoCluster)
		}
		pull, err := s.opts.Secrets.PullSecrets(ctx, namespace, spec.ServiceAccountName)
		if err != nil {
			return nil, err
		}
		names = append(names, pull...)
	}
	for _, n := range names {
		k, err := s.pullSecret(ctx, namespace, n)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	if len(out) == 0 && spec.ServiceAccountName == "" {
		out = append(out, s.opts.Keychain)
	}
	cloud, err := login.Keychain(spec.Provider)
	if err != nil {
		return nil, err
	}
	if cloud != nil {
		out = append(out, cloud)
	}
	return out, nil
}

// onlyFor keeps credentials that name no host to that of a url: a mirror must not get them.
type onlyFor struct {
	*login.FileKeychain
	url string
}

// Resolve is for callers without a context.
func (k onlyFor) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), r)
}

// ResolveContext is anonymous for other hosts.
func (k onlyFor) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	repo, err := repository(k.url, false)
	if err != nil || repo.RegistryStr() != r.RegistryStr() {
		return authn.Anonymous, nil //nolint:nilerr // a url that is none has no host to give them to
	}
	return k.FileKeychain.ResolveContext(ctx, r)
}

// pullSecret reads a Secret of type kubernetes.io/dockerconfigjson.
func (s *Store) pullSecret(ctx context.Context, namespace, name string) (authn.Keychain, error) {
	data, err := s.secret(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	config, ok := data[keyDockerConfig]
	if !ok {
		return nil, fmt.Errorf("secret %s/%s has no key %s: want a Secret of type kubernetes.io/dockerconfigjson (kubectl create secret docker-registry makes one)",
			namespace, name, keyDockerConfig)
	}
	k, err := oci.DockerConfigKeychain(config)
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w", namespace, name, err)
	}
	return k, nil
}

func (s *Store) secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	if s.opts.Secrets == nil {
		return nil, fmt.Errorf("secret %s/%s: %w", namespace, name, errNoCluster)
	}
	return s.opts.Secrets.Secret(ctx, namespace, name)
}

// route reads a source's certificates and proxy.
func (s *Store) route(ctx context.Context, src deploy.Source) (oci.Route, error) {
	var r oci.Route
	namespace := src.Name.Namespace
	if ref := src.Spec.CertSecretRef; ref != nil {
		data, err := s.secret(ctx, namespace, ref.Name)
		if err != nil {
			return r, fmt.Errorf("certSecretRef: %w", err)
		}
		if r.CA, r.Cert, r.Key = data[keyCA], data[keyCert], data[keyKey]; r.CA == nil && r.Cert == nil {
			return r, fmt.Errorf("certSecretRef: secret %s/%s has neither %s nor %s with %s", namespace, ref.Name, keyCA, keyCert, keyKey)
		}
	}
	if f := src.Spec.CertFiles; f != nil {
		for into, path := range map[*[]byte]string{&r.CA: f.CA, &r.Cert: f.Cert, &r.Key: f.Key} { // one file may hold several
			if path == "" {
				continue
			}
			b, err := login.ReadFile(path)
			if err != nil {
				return r, fmt.Errorf("certFiles: %w", err)
			}
			*into = b
		}
	}
	if ref := src.Spec.ProxySecretRef; ref != nil {
		data, err := s.secret(ctx, namespace, ref.Name)
		if err != nil {
			return r, fmt.Errorf("proxySecretRef: %w", err)
		}
		proxy, err := proxyOf(data)
		if err != nil {
			return r, fmt.Errorf("proxySecretRef: secret %s/%s: %w", namespace, ref.Name, err)
		}
		r.Proxy = proxy
	}
	return r, nil
}

// proxyOf reads the Secret of a proxy. The error never quotes it.
func proxyOf(data map[string][]byte) (*url.URL, error) {
	address := strings.TrimSpace(string(data[keyAddress]))
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("its key %s is not a proxy: want http://host:port", keyAddress)
	}
	if user := strings.TrimSpace(string(data[keyUsername])); user != "" {
		u.User = url.UserPassword(user, strings.TrimRight(string(data[keyPassword]), "\r\n"))
	}
	return u, nil
}

// missing reports whether what was named is not there, in contrast to one that cannot be read just now.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoCluster) }
