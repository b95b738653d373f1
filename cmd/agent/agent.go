package main

import (
	"context"
	"errors"
	"net"
	"os"
	"reflect"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/notify"
	"github.com/towline/towline/internal/poller"
	"github.com/towline/towline/internal/receiver"
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
	records   *memory
	poller    *poller.Poller
	receivers *receiver.Receivers
	scheduler *schedule.Scheduler
	notifier  *notify.Notifier
	inputs    *inputs.Watcher
	drift     *holder
	asked     *asked
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
	a.store = newStore(settings, secrets{clients.Kubernetes}, log)
	a.notifier = notify.New(notify.Options{
		Namespace: cfg.Namespace, Instance: instance(settings), Kubernetes: clients.Kubernetes,
		Secret: secrets{clients.Kubernetes}.Secret, Log: log.Named("notify"),
	})
	webhooks := func(tell func(deploy.Name, string, int64)) { a.receivers.Count(tell) }
	a.board = status.New(status.Options{Version: version, Namespace: cfg.Namespace, DroppedAlerts: a.notifier.Dropped, CacheUsage: a.store.Usage, Webhooks: webhooks})
	a.cache = newCacheKeeper(a.store, log)
	brings := newEngines(clients, cfg.Namespace, log)
	attempts := reconcile.New(map[deploy.Kind]reconcile.Engine{
		deploy.KindKustomization: brings.manifests,
		deploy.KindHelmRelease:   brings.releases,
	}, log)
	limits := schedule.Limits{Kustomizations: settings.Concurrency.Kustomizations, HelmReleases: settings.Concurrency.HelmReleases, Resync: settings.Resync, Grace: settings.ShutdownTimeout}
	a.records = &memory{
		Store: record.New(clients, cfg.Namespace), client: clients.Kubernetes, namespace: cfg.Namespace,
		reached: func() { a.board.SetReady(status.GateCluster, true) }, cache: a.cache, log: log,
		late: func() { a.poller.PokeAll() }, // their keys and credentials may be Secrets
	}
	a.drift = newHolder(brings, seen{a}, log)
	a.scheduler = schedule.New(runner{attempts, a.cache, a.drift}, a.records, outcomes{a.board, a.notifier}, limits, log)
	a.inputs = inputs.New(clients.Metadata, a.scheduler.Changed, log.Named("inputs"))
	a.asked = newAsked(a.scheduler)
	a.poller = poller.New(a.store, news{a.scheduler, a.board, a.cache, a.notifier, a.asked}, log.Named("poller"))
	a.receivers = receiver.New(receiver.Options{Poller: a.poller, Secret: secrets{clients.Kubernetes}.Secret, Log: log.Named("receiver")})
	a.adopt(cfg)
	return a, nil
}

// instance is how alerts name this agent: its cluster, else its machine.
func instance(settings config.Agent) string {
	if settings.ClusterName != "" {
		return settings.ClusterName
	}
	host, _ := os.Hostname() // unknown is empty
	return host
}

// connect builds the clients of the cluster that the settings name. No request is made.
func connect(settings config.Agent) (*kube.Clients, error) {
	cfg, err := kube.Load(settings.Kubeconfig, settings.Context)
	if err != nil {
		return nil, err
	}
	return kube.New(cfg)
}

// newStore is where artifacts come from. No request is made.
func newStore(settings config.Agent, secrets artifact.Secrets, log *zap.Logger) *artifact.Store {
	return artifact.New(artifact.Options{
		CacheDir: settings.CacheDir,
		Secrets:  secrets,
		Limits: artifact.Limits{
			Cache: settings.CacheSize, Compressed: settings.Limits.Compressed, Unpacked: settings.Limits.Unpacked, Files: settings.Limits.Files,
		},
		UserAgent: "towline/" + version,
		Log:       log,
	})
}

// news hands what the poller learns to those who need it.
type news struct {
	scheduler *schedule.Scheduler
	board     *status.Board
	cache     *cacheKeeper
	notifier  *notify.Notifier
	asked     *asked
}

func (n news) Revised(r deploy.Revision) {
	n.cache.revised(r)
	n.scheduler.Revised(r)
}

func (n news) Withdrawn(source deploy.Name) { n.scheduler.Unknown(source) }

func (n news) SourceState(s deploy.SourceState) {
	n.scheduler.SourceState(s)
	n.board.SourceState(s)
	n.notifier.SourceState(s)
	n.asked.polled(s.Name)
}

// seen hands what the drift watcher sees to the scheduler, which is made after it.
type seen struct{ of *agent }

func (s seen) Drifted(n deploy.Name, objects []deploy.ObjectID) {
	s.of.scheduler.Drifted(n, objects...)
}

