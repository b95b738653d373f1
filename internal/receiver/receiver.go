// Package receiver takes the webhooks by which registries and pipelines say that there is news, and makes the source that they are about be polled.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

const (
	// readHeaderTimeout and the others keep a slow or idle client from holding a connection for ever.
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = time.Minute
	// maxHeaderBytes of a request: the signatures and tokens that count take a few hundred.
	maxHeaderBytes = 16 << 10
	// shutdownGrace is how long running requests may take to end after the stop.
	shutdownGrace = 5 * time.Second
)

// Poller polls sources.
type Poller interface {
	// Poke makes a source be polled now. It does not block. It reports whether the source is known.
	Poke(deploy.Name) bool
}

// ReadSecret reads a Secret of the cluster.
type ReadSecret func(ctx context.Context, namespace, name string) (map[string][]byte, error)

// Options of Receivers.
type Options struct {
	Poller Poller
	// Secret reads tokens; nil: there is no cluster to read them from.
	Secret ReadSecret
	// Log may be nil.
	Log *zap.Logger
}

// Receivers are those of all sources. Its methods may be called from any goroutine.
type Receivers struct {
	poller Poller
	secret ReadSecret
	log    *zap.Logger
	slots  chan struct{} // what is in it is being handled

	// mu guards hooks and past. It is held for moments only.
	mu    sync.Mutex
	hooks []*hook // replaced, never changed
	past  map[deploy.Name]*past
}

// New makes receivers for no source. No request is made.
func New(o Options) *Receivers {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Receivers{poller: o.Poller, secret: o.Secret, log: o.Log, slots: make(chan struct{}, maxHandled), past: map[deploy.Name]*past{}}
}

// hook is the receiver of one source. It is never changed.
type hook struct {
	source deploy.Source
	token  *token
	past   *past
}

// past is what outlives a change of a source's entry.
type past struct {
	pace  pace
	tally tally
	quiet quiet
}

// Set makes the receivers of these sources the ones that count. Those whose entry is the same keep what they know. It does not wait, and makes no request.
func (r *Receivers) Set(sources []deploy.Source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := make(map[deploy.Name]*hook, len(r.hooks))
	for _, h := range r.hooks {
		known[h.source.Name] = h
	}
	r.hooks = nil
	for _, s := range sources {
		if s.Spec.Receiver == nil {
			continue
		}
		h := known[s.Name]
		delete(known, s.Name)
		if h == nil || h.source.Hash != s.Hash {
			if r.past[s.Name] == nil {
				r.past[s.Name] = &past{}
			}
			h = &hook{source: s, token: &token{source: s, secret: r.secret}, past: r.past[s.Name]}
		}
		r.hooks = append(r.hooks, h)
	}
	for name, h := range known {
		h.past.pace.stop()
		delete(r.past, name)
	}
}

// all are the receivers in force.
func (r *Receivers) all() []*hook {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hooks
}

// Run serves the receivers until the context ends, then lets running requests end. It returns nil then; an error means that the listener failed. It closes the listener,
// and leaves no goroutine behind.
func (r *Receivers) Run(ctx context.Context, ln net.Listener) error {
	errorLog, err := zap.NewStdLogAt(r.log.Named("http"), zap.DebugLevel) // what clients do wrong is not news
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	srv := &http.Server{
		Handler:           r,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          errorLog,
	}
	defer func() {
		for _, h := range r.all() {
			h.past.pace.stop()
		}
	}()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	r.log.Info("serving receivers", zap.Stringer("address", ln.Addr()))
	select {
	case err := <-served:
		return fmt.Errorf("serve receivers on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		r.log.Warn("webhooks were cut off at the stop", zap.Error(errors.Join(err, srv.Close())))
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve receivers on %s: %w", ln.Addr(), err)
	}
	return nil
}
