// Package artifact brings OCI artifacts from registries to disk: it resolves a source's reference to a digest, and fetches, checks and unpacks what has it.
package artifact

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/towline/towline/internal/artifact/layout"
	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/artifact/store"
	"github.com/towline/towline/internal/deploy"
)

// pullsPerHost is how many artifacts are pulled at once from one host: enough to fill a line, and a host that hangs does not hold up the others.
const pullsPerHost = 8

// looksPerHost is how many references are resolved at once at one host. All sources are polled when the agent starts: a thousand connections at once cost it more
// memory than everything else, and hosts answer so many with 429.
const looksPerHost = 32

// cacheChecks is how many cached artifacts are checked at once: that is bound by the processor, and each check has buffers.
const cacheChecks = 8

// Why a call failed, where somebody may want to branch on it. A registry that said when to come back is an error with a method
// RetryAfter() (time.Duration, bool).
var (
	ErrNotFound     = oci.ErrNotFound
	ErrUnauthorized = oci.ErrUnauthorized
	ErrRateLimited  = oci.ErrRateLimited
	ErrUnavailable  = oci.ErrUnavailable
	ErrNetwork      = oci.ErrNetwork
)

// Limits bound what one artifact may cost; zero fields are defaults.
type Limits = store.Limits

// LimitError is an artifact over a limit.
type LimitError = store.LimitError

// Options say how a Store works. Only CacheDir is needed.
type Options struct {
	// CacheDir is the folder that artifacts are kept in. It is made when it is first needed, and may be deleted while no agent runs.
	CacheDir string
	// Secrets reads what sources name in the cluster. Without it, such sources fail.
	Secrets Secrets
	// Keychain serves sources that name no credentials. Default: the docker config of this process's user.
	Keychain authn.Keychain
	Limits   Limits
	// UserAgent is sent to registries.
	UserAgent string
	// Transport carries all requests and must not retry. Default: one with bounded waits and proxies from the environment.
	Transport http.RoundTripper
	Log       *zap.Logger
}

// Store resolves and fetches artifacts. Safe for concurrent use.
type Store struct {
	opts    Options
	client  *oci.Client
	owned   *http.Transport // closed by Close; nil where the transport was given
	flights flights[fetched]
	lookups flights[deploy.Pin]
	answers answers

	// checks bounds how many cached artifacts are read at once.
	checks chan struct{}

	// evidence is held while evidence is added to what an entry has.
	evidence sync.Mutex

	// mu guards cache, pulls, looks, policies, layouts, notes.
	mu           sync.Mutex
	cache        *store.Cache
	pulls, looks map[string]chan struct{}
	policies     map[deploy.Name]parsed
	layouts      map[string]*layout.Layout
	notes        map[string]remembered // by memoryKey: what this process wrote
}

// New makes a store. Nothing is read or written yet.
func New(opts Options) *Store {
	s := &Store{
		opts: opts, checks: make(chan struct{}, cacheChecks),
		pulls: map[string]chan struct{}{}, looks: map[string]chan struct{}{}, policies: map[deploy.Name]parsed{}, layouts: map[string]*layout.Layout{},
		notes: map[string]remembered{},
	}
	if s.opts.Transport == nil {
		s.owned = oci.NewTransport()
		s.opts.Transport = s.owned
	}
	if s.opts.Keychain == nil {
		s.opts.Keychain = authn.DefaultKeychain
	}
	if s.opts.Log == nil {
		s.opts.Log = zap.NewNop()
	}
	if s.opts.UserAgent == "" {
		s.opts.UserAgent = "towline (" + runtime.GOOS + "/" + runtime.GOARCH + ")"
	}
	s.client = oci.New(s.opts.Transport, s.opts.UserAgent)
	return s
}

// Close lets idle connections go, and another agent have the cache. The store can still be used.
func (s *Store) Close() {
	s.client.Close()
	s.mu.Lock()
	if s.cache != nil {
		s.cache.Release()
	}
	s.mu.Unlock()
	if s.owned != nil {
		s.owned.CloseIdleConnections()
	}
}

// Prune removes what is cached and not among the revisions to keep. What was fetched in the last minutes (store.PruneGrace) stays in any case. It returns the
// number of artifacts removed.
func (s *Store) Prune(keep []deploy.Revision) (int, error) {
	cache, err := s.open()
	if err != nil {
		return 0, err
	}
	dirs := make([]string, len(keep))
	for i, r := range keep {
		dirs[i] = r.Dir
	}
	return cache.Prune(dirs)
}

// Place is a revision of a source as Prune knows it, whether it is in the cache or not: its digest and folder alone.
func (s *Store) Place(src deploy.Source, digest string) (deploy.Revision, error) {
	if _, err := v1.NewHash(digest); err != nil { // it becomes a part of a path
		return deploy.Revision{}, err
	}
	cache, err := s.open()
	if err != nil {
		return deploy.Revision{}, err
	}
	return deploy.Revision{Source: src.Name, Digest: digest, Dir: cache.Dir(store.EntryName(digest, newSelector(src.Spec).hash()))}, nil
}

// Usage is what the cached artifacts take on disk, in bytes, and how many there are.
func (s *Store) Usage() (bytes int64, entries int, err error) {
	cache, err := s.open()
	if err != nil {
		return 0, 0, err
	}
	return cache.Usage()
}

// open opens the cache on first use; a failure is tried again the next time.
func (s *Store) open() (*store.Cache, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cache != nil {
		return s.cache, nil
	}
	if s.opts.CacheDir == "" {
		return nil, fmt.Errorf("open the artifact cache: no folder is set")
	}
	c, err := store.Open(s.opts.CacheDir, s.opts.Limits)
	if err != nil {
		return nil, err
	}
	s.cache = c
	return c, nil
}

// wait takes one of the host's places, of which there are as many as said.
func (s *Store) wait(ctx context.Context, places map[string]chan struct{}, host string, most int, what string) (release func(), err error) {
	s.mu.Lock()
	q := places[host]
	if q == nil {
		q = make(chan struct{}, most)
		places[host] = q
	}
	s.mu.Unlock()
	select {
	case q <- struct{}{}:
		return func() { <-q }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other %s %s: %w", what, host, context.Cause(ctx))
	}
}
