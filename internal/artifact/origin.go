package artifact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/towline/towline/internal/artifact/layout"
	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/artifact/verify"
	"github.com/towline/towline/internal/deploy"
)

// The schemes of a source's url.
const (
	schemeRegistry = "oci://"
	schemeLayout   = "oci-layout://"
	schemeFiles    = "file://"
)

// content is one place that holds a repository's artifacts: a registry, an image layout, a folder.
type content interface {
	verify.Content
	Tags(context.Context) ([]string, error)
}

var (
	_ content = (*oci.Repository)(nil)
	_ content = (*layout.Layout)(nil)
)

// place is a content and what messages and limits call it.
type place struct {
	content
	name   string // for messages
	host   string // that slots are counted by; empty for a local one
	access oci.Access
	from   string // where its credentials come from
}

// origin is where a source's artifacts come from.
type origin struct {
	place
	mirrors []place
	// repository is what signatures name: the url's, also where a mirror serves it.
	repository string
	// key tells origins apart that may answer differently: another place, or the same with other credentials.
	key string
}

// contents are the places to get something with a digest from: the mirrors first, which are near.
func (o *origin) contents() []place {
	return append(o.mirrors[:len(o.mirrors):len(o.mirrors)], o.place)
}

// origin opens where a source comes from. Nothing is asked of a registry yet.
func (s *Store) origin(src deploy.Source) (*origin, error) {
	spec := src.Spec
	if path, err := localPath(spec.URL); err == nil {
		l, err := s.layout(spec, path)
		if err != nil {
			return nil, hint(err, place{name: path})
		}
		return &origin{place: place{content: l, name: path}, repository: path, key: spec.URL}, nil
	}
	repo, err := repository(spec.URL, spec.Insecure)
	if err != nil {
		return nil, err
	}
	o := &origin{place: s.remote(src, repo), repository: repo.Name()}
	o.key = repo.Name() + "|" + o.access.Owner + fmt.Sprintf("|%t", spec.Insecure)
	for i, m := range spec.Mirrors {
		repo, err := repository(m, spec.Insecure)
		if err != nil {
			return nil, fmt.Errorf("mirrors[%d]: %w", i, err)
		}
		o.mirrors = append(o.mirrors, s.remote(src, repo))
		o.key += "|" + repo.Name()
	}
	return o, nil
}

// localPath is the path of a url that names no registry.
func localPath(rawURL string) (string, error) {
	for _, scheme := range []string{schemeLayout, schemeFiles} {
		if path, ok := strings.CutPrefix(rawURL, scheme); ok {
			return path, nil
		}
	}
	return "", errors.New("the url names no path")
}

// layout is what is on a disk. It is opened once and then kept: it holds no file open, and knows what has not changed since the poll before.
func (s *Store) layout(spec deploy.SourceSpec, path string) (*layout.Layout, error) {
	key := layoutKey(spec)
	s.mu.Lock()
	known := s.layouts[key]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	open := func() (*layout.Layout, error) { return layout.OpenFiles(path, spec.Ignore) }
	if strings.HasPrefix(spec.URL, schemeLayout) {
		open = func() (*layout.Layout, error) { return layout.Open(path) }
	}
	l, err := open() // without the lock: a disk that hangs must not hold up other sources
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.layouts[key]; known != nil { // somebody was quicker
		return known, nil
	}
	s.layouts[key] = l
	return l, nil
}

// layoutKey tells apart what a disk is read as.
func layoutKey(spec deploy.SourceSpec) string {
	if spec.Ignore == nil {
		return spec.URL
	}
	return spec.URL + "\x00" + *spec.Ignore
}

// remote is a repository of a registry with what the source says about how to get there.
func (s *Store) remote(src deploy.Source, repo name.Repository) place {
	access, from := s.access(src, repo)
	return place{content: s.client.Repository(access), name: repo.Name(), host: repo.RegistryStr(), access: access, from: from}
}

// repository parses a source's url. The error never quotes it: people put passwords there.
func repository(rawURL string, insecure bool) (name.Repository, error) {
	path, ok := strings.CutPrefix(rawURL, schemeRegistry)
	if !ok {
		return name.Repository{}, errors.New("the url must begin with oci://, oci-layout:// or file://")
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
	if insecure {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(path, opts...)
	if err != nil {
		return name.Repository{}, fmt.Errorf("the url names no repository: %w", err)
	}
	return repo, nil
}

// inTurn asks places one after the other until one of them does it. Each has its share of the time that is left, so that one that hangs does not use up what the
// others need. The error is that of the last place, the url itself, with those of the mirrors behind it.
func inTurn(ctx context.Context, places []place, do func(context.Context, place) error) error {
	var errs []error
	for i, p := range places {
		ctx, cancel := share(ctx, len(places)-i)
		err := do(ctx, p)
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, hint(err, p))
		if context.Cause(ctx) != nil && i == len(places)-1 {
			break
		}
	}
	last := errs[len(errs)-1]
	if len(errs) == 1 {
		return last
	}
	text := make([]string, 0, len(errs)-1)
	for i, err := range errs[:len(errs)-1] {
		text = append(text, fmt.Sprintf("mirror %s: %v", places[i].name, err))
	}
	return fmt.Errorf("%w; %s", last, strings.Join(text, "; "))
}

// share bounds a context to one of n parts of the time that it has left.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	end, bounded := budget(ctx)
	if n <= 1 || !bounded {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/time.Duration(n))
}

// gone says that a disk, or what is on it, is not there; an empty folder is what a disk leaves where it was mounted.
func gone(path string, err error) error {
	if _, there := os.Stat(path); there == nil {
		return fmt.Errorf("nothing that can be used is at %s: is the disk mounted? %w", path, err)
	}
	return unmounted(path)
}

// unmounted is a path where nothing is: an fs.ErrNotExist in words that fit.
type unmounted string

func (u unmounted) Error() string        { return "nothing is at " + string(u) + ": is the disk mounted?" }
func (u unmounted) Is(target error) bool { return target == fs.ErrNotExist } //nolint:errorlint // this is what errors.Is asks

// hint adds to an error what the user can do about it.
func hint(err error, p place) error {
	if p.host == "" && errors.Is(err, fs.ErrNotExist) {
		return &deploy.Failure{Reason: deploy.SourceNotFound, Err: gone(p.name, err)}
	}
	var e *oci.Error
	if !errors.As(err, &e) || !errors.Is(err, ErrUnauthorized) {
		return err
	}
	switch {
	case e.Anonymous && p.from != "":
		return fmt.Errorf("%w; %s has no credentials for %s", err, p.from, p.host)
	case e.Anonymous:
		return fmt.Errorf("%w; no credentials for %s were found: set secretRef, or put them into the docker config", err, p.host)
	case p.from != "":
		return fmt.Errorf("%w; these are the credentials of %s", err, p.from)
	}
	return fmt.Errorf("%w; these are the credentials of the docker config for %s", err, p.host)
}
