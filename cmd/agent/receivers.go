package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/receiver"
)

// openReceivers listens where receivers are served; nil where they are not.
func openReceivers(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for webhooks on %s (listenReceivers): %w", address, err)
	}
	return ln, nil
}

// missReceivers warns of receivers that nobody can reach.
func (a *agent) missReceivers(cfg *config.Config) {
	if a.settings.ListenReceivers != "" {
		return
	}
	if names := withReceiver(cfg); len(names) > 0 {
		a.log.Warn("sources have receivers, and nothing listens for their webhooks", zap.Strings("sources", names),
			zap.String("do", "set --listen-receivers, TOWLINE_LISTEN_RECEIVERS or listenReceivers in the agent section to host:port, such as :9292, and restart"))
	}
}

// withReceiver names the sources that have a receiver.
func withReceiver(cfg *config.Config) []string {
	var names []string
	for _, s := range cfg.Sources {
		if s.Spec.Receiver != nil {
			names = append(names, s.Name.Short(cfg.Namespace))
		}
	}
	return names
}

func newReceiver() *cobra.Command {
	c := &cobra.Command{
		Use:     "receiver SOURCE",
		GroupID: groupConfig,
		Short:   "Print the path of a source's receiver",
		Long: "Print the path that webhooks of a source are sent to, at the address of listenReceivers. It is made from the token of the receiver, so it is a secret too:\n" +
			"for most types it is all that a webhook needs. SOURCE is source/NAME, or source/NAMESPACE/NAME where the entry has a namespace of its own.\n\n" +
			"The config and the token are read here and now; the cluster is only asked where the token is in a Secret.",
		Example:           "  curl -X POST http://127.0.0.1:9292$(towline receiver source/podinfo)",
		Args:              exactlyOne("source"),
		ValidArgsFunction: completeReceivers,
		RunE: func(c *cobra.Command, args []string) error {
			settings, err := config.LoadAgent(c.Flags())
			if err != nil {
				return err
			}
			cfg, err := loadConfig(settings.Config)
			if err != nil {
				return err
			}
			source, err := findReceiver(cfg, args[0])
			if err != nil {
				return err
			}
			var read receiver.ReadSecret
			if source.Spec.Receiver.SecretRef != nil {
				clients, err := connect(settings)
				if err != nil {
					return err
				}
				read = secrets{clients.Kubernetes}.Secret
			}
			token, err := receiver.Token(c.Context(), source, read)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), receiver.Path(token, source.Name))
			return err
		},
	}
	config.AddFlags(c.Flags(), "config", "kubeconfig", "context")
	return c
}

// findReceiver finds a source that has a receiver.
func findReceiver(cfg *config.Config, arg string) (deploy.Source, error) {
	name, err := deploy.ParseName(arg, deploy.KindSource, cfg.Namespace)
	if err == nil && name.Kind != deploy.KindSource {
		err = errors.New("only a source has a receiver: name it source/NAME")
	}
	if err != nil {
		return deploy.Source{}, usageError{err}
	}
	i := slices.IndexFunc(cfg.Sources, func(s deploy.Source) bool { return s.Name == name && s.Spec.Receiver != nil })
	if i >= 0 {
		return cfg.Sources[i], nil
	}
	known := strings.Join(withReceiver(cfg), ", ")
	if known == "" {
		known = "none"
	}
	return deploy.Source{}, fmt.Errorf("the config has no %s with a receiver; those that have one: %s", name.Short(cfg.Namespace), known)
}

// completeReceivers completes the names of the sources that have a receiver.
func completeReceivers(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	settings, err := config.LoadAgent(c.Flags())
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cfg, err := loadConfig(settings.Config)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return withReceiver(cfg), cobra.ShellCompDirectiveNoFileComp
}
