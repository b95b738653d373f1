package login

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Paths of files with a registry's credentials: a docker config, or a token, or username and password. A path that is not absolute is below
// $CREDENTIALS_DIRECTORY.
type Paths struct{ DockerConfig, Username, Password, Token string }

// FileKeychain is credentials in files. They are read at each login, so that a rotated file counts at the next.
type FileKeychain struct{ paths Paths }

// Files is a keychain over files. Nothing is read yet: what is wrong with them is an error of Resolve.
func Files(p Paths) *FileKeychain { return &FileKeychain{paths: p} }

// Fingerprint changes when one of the files does, at the cost of a stat each. See FingerprintOf.
func (k *FileKeychain) Fingerprint() string {
	return FingerprintOf(k.paths.DockerConfig, k.paths.Username, k.paths.Password, k.paths.Token)
}

// Resolve is ResolveContext without a context.
func (k *FileKeychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), r)
}

// ResolveContext reads the files. A token, or username and password, are for every registry that is asked about; a docker config says itself for which, and is
// anonymous for the others. Errors name files and never quote them.
func (k *FileKeychain) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	p := k.paths
	basic := p.Username != "" || p.Password != ""
	switch {
	case p.DockerConfig != "" && p.Token == "" && !basic:
		return resolveDockerConfig(ctx, p.DockerConfig, r)
	case p.Token != "" && p.DockerConfig == "" && !basic:
		token, err := readLine("token", p.Token)
		if err != nil {
			return nil, err
		}
		return authn.FromConfig(authn.AuthConfig{RegistryToken: token}), nil
	case p.Username != "" && p.Password != "" && p.DockerConfig == "" && p.Token == "":
		return resolveBasic(p.Username, p.Password)
	}
	return nil, errors.New("credentialFiles: want dockerConfig, or token, or username and password")
}

func resolveBasic(userFile, passwordFile string) (authn.Authenticator, error) {
	user, err := readLine("username", userFile)
	if err != nil {
		return nil, err
	}
	if strings.Contains(user, ":") { // RFC 7617, section 2
		return nil, fmt.Errorf("username: %s holds a colon, which a user's name cannot", userFile)
	}
	password, err := readLine("password", passwordFile)
	if err != nil {
		return nil, err
	}
	return authn.FromConfig(authn.AuthConfig{Username: user, Password: password}), nil
}

// readLine reads a file that holds one line. Editors and echo end it with a newline, which is not meant.
func readLine(what, path string) (string, error) {
	raw, err := ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	line := string(bytes.TrimRight(raw, "\r\n"))
	if line == "" {
		return "", fmt.Errorf("%s: %s is empty", what, path)
	}
	if strings.ContainsFunc(line, unicode.IsControl) {
		return "", fmt.Errorf("%s: %s holds more than one line, or control characters", what, path)
	}
	return line, nil
}
