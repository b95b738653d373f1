package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// supervisor is one cluster while it runs. All of it belongs to the main goroutine.
type supervisor struct {
	opts    options
	stderr  io.Writer
	started time.Time
	ports   ports
	keys    *pki

	processes   []*process    // in the order of their start
	died        chan *process // has room for all, so that no sender ever waits
	kubelet     chan error    // receives once: how the simulated kubelet ended; nil when there is none
	stopKubelet context.CancelFunc
}

// runCluster starts everything, writes the kubeconfig, and waits for ctx to end, then stops in reverse order and returns nil. It returns an error as
// soon as anything fails to start or ends by itself; everything else is stopped by then as well.
func runCluster(ctx context.Context, opts options, stderr io.Writer) (err error) {
	if opts.quiet {
		stderr = io.Discard
	}
	s := &supervisor{opts: opts, stderr: stderr, started: time.Now(), died: make(chan *process, len(components)), stopKubelet: func() {}}
	unlock, err := s.prepare()
	if err != nil {
		return err
	}
	defer unlock()
	defer s.stop()

	starting, cancel := context.WithTimeoutCause(ctx, opts.timeout, fmt.Errorf("not usable after %s; the logs are in %s", opts.timeout, s.path("logs")))
	defer cancel()
	if err := s.start(starting); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while starting
		}
		return err
	}
	s.progress("usable: export KUBECONFIG=%s", s.path("kubeconfig"))
	select {
	case <-ctx.Done():
		s.progress("stopping")
		return nil
	case p := <-s.died:
		return p.failure()
	case err := <-s.kubelet:
		return fmt.Errorf("the simulated kubelet ended: %w", err)
	}
}

func (s *supervisor) path(elements ...string) string {
	return filepath.Join(append([]string{s.opts.dir}, elements...)...)
}

func (s *supervisor) progress(format string, args ...any) {
	fmt.Fprintf(s.stderr, "cluster: %5.1fs %s\n", time.Since(s.started).Seconds(), fmt.Sprintf(format, args...))
}

