package kube

import (
	"errors"
	"fmt"
	"net/http"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

// as returns the clients of another user of the same cluster: connections, mapper and discovery cache stay shared. Only the user name is sent, as Flux does: the server itself adds the
// groups of a service account (system:serviceaccounts, system:serviceaccounts:<namespace>, system:authenticated), so that the right to impersonate groups is not needed.
func (c *Clients) as(user string) (*Clients, error) {
	cfg := rest.CopyConfig(c.Config)
	cfg.Transport = transport.NewImpersonatingRoundTripper(transport.ImpersonationConfig{UserName: user}, c.Config.Transport)
	a, err := assemble(cfg)
	if err != nil {
		return nil, fmt.Errorf("build the clients of %s: %w", user, err)
	}
	a.Discovery, a.Mapper = c.Discovery, c.Mapper
	return a, nil
}

// named wraps a transport so that what goes wrong on the way says in which cluster: addresses alone say little where there are many.
func named(cluster string) transport.WrapperFunc {
	return func(next http.RoundTripper) http.RoundTripper { return namedTransport{cluster, next} }
}

type namedTransport struct {
	cluster string
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t namedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err != nil && r.Context().Err() == nil { // the caller's own end is not the cluster's fault
		err = &unreachable{t.cluster, err}
	}
	return resp, err
}

// WrappedRoundTripper lets CloseIdleConnectionsFor find the connections.
func (t namedTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

// unreachable is an error on the way to a cluster.
type unreachable struct {
	cluster string
	err     error
}

func (e *unreachable) Error() string { return "cluster of " + e.cluster + ": " + e.err.Error() }
func (e *unreachable) Unwrap() error { return e.err }

// Timeout keeps what url.Error asks for.
func (e *unreachable) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.err, &t) && t.Timeout()
}
