package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/notify"
)

func newRun() *cobra.Command {
	var once bool
	c := &cobra.Command{
		Use:     "run",
		GroupID: groupAgent,
		Short:   "Run the agent",
		Long: "Run the agent until it is told to stop (SIGTERM, Ctrl-C); a second signal ends it at once. The config is read again when it changes and on SIGHUP.\n\n" +
			"With --once every source is polled and every target brought to its state one time; the exit code is 0 if all of them are Ready.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := config.LoadAgent(c.Flags())
			if err != nil {
				return err
			}
			log, err := newLogger(settings.LogLevel, settings.LogFormat)
			if err != nil {
				return usageError{err}
			}
			defer func() { _ = log.Sync() }() // stderr cannot always be synced, and there is nowhere to say so
			cfg, err := loadConfig(settings.Config)
			if err != nil {
				return err
			}
			a, err := newAgent(settings, cfg, log)
			if err != nil {
				return err
			}
			limitHeap()
			notify.BoundServices()
			if once {
				return a.once(c.Context(), c.OutOrStdout())
			}
			s := newSignals()
			defer s.stop()
			return a.run(c.Context(), s)
		},
	}
	config.AddFlags(c.Flags())
	c.Flags().BoolVar(&once, "once", false, "bring every target to its state one time and exit")
	return c
}

// loadConfig is config.Load with a word of what to do for somebody who just began.
func loadConfig(path string) (*config.Config, error) {
	cfg, err := config.Load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no config at %s: say where it is with --config PATH or TOWLINE_CONFIG", path)
	case err != nil:
		return nil, fmt.Errorf("the config is not valid:\n%w", err)
	}
	return cfg, nil
}

// heapGrowth is GOGC: half of Go's default, since memory is what an agent that mostly waits is asked to save, and it has the time.
const heapGrowth = 50

// limitHeap sets heapGrowth, unless the environment says otherwise.
func limitHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}

// clusterPatience is how long run --once tries to reach the API server and to read its records there: long enough for one that restarts, short enough for a pipeline to hear of it.
const clusterPatience = time.Minute

// reachCluster returns when the records could be read, or with what kept them from it.
func (a *agent) reachCluster(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	for tries := 0; ; tries++ {
		_, err := a.records.Load(ctx)
		if err == nil || partial(err) {
			return nil
		}
		if tries == 0 {
			a.log.Warn("cluster not reached yet, trying on", zap.Duration("for", clusterPatience), zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster was not reached: %w", err)
		case <-time.After(time.Second):
		}
	}
}

// once polls every source and lets every target settle. What failed is told in the table; errSilent then is the exit code.
func (a *agent) once(ctx context.Context, out io.Writer) error {
	if err := a.reachCluster(ctx); err != nil {
		return fmt.Errorf("run once: %w", err)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	telling, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTelling()
	scheduler, notifier := make(chan error, 1), make(chan error, 1)
	go func() { scheduler <- a.scheduler.Run(running) }()
	go func() { notifier <- a.notifier.Run(telling) }()
	failedPolls := a.poller.PollOnce(ctx)
	targets, err := a.scheduler.Settle(ctx)
	stop()
	runErr := ignoreCancel(<-scheduler)
	stopTelling() // after the scheduler's last word
	runErr = errors.Join(runErr, ignoreCancel(<-notifier))
	if err == nil {
		err = runErr
	}
	if err != nil {
		return fmt.Errorf("run once: %w", err)
	}
	if err := writeTargets(out, targets, a.namespace); err != nil {
		return err
	}
	if failedPolls != nil { // a target may be Ready all the same, at the revision before
		return failedPolls
	}
	for _, t := range targets {
		if t.Phase != deploy.PhaseReady && t.Phase != deploy.PhaseSuspended {
			return errSilent
		}
	}
	return nil
}
