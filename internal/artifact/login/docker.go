package login

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/towline/towline/internal/artifact/oci"
)

const (
	// helperPatience bounds a credential helper, which may ask a network or, where nobody is, a person.
	helperPatience = 15 * time.Second
	// helperDelay until the pipes of a helper that was ended are closed, for it may have left children.
	helperDelay = time.Second
	// dockerHub is what helpers know it by.
	dockerHub = "https://index.docker.io/v1/"
	// identityUser in a helper's answer says that its secret is an identity token, from the protocol of docker's credential helpers.
	identityUser = "<token>"
)

// helperName is a command's ending: without a separator it cannot lead out of $PATH.
var helperName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// resolveDockerConfig asks the helper that the file names for the registry, then looks into its auths, then asks its store.
func resolveDockerConfig(ctx context.Context, path string, r authn.Resource) (authn.Authenticator, error) {
	raw, err := ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("dockerConfig: %w", err)
	}
	var conf struct {
		Auths       json.RawMessage   `json:"auths"`
		CredHelpers map[string]string `json:"credHelpers"`
		CredsStore  string            `json:"credsStore"`
	}
	if err := json.Unmarshal(raw, &conf); err != nil {
		return nil, fmt.Errorf("dockerConfig: %s: not a docker config: want JSON of the form {\"auths\": {\"host\": {…}}}", path)
	}
	hasAuths := len(conf.Auths) > 0 && !bytes.Equal(conf.Auths, []byte("null"))
	if !hasAuths && len(conf.CredHelpers) == 0 && conf.CredsStore == "" {
		return nil, fmt.Errorf("dockerConfig: %s: it has no auths, credHelpers or credsStore", path)
	}
	registry := oci.DockerHost(r.RegistryStr())
	for _, host := range slices.Sorted(maps.Keys(conf.CredHelpers)) { // always the same of several names
		helper := conf.CredHelpers[host]
		if oci.DockerHost(host) != registry {
			continue
		}
		if auth, err := askHelper(ctx, helper, registry); err != nil || auth != authn.Anonymous {
			return auth, err
		}
	}
	if hasAuths {
		keychain, err := oci.DockerConfigKeychain(raw)
		if err != nil {
			return nil, fmt.Errorf("dockerConfig: %s: %w", path, err)
		}
		if auth, err := keychain.Resolve(r); err != nil || auth != authn.Anonymous {
			return auth, err
		}
	}
	if conf.CredsStore != "" {
		return askHelper(ctx, conf.CredsStore, registry)
	}
	return authn.Anonymous, nil
}

// askHelper runs docker-credential-NAME; one that knows nothing of the registry is anonymous. What it prints may be a secret and is in no error.
func askHelper(ctx context.Context, helper, registry string) (authn.Authenticator, error) {
	command := "docker-credential-" + helper
	if !helperName.MatchString(helper) {
		return nil, fmt.Errorf("credential helper %q: that is not the ending of a command's name", helper)
	}
	path, err := exec.LookPath(command)
	if err != nil {
		return nil, fmt.Errorf("credential helper %s is not in the agent's $PATH", command)
	}
	ctx, cancel := context.WithTimeout(ctx, helperPatience)
	defer cancel()
	server := registry
	if registry == name.DefaultRegistry {
		server = dockerHub
	}
	var exit error
	answer, err := client.Get(func(args ...string) client.Program {
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.WaitDelay = helperDelay
		return &program{cmd: cmd, exit: &exit}
	}, server)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return authn.Anonymous, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("credential helper %s for %s: no answer: %w", command, registry, ctx.Err())
	case exit != nil:
		return nil, fmt.Errorf("credential helper %s for %s failed: %w; run it by hand to see why: echo %s | %s get", command, registry, exit, server, command)
	case err != nil:
		return nil, fmt.Errorf("credential helper %s for %s: its answer is not JSON", command, registry)
	case answer.Secret == "":
		return nil, fmt.Errorf("credential helper %s for %s: its answer holds no secret", command, registry)
	case answer.Username == identityUser:
		return authn.FromConfig(authn.AuthConfig{IdentityToken: answer.Secret}), nil
	}
	return authn.FromConfig(authn.AuthConfig{Username: answer.Username, Password: answer.Secret}), nil
}

// program is a helper's run; what it writes to stderr is dropped.
type program struct {
	cmd  *exec.Cmd
	exit *error
}

func (p *program) Input(in io.Reader) { p.cmd.Stdin = in }

func (p *program) Output() ([]byte, error) {
	out, err := p.cmd.Output()
	var status *exec.ExitError
	if errors.As(err, &status) {
		err = errors.New(status.String())
	}
	*p.exit = err
	return out, err
}
