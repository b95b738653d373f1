package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/status"
)

// connection is how a command reaches the running agent.
type connection struct {
	flags   *pflag.FlagSet
	address string
}

func (n *connection) add(f *pflag.FlagSet) {
	n.flags = f
	config.AddFlags(f, "config", "socket")
	f.StringVar(&n.address, "address", os.Getenv("TOWLINE_ADDRESS"), "`host:port` of the running agent's status server, instead of the socket; commands that act need the socket [TOWLINE_ADDRESS]")
}

// client finds the socket as the agent itself does, so that both agree without a flag.
func (n *connection) client() (*status.Client, error) {
	at := n.address
	if at == "" {
		settings, err := config.LoadAgent(n.flags)
		if settings.Socket == "" {
			return nil, errors.Join(errors.New("the agent has no socket: pass --address"), err)
		}
		at = settings.Socket // a mistake elsewhere in the config does not keep us from asking the agent that runs
	}
	c, err := status.NewClient(at)
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

func newStatus() *cobra.Command {
	var (
		at       connection
		output   outputFlag
		watch    bool
		exitCode bool
	)
	c := &cobra.Command{
		Use:     "status",
		GroupID: groupLook,
		Short:   "Show the sources and targets of the running agent",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			if watch {
				return watchStatus(c.Context(), client, c.OutOrStdout(), output)
			}
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			if err := writeStatus(c.OutOrStdout(), s, output); err != nil {
				return err
			}
			if exitCode && !allReady(s) {
				return errSilent
			}
			return nil
		},
	}
	at.add(c.Flags())
	output.add(c)
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing it when something changes")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 1 unless every source and target is Ready or suspended")
	return c
}

// allReady reports whether everything is as the config wants it.
func allReady(s status.Status) bool {
	if s.Config.Error != "" || !s.Ready {
		return false
	}
	for _, src := range s.Sources {
		if !src.Suspended && (!src.Ready || src.Failures > 0) {
			return false
		}
	}
	for _, t := range s.Targets {
		if t.Phase != deploy.PhaseReady && t.Phase != deploy.PhaseSuspended {
			return false
		}
	}
	return true
}

func writeStatus(w io.Writer, s status.Status, output outputFlag) error {
	return output.write(w, s, func(w io.Writer) error {
		if s.Config.Error != "" {
			if _, err := fmt.Fprintf(w, "The newest config was refused %s ago, the one before stays in force:\n%s\n\n", ago(s.Config.FailedAt), s.Config.Error); err != nil {
				return err
			}
		}
		if err := writeSources(w, s.Sources, s.Namespace); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		return writeTargets(w, s.Targets, s.Namespace)
	})
}

// watchStatus prints the status whenever it changes, until ctx ends.
func watchStatus(ctx context.Context, client *status.Client, w io.Writer, output outputFlag) error {
	first := true
	err := client.Watch(ctx, func(s status.Status) error {
		if !first && output == "table" {
			if _, err := fmt.Fprintf(w, "\n--- %s\n", s.At.Local().Format("15:04:05")); err != nil {
				return err
			}
		}
		first = false
		return writeStatus(w, s, output)
	})
	return ignoreCancel(err)
}

func newReconcile() *cobra.Command {
	var (
		at  connection
		how status.Haste
	)
	c := &cobra.Command{
		Use:     "reconcile NAME",
		GroupID: groupLook,
		Short:   "Run a target, or poll a source, now",
		Long: "Run a target or poll a source now, without waiting for its interval or for the end of a backoff. NAME is kustomization/NAME, helmrelease/NAME or\n" +
			"source/NAME; kind/NAMESPACE/NAME where the entry has a namespace of its own. With --force what is held back until there is news is tried again: a revision\n" +
			"that is quarantined since it failed, or a release whose retries are used up or that was rolled back by hand.",
		Args: exactlyOne("name"),
		RunE: func(c *cobra.Command, args []string) error {
			client, name, err := at.named(c.Context(), args[0])
			if err != nil {
				return err
			}
			if name.Kind == deploy.KindSource && how != (status.Haste{}) {
				return usageError{errors.New("--with-source and --force are for targets: a source is only polled")}
			}
			if err := client.Reconcile(c.Context(), name, how); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is under way (towline explain %s shows how it goes)\n", args[0], args[0])
			return err
		},
	}
	at.add(c.Flags())
	c.Flags().BoolVar(&how.WithSource, "with-source", false, "poll the target's source first")
	c.Flags().BoolVar(&how.Force, "force", false, "also try again what is held back since it failed or was rolled back")
	return c
}

func newReload() *cobra.Command {
	var at connection
	c := &cobra.Command{
		Use:     "reload",
		GroupID: groupLook,
		Short:   "Let the running agent read its config again",
		Long:    "Let the running agent read its config again and say what is wrong with it. It also does so by itself when the files change.",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := at.client()
			if err != nil {
				return err
			}
			if err := client.Reload(c.Context()); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "config read again")
			return err
		},
	}
	at.add(c.Flags())
	return c
}

// named parses a name in the namespace of the running agent.
func (n *connection) named(ctx context.Context, arg string) (*status.Client, deploy.Name, error) {
	if _, err := deploy.ParseName(arg, "", ""); err != nil {
		return nil, deploy.Name{}, usageError{err}
	}
	client, err := n.client()
	if err != nil {
		return nil, deploy.Name{}, err
	}
	s, err := client.Status(ctx)
	if err != nil {
		return nil, deploy.Name{}, err
	}
	name, err := deploy.ParseName(arg, "", s.Namespace)
	return client, name, err
}
