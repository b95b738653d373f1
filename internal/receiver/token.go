package receiver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/towline/towline/internal/deploy"
)

const (
	// secretAge is how long a token from a Secret is used before it is read again, where the path that is asked for fits.
	secretAge = time.Minute
	// secretRetry is the same where no path fits, and after a failure: strangers must not make the API server be asked more often.
	secretRetry = 5 * time.Second
	// fileAge is the same for a token from a file.
	fileAge = time.Second
	// secretTimeout bounds reading a Secret.
	secretTimeout = 5 * time.Second
	// maxToken bounds a token in a file, in bytes.
	maxToken = 64 << 10
	// keyToken is the key in a Secret, as in Flux.
	keyToken = "token"
)

// Path is where a source's receiver is: /hook/ and the SHA-256 of token, name and namespace in hex, as with Flux's Receiver. Who knows it can use the receivers that
// demand nothing else.
func Path(token string, source deploy.Name) string {
	return fmt.Sprintf("/hook/%x", sha256.Sum256([]byte(token+source.Name+source.Namespace)))
}

// Token is the token of a source's receiver as it is now. Errors never hold it.
func Token(ctx context.Context, source deploy.Source, secret ReadSecret) (string, error) {
	return (&token{source: source, secret: secret}).load(ctx)
}

// token reads a token and keeps it for a while.
type token struct {
	source deploy.Source
	secret ReadSecret

	// mu guards the rest, and is held while the token is read: who else wants it waits for that.
	mu   sync.Mutex
	kept string // empty: none
	err  error  // why there is none
	at   time.Time
}

// read is the token, with or without reading it again. Again says that there is reason to believe that it was replaced. While the API server does not answer, what it said
// last goes on being used.
func (t *token) read(ctx context.Context, again bool) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	age := fileAge
	switch {
	case t.source.Spec.Receiver.SecretRef == nil:
	case again || t.err != nil:
		age = secretRetry
	default:
		age = secretAge
	}
	if !t.at.IsZero() && time.Since(t.at) < age {
		return t.kept, t.err
	}
	got, err := t.load(ctx)
	var gone unusable
	if err == nil || t.kept == "" || errors.As(err, &gone) {
		t.kept, t.err = got, err
	}
	t.at = time.Now()
	return t.kept, t.err
}

// unusable is an error that is no passing one: what was read before counts no longer.
type unusable struct{ error }

func (u unusable) Unwrap() error { return u.error }

// load reads the token.
func (t *token) load(ctx context.Context) (string, error) {
	r := t.source.Spec.Receiver
	if r == nil {
		return "", fmt.Errorf("%s has no receiver", t.source.Name)
	}
	if r.SecretRef == nil {
		token, err := readFile(r.TokenFile)
		if err != nil {
			return "", unusable{fmt.Errorf("receiver.tokenFile: %w", err)}
		}
		return token, nil
	}
	namespace, name := t.source.Name.Namespace, r.SecretRef.Name
	if t.secret == nil {
		return "", unusable{fmt.Errorf("receiver.secretRef: there is no cluster to read Secret %s/%s from", namespace, name)}
	}
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	data, err := t.secret(ctx, namespace, name)
	if err != nil {
		err = fmt.Errorf("receiver.secretRef: %w", err)
		if errors.Is(err, fs.ErrNotExist) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			return "", unusable{err}
		}
		return "", err
	}
	token := strings.TrimSpace(string(data[keyToken]))
	if token == "" {
		return "", unusable{fmt.Errorf("receiver.secretRef: the Secret %s/%s has no key %s, or nothing in it", namespace, name, keyToken)}
	}
	return token, nil
}

// readFile reads a small file. A path that is not absolute is below the folder that systemd hands credentials over in.
func readFile(path string) (string, error) {
	if !filepath.IsAbs(path) {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", fmt.Errorf("%s is not absolute, and there is no CREDENTIALS_DIRECTORY that it could be in", path)
		}
		path = filepath.Join(dir, path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe would wait for whoever writes into it
	if err != nil {
		return "", err
	}
	defer f.Close()
	switch info, err := f.Stat(); {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	switch {
	case len(b) > maxToken:
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxToken)
	case token == "":
		return "", fmt.Errorf("%s is empty", path)
	}
	return token, nil
}
