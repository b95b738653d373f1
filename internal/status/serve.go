package status

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

const (
	// readHeaderTimeout and the others keep a slow or idle client from holding a connection for ever.
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	// maxHeaderBytes of a request: nothing of ours needs more than a few hundred.
	maxHeaderBytes = 16 << 10
	// shutdownGrace is how long running requests may take to end after the stop.
	shutdownGrace = 5 * time.Second
)

// Listen says where to serve, and what.
type Listen struct {
	// Address of the TCP listener, host:port; empty: none. Without AllowControl it is read-only.
	Address string
	// Socket is the path of the unix socket; empty: none. Its mode is 0660: who may open it may control the agent.
	Socket string
	// Controls act on the agent; nil: everything is read-only.
	Controls Controls
	// AllowControl lets everybody who reaches Address use the Controls. There is no log-in: it is meant for 127.0.0.1 and for networks where all are trusted.
	AllowControl bool
	// Listening, if set, is called for each listener when it accepts, with its real address (port 0 becomes a port).
	Listening func(net.Addr)
	// Log may be nil.
	Log *zap.Logger
}

// Serve serves the board until the context ends, then lets running requests end and removes the socket. It returns nil then; an error means that it could not
// listen, or no longer. It leaves no goroutine behind.
func (b *Board) Serve(ctx context.Context, l Listen) error {
	if l.Log == nil {
		l.Log = zap.NewNop()
	}
	listeners, err := l.open(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, ln := range listeners {
		controls := l.Controls
		if ln.Addr().Network() != "unix" && !l.AllowControl {
			controls = nil
		}
		g.Go(func() error { return serve(ctx, ln, b.handler(controls, ctx.Done()), l.Log) })
		l.Log.Info("serving the status", zap.Stringer("address", ln.Addr()), zap.Bool("control", controls != nil))
		if l.Listening != nil {
			l.Listening(ln.Addr())
		}
	}
	g.Go(func() error { // without listeners too, it blocks
		<-ctx.Done()
		return nil
	})
	return g.Wait()
}

// open opens all listeners or none.
func (l Listen) open(ctx context.Context) ([]net.Listener, error) {
	var out []net.Listener
	if l.Address != "" {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", l.Address)
		if err != nil {
			return nil, fmt.Errorf("listen on the status address %s: %w", l.Address, err)
		}
		out = append(out, ln)
	}
	if l.Socket != "" {
		ln, err := listenUnix(ctx, l.Socket)
		if err != nil {
			for _, o := range out {
				_ = o.Close()
			}
			return nil, err
		}
		out = append(out, ln)
	}
	return out, nil
}

// serve serves one listener until the context ends.
func serve(ctx context.Context, ln net.Listener, h http.Handler, log *zap.Logger) error {
	errorLog, err := zap.NewStdLogAt(log.Named("http"), zap.DebugLevel) // what clients do wrong is not news
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          errorLog,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the status on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		log.Warn("requests were cut off at the stop", zap.Stringer("address", ln.Addr()), zap.Error(errors.Join(err, srv.Close())))
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the status on %s: %w", ln.Addr(), err)
	}
	return nil
}
