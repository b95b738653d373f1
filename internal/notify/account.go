package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/towline/towline/internal/deploy"
)

const (
	// secretAge is how long a Secret is used before it is read again: alerts come in bursts, and rotation is not a matter of seconds.
	secretAge = time.Minute
	// secretTimeout bounds reading one, so that a slow API server does not hold alerts up for long.
	secretTimeout = 10 * time.Second
	// maxCredential bounds an address or token in a file, in bytes.
	maxCredential = 64 << 10
	// Keys of a Secret that a sink names, as in Flux.
	keyAddress = "address"
	keyToken   = "token"
)

// account knows where a sink is and what opens it. It belongs to the goroutine of its outlet.
type account struct {
	sink   deploy.Sink
	secret func(ctx context.Context, namespace, name string) (map[string][]byte, error)

	kept  map[string][]byte // the Secret as it was read last; nil: it was not
	until time.Time         // when it is to be read again
}

// load is the address and the token as they are now; there need not be a token. Files are read each time: alerts are rare, and a file that changed is seen at once.
func (a *account) load(ctx context.Context) (address, token string, err error) {
	spec := a.sink.Spec
	if spec.SecretRef != nil {
		if err := a.fetch(ctx, spec.SecretRef.Name); err != nil {
			return "", "", err
		}
		address, token = text(a.kept[keyAddress]), text(a.kept[keyToken])
	}
	if address == "" && spec.AddressFile != "" {
		if address, err = readCredential("addressFile", spec.AddressFile); err != nil {
			return "", "", err
		}
	}
	if address == "" {
		address = strings.TrimSpace(spec.Address)
	}
	if address == "" {
		return "", "", errors.New("the sink has no address: give it in address, in a file, or under the key address of the Secret")
	}
	if token == "" && spec.TokenFile != "" {
		if token, err = readCredential("tokenFile", spec.TokenFile); err != nil {
			return "", "", err
		}
	}
	return address, token, nil
}

// forget makes the Secret be read again: what it said did not work.
func (a *account) forget() { a.until = time.Time{} }

// fetch reads the Secret if it is time to. While the API server does not answer, what it said last goes on being used: alerts matter most in such hours. What
// it says is gone, or none of our business any more, is not used.
func (a *account) fetch(ctx context.Context, name string) error {
	if time.Now().Before(a.until) {
		return nil
	}
	if a.secret == nil {
		return fmt.Errorf("read Secret %s/%s: there is no cluster to read it from", a.sink.Namespace, name)
	}
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	data, err := a.secret(ctx, a.sink.Namespace, name)
	refused := errors.Is(err, fs.ErrNotExist) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err)
	switch {
	case err == nil && text(data[keyAddress]) == "" && text(data[keyToken]) == "":
		return fmt.Errorf("the Secret %s/%s has neither of the keys address and token", a.sink.Namespace, name)
	case err == nil:
		a.kept = data
	case refused:
		a.kept = nil
		return fmt.Errorf("read Secret %s/%s: %w", a.sink.Namespace, name, err)
	case a.kept == nil:
		return unreached{fmt.Errorf("read Secret %s/%s: %w", a.sink.Namespace, name, err)}
	}
	a.until = time.Now().Add(secretAge)
	return nil
}

// readCredential reads a small file. A path that is not absolute is below the folder that systemd hands credentials over in.
func readCredential(field, path string) (string, error) {
	if !filepath.IsAbs(path) {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", fmt.Errorf("%s %s is not absolute, and there is no CREDENTIALS_DIRECTORY that it could be in", field, path)
		}
		path = filepath.Join(dir, path)
	}
	switch info, err := os.Stat(path); {
	case err != nil:
		return "", fmt.Errorf("%s: %w", field, err)
	case !info.Mode().IsRegular(): // opening a pipe would wait for whoever writes into it
		return "", fmt.Errorf("%s: %s is no regular file", field, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", field, err)
	case len(b) > maxCredential:
		return "", fmt.Errorf("%s: %s is longer than %d bytes", field, path, maxCredential)
	case text(b) == "":
		return "", fmt.Errorf("%s: %s is empty", field, path)
	}
	return text(b), nil
}

func text(b []byte) string { return strings.TrimSpace(string(b)) }
