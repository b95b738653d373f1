package kube

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/towline/towline/internal/deploy"
)

const (
	// idleLimit is how long clients that nobody asks for are kept: longer than the interval of most targets, so that their discovery is read once.
	idleLimit = time.Hour
	// sweepEvery is how often it is looked for such.
	sweepEvery = 5 * time.Minute
)

// Pool keeps the clients of the clusters and accounts that targets name. A cluster has one transport, discovery cache and mapper, whatever the number of targets and accounts.
// Safe for concurrent use.
type Pool struct {
	own    *Clients
	secret func(ctx context.Context, namespace, name string) (map[string][]byte, error)
	now    func() time.Time

	// mu guards what follows. It is held while clients are built, so that they are built once: that makes no request and takes a few milliseconds.
	mu       sync.Mutex
	clusters map[reference]*cluster
	swept    time.Time
}

// reference is how targets name a cluster; the zero value is the agent's own.
type reference struct {
	namespace, secret, key string
	file                   string
	context                string
}

// String names the cluster for people, without anything that is secret.
func (r reference) String() string {
	s := "kubeconfig " + r.file
	if r.secret != "" {
		s = "kubeconfig in secret " + r.namespace + "/" + r.secret
	}
	if r.context != "" {
		s += " (context " + r.context + ")"
	}
	return s
}

// cluster is one cluster with the accounts that are used there.
type cluster struct {
	digest   [sha256.Size]byte // of the kubeconfig
	clients  *Clients
	used     time.Time
	accounts map[string]*account
}

// account is one account of a cluster.
type account struct {
	clients *Clients
	used    time.Time
}

// NewPool makes a pool that hands out the agent's own clients and those of other clusters and accounts. The function reads a Secret; for one that does not exist its error is one that
// apierrors.IsNotFound knows.
func NewPool(own *Clients, secret func(ctx context.Context, namespace, name string) (map[string][]byte, error)) *Pool {
	return &Pool{own: own, secret: secret, now: time.Now, clusters: map[reference]*cluster{}}
}

// For returns the clients of the cluster that a target names, as the account that it names: the agent's own for a target that names neither. The kubeconfig is read at each call,
// a Secret by one request; clients are built anew only where it changed. Errors name the Secret or file and never what is in it.
func (p *Pool) For(ctx context.Context, t deploy.Target) (*Clients, error) {
	name, kubeConfig := t.Access()
	if name == "" && kubeConfig == nil {
		return p.own, nil
	}
	var (
		ref  reference
		text []byte
		err  error
	)
	if kubeConfig != nil {
		if ref, err = referenceOf(t.Name.Namespace, *kubeConfig); err != nil {
			return nil, err
		}
		if text, err = p.read(ctx, ref); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep()
	c, err := p.cluster(ref, text)
	if err != nil || name == "" {
		return c.get(), err
	}
	return c.account(p.now(), t.Name.Namespace, name)
}

// referenceOf reads a kubeConfig; its namespace is that of the entry.
func referenceOf(namespace string, k deploy.KubeConfig) (reference, error) {
	switch {
	case k.SecretRef != nil && k.File == "":
		return reference{namespace: namespace, secret: k.SecretRef.Name, key: k.SecretRef.Key, context: k.Context}, nil
	case k.SecretRef == nil && k.File != "":
		return reference{file: k.File, context: k.Context}, nil
	}
	return reference{}, errors.New("kubeConfig: want one of secretRef and file")
}

// read returns the text of a kubeconfig.
func (p *Pool) read(ctx context.Context, ref reference) ([]byte, error) {
	if ref.file != "" {
		b, err := os.ReadFile(ref.file)
		if err != nil {
			return nil, fmt.Errorf("read the kubeconfig: %w", err)
		}
		return b, nil
	}
	data, err := p.secret(ctx, ref.namespace, ref.secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("kubeConfig: secret %s/%s does not exist: %w", ref.namespace, ref.secret, err)
	case err != nil:
		return nil, fmt.Errorf("read the %s: %w", ref, err)
	}
	keys := []string{ref.key}
	if ref.key == "" {
		keys = []string{"value", "value.yaml"}
	}
	for _, k := range keys {
		if b := data[k]; len(b) > 0 {
			return b, nil
		}
	}
	if ref.key == "" {
		return nil, fmt.Errorf("kubeConfig: secret %s/%s has nothing under value or value.yaml; where the kubeconfig is under another key, name it in secretRef.key", ref.namespace, ref.secret)
	}
	return nil, fmt.Errorf("kubeConfig: secret %s/%s has nothing under %q", ref.namespace, ref.secret, ref.key)
}

// cluster returns what a kubeconfig leads to, built if it is new or has changed. The caller holds the lock.
func (p *Pool) cluster(ref reference, text []byte) (*cluster, error) {
	digest := sha256.Sum256(text)
	c, ok := p.clusters[ref]
	switch {
	case ok && c.digest == digest:
	case ref == reference{}:
		c = &cluster{digest: digest, clients: p.own, accounts: map[string]*account{}}
		p.clusters[ref] = c
	default:
		clients, err := connect(ref, text)
		if err != nil {
			return nil, err
		}
		if ok {
			c.close()
		}
		c = &cluster{digest: digest, clients: clients, accounts: map[string]*account{}}
		p.clusters[ref] = c
	}
	c.used = p.now()
	return c, nil
}

// get is the clients of a cluster, nil for none.
func (c *cluster) get() *Clients {
	if c == nil {
		return nil
	}
	return c.clients
}

// account returns the clients of an account.
func (c *cluster) account(now time.Time, namespace, name string) (*Clients, error) {
	user := "system:serviceaccount:" + namespace + ":" + name
	a, ok := c.accounts[user]
	if !ok {
		clients, err := c.clients.as(user)
		if err != nil {
			return nil, err
		}
		a = &account{clients: clients}
		c.accounts[user] = a
	}
	a.used = now
	return a.clients, nil
}

// sweep drops what nobody asked for in a long time. The caller holds the lock.
func (p *Pool) sweep() {
	now := p.now()
	if now.Sub(p.swept) < sweepEvery {
		return
	}
	p.swept = now
	for ref, c := range p.clusters {
		for user, a := range c.accounts {
			if now.Sub(a.used) > idleLimit {
				delete(c.accounts, user)
			}
		}
		if ref != (reference{}) && now.Sub(c.used) > idleLimit {
			c.close()
			delete(p.clusters, ref)
		}
	}
}

// close lets go of the idle connections. Requests under way end as they would.
func (c *cluster) close() { utilnet.CloseIdleConnectionsFor(c.clients.Config.Transport) }
