package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/applier"
	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/helm"
	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/poller"
	"github.com/towline/towline/internal/reconcile"
	"github.com/towline/towline/internal/record"
	"github.com/towline/towline/internal/schedule"
	"github.com/towline/towline/internal/status"
)

// agent is every room with what it needs: the only place where the concrete types meet.
type agent struct {
	settings  config.Agent
	log       *zap.Logger
	clients   *kube.Clients
	board     *status.Board
	store     *artifact.Store
	cache     *cacheKeeper
	poller    *poller.Poller
	scheduler *schedule.Scheduler
	namespace string         // of the agent's state; fixed at start
	current   *config.Config // in force; owned by the goroutine that reloads
}

// newAgent builds the rooms for a config and hands the config to them. No request is made.
func newAgent(settings config.Agent, cfg *config.Config, log *zap.Logger) (*agent, error) {
	clients, err := connect(settings)
	if err != nil {
		return nil, err
	}
	a := &agent{settings: settings, log: log, clients: clients, namespace: cfg.Namespace}
	a.board = status.New(status.Options{Version: version, Namespace: cfg.Namespace})
	a.store = artifact.New(artifact.Options{
		CacheDir:    settings.CacheDir,
		Credentials: pullSecrets{clients.Kubernetes}.keychain,
		UserAgent:   "towline/" + version,
		Log:         log,
	})
	a.cache = newCacheKeeper(a.store, log)
	manifests := applier.New(applier.Options{
		Clients:   clients,
		Builder:   build.Builder{},
		Namespace: cfg.Namespace,
		Log:       log,
	})
	releases := helm.New(helm.Options{Clients: clients, Log: log})
	runner := reconcile.New(map[deploy.Kind]reconcile.Engine{
		deploy.KindKustomization: manifests,
		deploy.KindHelmRelease:   releases,
	}, log)
	limits := schedule.Limits{Kustomizations: settings.Concurrency.Kustomizations, HelmReleases: settings.Concurrency.HelmReleases, Grace: settings.ShutdownTimeout}
	a.scheduler = schedule.New(runner, record.New(clients, cfg.Namespace), a.board, limits, log)
	a.poller = poller.New(a.store, news{a.scheduler, a.board, a.cache}, log.Named("poller"))
	a.adopt(cfg)
	return a, nil
}

// connect builds the clients of the cluster that the settings name. No request is made.
func connect(settings config.Agent) (*kube.Clients, error) {
	cfg, err := kube.Load(settings.Kubeconfig, settings.Context)
	if err != nil {
		return nil, err
	}
	return kube.New(cfg)
}

// news hands what the poller learns to those who need it.
type news struct {
	scheduler *schedule.Scheduler
	board     *status.Board
	cache     *cacheKeeper
}

func (n news) Revised(r deploy.Revision) {
	n.cache.revised(r)
	n.scheduler.Revised(r)
}

func (n news) SourceState(s deploy.SourceState) {
	n.scheduler.SourceState(s)
	n.board.SourceState(s)
}

// adopt makes a good config the one in force. Entries that are equal to what runs are left alone by the rooms.
func (a *agent) adopt(cfg *config.Config) {
	a.cache.set(cfg.Sources)
	a.poller.Set(cfg.Sources)
	if a.current != nil {
		for _, old := range a.current.Sources {
			if !slices.ContainsFunc(cfg.Sources, func(s deploy.Source) bool { return s.Name == old.Name }) {
				a.board.SourceGone(old.Name)
			}
		}
	}
	a.current = cfg
	a.scheduler.Set(cfg.Targets)
	a.board.ConfigLoaded(cfg.Hash, len(cfg.Sources), len(cfg.Targets), time.Now())
}

// run works until ctx ends. The status stays up while the others finish what they must not cut short.
func (a *agent) run(ctx context.Context, signals *signals) error {
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	server := make(chan error, 1)
	reloads := make(chan reloadRequest)
	go func() {
		server <- a.board.Serve(serving, status.Listen{
			Address:  a.settings.Listen,
			Socket:   a.settings.Socket,
			Controls: controls{a, reloads},
			Log:      a.log.Named("status"),
			Listening: func(at net.Addr) {
				a.log.Info("serving status", zap.String("network", at.Network()), zap.String("address", at.String()))
			},
		})
	}()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.poller.Run(ctx) })
	group.Go(func() error {
		if err := a.awaitCluster(ctx); err != nil {
			return err
		}
		return a.scheduler.Run(ctx)
	})
	group.Go(func() error { return a.cache.run(ctx) })
	group.Go(func() error { return a.reloadLoop(ctx, reloads, signals) })
	group.Go(func() error { return signals.watchdog(ctx) })
	group.Go(func() error { // a server that cannot listen ends the agent; at a normal end it is the last to go
		select {
		case err := <-server:
			server <- nil // said here; nobody need say it again
			return err
		case <-ctx.Done():
			return nil
		}
	})
	signals.notifyReady()
	a.log.Info("agent started", zap.String("version", version), zap.String("namespace", a.namespace), zap.String("cluster", a.clients.Config.Host))
	err := group.Wait()
	signals.notifyStopping()
	stopServing()
	err = errors.Join(ignoreCancel(err), <-server)
	a.log.Info("agent stopped", zap.Error(err))
	return err
}

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// awaitCluster returns when the API server has answered and the agent's namespace is there. It tries for as long as it takes.
func (a *agent) awaitCluster(ctx context.Context) error {
	const most = 15 * time.Second // between tries: soon enough when the API server comes up late, gentle enough when it stays away
	wait := 250 * time.Millisecond
	for tries := 0; ; tries++ {
		err := ensureNamespace(ctx, a.clients, a.namespace)
		if err == nil {
			a.board.SetReady(status.GateCluster, true)
			if tries > 0 {
				a.log.Info("cluster reached", zap.Int("tries", tries+1))
			}
			return nil
		}
		if tries == 0 && ctx.Err() == nil {
			a.log.Warn("cluster not reached yet, trying on", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, most)
	}
}

// ensureNamespace creates the namespace of the agent's state where it is missing. An account that may not look at namespaces is trusted to have it.
func ensureNamespace(ctx context.Context, clients *kube.Clients, name string) error {
	namespaces := clients.Kubernetes.CoreV1().Namespaces()
	_, err := namespaces.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{FieldManager: deploy.FieldManager})
	}
	if apierrors.IsForbidden(err) || apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	return nil
}
