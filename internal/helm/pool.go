package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/kubectl/pkg/validation"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	helmkube "helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

// capabilitiesAge is for how long what templates see as .Capabilities is believed. Left to itself, the SDK reads it anew at every action and throws the whole process's
// discovery cache away to do so.
const capabilitiesAge = 30 * time.Second

// pool makes the parts of an operation from what the process shares. The SDK's action.Configuration is not safe to share, and cheap to make.
type pool struct {
	clients *kube.Clients
	used    time.Time // guarded by the engine

	// mu guards caps and read, and lets one operation at a time read capabilities.
	mu   sync.Mutex
	caps *chartutil.Capabilities
	read time.Time
}

func newPool(c *kube.Clients) *pool { return &pool{clients: c} }

// operation is one install, upgrade or uninstall: everything that works for it, and that ends with its context.
type operation struct {
	// ctx is here because the SDK has no place for one: it works on context.Background() and would go on after a cancel.
	ctx      context.Context
	pool     *pool
	place    place
	timeout  time.Duration
	cfg      *action.Configuration
	kube     *client
	secrets  *secretCache
	dynamic  dynamic.Interface
	log      *zap.Logger
	progress deploy.Progress
	// stamp is what new revisions are labelled with.
	stamp map[string]string
	// patch runs postRenderers; secret are the values that came from Secrets and files.
	patch  Patcher
	secret []string
	// hide is masked's last answer, and hideKnows how many names and records it was made of.
	hide      *mask
	hideKnows [2]int
	// hooks are all those of the release while its tests run.
	hooks []*release.Hook
	// kinds of the objects that a look for drift compared.
	kinds deploy.ObjectKinds
}

// operation makes the parts. Every request of them ends when ctx does, and none starts afterwards.
func (p *pool) operation(ctx context.Context, at place, timeout time.Duration, values deploy.Values, log *zap.Logger, progress deploy.Progress) (*operation, error) {
	bound, err := p.clients.Bound(ctx)
	if err != nil {
		return nil, err
	}
	set, ok := bound.Kubernetes.(*kubernetes.Clientset)
	if !ok {
		return nil, fmt.Errorf("the shared Kubernetes client is a %T, the Helm SDK wants a *kubernetes.Clientset", bound.Kubernetes)
	}
	op := &operation{ctx: ctx, pool: p, place: at, timeout: timeout, dynamic: bound.Dynamic, log: log, progress: progress}
	debug := func(format string, v ...any) {
		if log.Core().Enabled(zap.DebugLevel) {
			log.Debug("helm sdk", zap.String("message", op.hiding(values).text(fmt.Sprintf(format, v...))))
		}
	}
	g := &getter{clients: bound, set: set, namespace: at.namespace}
	op.secrets = &secretCache{SecretInterface: set.CoreV1().Secrets(at.storage), release: at.name}
	op.kube = &client{
		Client:   &helmkube.Client{Factory: g, Log: debug, Namespace: at.namespace},
		ctx:      ctx,
		set:      set,
		dynamic:  bound.Dynamic,
		deadline: time.Now().Add(timeout),
		place:    at,
		progress: progress,
		log:      debug,
	}
	op.cfg = &action.Configuration{
		RESTClientGetter: g,
		KubeClient:       op.kube,
		Releases:         storage.Init(newRecords(op)),
		Log:              debug,
		HookOutputFunc:   func(_, _, _ string) io.Writer { return io.Discard },
	}
	return op, nil
}

// masked is what hides the target's values in what the operation says. It is made anew where more is known by now.
func (op *operation) masked(t deploy.Target) mask {
	if known := [2]int{len(op.kube.named), op.secrets.count()}; op.hide == nil || op.hideKnows != known {
		m := op.hiding(t.HelmRelease.Values, append(op.kube.named, op.place.name, op.place.namespace, op.place.storage)...)
		op.hide, op.hideKnows = &m, known
	}
	return *op.hide
}

// hiding is the mask of values and of those on record: an uninstallation does not know what came from valuesFrom, and a rollback sends what was wanted once. The records that the operation
// has read are decoded for it, since it is only made for errors and at debug level.
func (op *operation) hiding(v deploy.Values, public ...string) mask {
	paths := map[string]string{}
	collectValues(v, paths)
	for _, name := range op.secrets.names() {
		if rel, err := op.cfg.Releases.Driver.Get(name); err == nil && rel != nil {
			collect(rel.Config, "", paths)
		}
	}
	return maskFor(paths, public)
}

// capabilities reads what the server can do, at most once per capabilitiesAge unless fresh is asked for.
func (p *pool) capabilities(fresh bool) (*chartutil.Capabilities, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !fresh && p.caps != nil && time.Since(p.read) < capabilitiesAge {
		return p.caps, nil
	}
	if fresh || p.caps != nil {
		p.clients.Mapper.Reset()
	}
	version, err := p.clients.Discovery.ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("read the server's version: %w", err)
	}
	apis, err := action.GetVersionSet(p.clients.Discovery)
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, fmt.Errorf("read the server's API versions: %w", err)
	}
	p.caps = &chartutil.Capabilities{
		APIVersions: apis,
		KubeVersion: chartutil.KubeVersion{Version: version.GitVersion, Major: version.Major, Minor: version.Minor},
		HelmVersion: chartutil.DefaultCapabilities.HelmVersion,
	}
	p.read = time.Now()
	return p.caps, nil
}

// getter hands the bound clients to the SDK in the two shapes that it knows: RESTClientGetter and kube.Factory.
type getter struct {
	clients   *kube.Clients
	set       *kubernetes.Clientset
	namespace string
}

var (
	_ action.RESTClientGetter   = (*getter)(nil)
	_ helmkube.Factory          = (*getter)(nil)
	_ resource.RESTClientGetter = (*getter)(nil)
)

func (g *getter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.clients.Config), nil }

func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.clients.Discovery, nil
}

func (g *getter) ToRESTMapper() (meta.RESTMapper, error) { return g.clients.Mapper, nil }

func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	o := &clientcmd.ConfigOverrides{}
	o.Context.Namespace = g.namespace
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), o)
}

func (g *getter) DynamicClient() (dynamic.Interface, error)           { return g.clients.Dynamic, nil }
func (g *getter) KubernetesClientSet() (*kubernetes.Clientset, error) { return g.set, nil }
func (g *getter) NewBuilder() *resource.Builder                       { return resource.NewBuilder(g) }
func (g *getter) Validator(string) (validation.Schema, error) {
	return validation.NullSchema{}, nil // the server validates: no download of its OpenAPI document per action, 25 MB each
}

// errUnexpected keeps a nil dereference of the SDK from looking like success.
var errUnexpected = errors.New("the Helm SDK returned neither a release nor an error")