// prepare makes the directory ours and empty of what an earlier cluster left in it. Every cluster is a fresh one.
func (s *supervisor) prepare() (unlock func(), err error) {
	if err := os.MkdirAll(s.opts.dir, 0o700); err != nil {
		return nil, fmt.Errorf("create --dir: %w", err)
	}
	lock, err := os.OpenFile(s.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock --dir: %w", err)
	}
	unlock = func() { _ = lock.Close() } // the kernel releases the lock with the file
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unlock()
		return nil, fmt.Errorf("lock --dir: another cluster runs in %s: %w", s.opts.dir, err)
	}
	if err := s.clear(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func (s *supervisor) clear() error {
	for _, name := range []string{"kubeconfig", "etcd", "pki", "logs", "audit.log", "audit-policy.yaml"} {
		if err := os.RemoveAll(s.path(name)); err != nil {
			return fmt.Errorf("remove what an earlier cluster left: %w", err)
		}
	}
	for _, name := range []string{"etcd", "pki", "logs"} {
		if err := os.Mkdir(s.path(name), 0o700); err != nil {
			return fmt.Errorf("prepare --dir: %w", err)
		}
	}
	return nil
}

// start brings everything up, in the order of dependence, and writes the kubeconfig last.
func (s *supervisor) start(ctx context.Context) error {
	var err error
	if s.keys, err = newPKI(s.path("pki")); err != nil {
		return fmt.Errorf("make the certificates: %w", err)
	}
	if s.ports, err = reservePorts(); err != nil {
		return err
	}
	if err := s.startAPIServer(ctx); err != nil {
		return err
	}
	if !s.opts.onlyAPIServer {
		if err := s.startControllers(ctx); err != nil {
			return err
		}
	}
	content, err := kubeconfig(s.ports.apiServer, s.keys, s.keys.admin)
	if err != nil {
		return err
	}
	return writeAtomically(s.path("kubeconfig"), content)
}

func (s *supervisor) startAPIServer(ctx context.Context) error {
	if err := s.run(etcdName, etcdArgs(s.path("etcd"), s.ports)); err != nil {
		return err
	}
	args, err := apiServerArgs(s.opts, s.ports, s.keys)
	if err != nil {
		return err
	}
	probe, err := newProber(s.keys)
	if err != nil {
		return err
	}
	if err := s.await(ctx, "etcd is healthy", probe.http("http://"+s.ports.etcdClient.host()+"/health")); err != nil {
		return err
	}
	if err := s.run(apiServerName, args); err != nil {
		return err
	}
	return s.await(ctx, "kube-apiserver is ready", probe.http("https://"+s.ports.apiServer.host()+"/readyz"))
}

func (s *supervisor) startControllers(ctx context.Context) error {
	for _, c := range []struct {
		name     string
		identity keyPair
		args     func(kubeconfig string) []string
	}{
		{controllerManagerName, s.keys.controllers, func(k string) []string { return controllerManagerArgs(s.ports, s.keys, k) }},
		{schedulerName, s.keys.scheduler, func(k string) []string { return schedulerArgs(s.ports, s.keys, k) }},
	} {
		content, err := kubeconfig(s.ports.apiServer, s.keys, c.identity)
		if err != nil {
			return err
		}
		file := s.keys.path(c.name + ".kubeconfig")
		if err := writeAtomically(file, content); err != nil {
			return err
		}
		if err := s.run(c.name, c.args(file)); err != nil {
			return err
		}
	}
	if err := s.startKubelet(); err != nil {
		return err
	}
	probe, err := newProber(s.keys)
	if err != nil {
		return err
	}
	usable, err := newUsability(s.ports.apiServer, s.keys, s.opts.nodes)
	if err != nil {
		return err
	}
	for _, stage := range []struct {
		what  string
		probe func(context.Context) error
	}{
		{"kube-controller-manager is healthy", probe.http("https://" + s.ports.controllers.host() + "/healthz")},
		{"kube-scheduler is ready", probe.http("https://" + s.ports.scheduler.host() + "/readyz")},
		{"the default ServiceAccount exists", usable.defaultServiceAccount},
		{"all nodes are ready", usable.nodes},
	} {
		if err := s.await(ctx, stage.what, stage.probe); err != nil {
			return err
		}
	}
	return nil
}

func (s *supervisor) run(name string, args []string) error {
	p, err := startProcess(name, s.opts.dir, args, s.died)
	if err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	return nil
}

// startKubelet runs the simulated kubelet in this process: unlike the upstream commands it has no global state, and it saves a process.
func (s *supervisor) startKubelet() error {
	log, err := os.Create(s.path("logs", kubeletName+".log"))
	if err != nil {
		return fmt.Errorf("start the simulated kubelet: %w", err)
	}
	k, err := newKubelet(restConfig(s.ports.apiServer, s.keys, s.keys.kubelet, "towline-simulated-kubelet"), s.opts.nodes, log)
	if err != nil {
		log.Close()
		return fmt.Errorf("start the simulated kubelet: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stopKubelet = cancel
	s.kubelet = make(chan error, 1)
	go func() {
		defer log.Close()
		s.kubelet <- k.run(ctx)
	}()
	return nil
}

// pollInterval is the pause between two probes: short against the seconds that a start takes, long enough to leave the processor to it.
const pollInterval = 50 * time.Millisecond

// await repeats the probe until it succeeds. It fails when the context ends, or when a component ends.
func (s *supervisor) await(ctx context.Context, what string, probe func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		last := probe(ctx)
		if last == nil {
			s.progress("%s", what)
			return nil
		}
		select {
		case <-ticker.C:
		case p := <-s.died:
			return p.failure()
		case err := <-s.kubelet:
			return fmt.Errorf("the simulated kubelet ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, errors.Join(context.Cause(ctx), last))
		}
	}
}

// stop ends everything that runs, clients of the API first and etcd last.
func (s *supervisor) stop() {
	s.stopKubelet()
	for i := len(s.processes) - 1; i >= 0; i-- {
		s.processes[i].stop()
	}
}