func (s seen) Contested(n deploy.Name, list []deploy.Contest) { s.of.scheduler.Contested(n, list) }

// outcomes hands what the scheduler learns to those who tell others.
type outcomes struct {
	board    *status.Board
	notifier *notify.Notifier
}

func (o outcomes) TargetState(t deploy.TargetState) {
	o.board.TargetState(t)
	o.notifier.TargetState(t)
}

func (o outcomes) TargetGone(n deploy.Name) {
	o.board.TargetGone(n)
	o.notifier.TargetGone(n)
}

// sameArtifact reports whether two entries mean the same artifact, vouched for by the same, however and how often it is asked for.
func sameArtifact(a, b deploy.Source) bool {
	what := func(s deploy.SourceSpec) []any {
		return []any{s.URL, s.Ref, s.LayerSelector, s.Platform, s.Ignore, s.Verify}
	}
	return reflect.DeepEqual(what(a.Spec), what(b.Spec))
}

// adopt makes a good config the one in force. Entries that are equal to what runs are left alone by the rooms.
func (a *agent) adopt(cfg *config.Config) {
	wanted := make(map[deploy.Name]deploy.Source, len(cfg.Sources))
	for _, s := range cfg.Sources {
		wanted[s.Name] = s
	}
	var gone []deploy.Name
	if a.current != nil {
		for _, old := range a.current.Sources {
			s, stays := wanted[old.Name]
			if !stays {
				gone = append(gone, old.Name)
			}
			if !stays || !sameArtifact(s, old) {
				a.poller.Drop(old.Name)       // it may be about to tell what the old entry led to
				a.scheduler.Unknown(old.Name) // before the poller hears of the new one, whose first revision must stay
			}
		}
	}
	a.cache.set(wanted)
	a.notifier.Set(cfg.Sinks)
	for _, s := range cfg.Sources {
		if digest, ok := a.store.Remembered(s); ok {
			a.notifier.Known(s.Name, digest) // no news after a restart
		}
	}
	a.poller.Set(cfg.Sources)
	a.receivers.Set(cfg.Sources)
	for _, name := range gone {
		a.board.SourceGone(name) // after the poller's last word on it
		a.notifier.SourceGone(name)
	}
	a.current = cfg
	a.drift.Set(cfg.Targets) // before attempts may end
	a.scheduler.Set(cfg.Targets)
	a.inputs.Set(cfg.Targets)
	a.board.ConfigLoaded(cfg.Hash, len(cfg.Sources), len(cfg.Targets), time.Now())
	a.notifier.ConfigLoaded()
}

// run works until ctx ends. The status stays up while the others finish what they must not cut short.
func (a *agent) run(ctx context.Context, signals *signals) error {
	webhooks, err := openReceivers(ctx, a.settings.ListenReceivers)
	if err != nil {
		return err
	}
	if webhooks != nil {
		defer webhooks.Close() // once more does no harm
	}
	a.missReceivers(a.current)
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	server := make(chan error, 1)
	const mostListeners = 2 // address and socket
	listening := make(chan net.Addr, mostListeners)
	reloads := make(chan reloadRequest)
	go func() {
		server <- a.board.Serve(serving, status.Listen{
			Address:   a.settings.Listen,
			Socket:    a.settings.Socket,
			Controls:  controls{a, reloads},
			Log:       a.log.Named("status"),
			Listening: func(at net.Addr) { listening <- at },
		})
	}()
	// An agent whose socket is another agent's must not touch the cluster, so nothing else starts before the listeners do.
	for _, wanted := range []string{a.settings.Listen, a.settings.Socket} {
		if wanted == "" {
			continue
		}
		select {
		case <-listening:
		case err := <-server:
			return err
		}
	}

	telling, stopTelling := context.WithCancel(serving)
	defer stopTelling()
	told := make(chan error, 1)
	go func() { told <- a.notifier.Run(telling) }()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.poller.Run(ctx) })
	group.Go(func() error { return a.scheduler.Run(ctx) })
	group.Go(func() error { return a.inputs.Run(ctx) })
	group.Go(func() error { return a.drift.Run(ctx) })
	group.Go(func() error { return a.cache.run(ctx) })
	if webhooks != nil {
		group.Go(func() error { return a.receivers.Run(ctx, webhooks) })
	}
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
	err = group.Wait()
	signals.notifyStopping()
	stopTelling() // after what was let finish has said how it ended
	err = errors.Join(ignoreCancel(err), ignoreCancel(<-told))
	stopServing()
	err = errors.Join(err, <-server)
	a.log.Info("agent stopped", zap.Error(err))
	return err
}

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
