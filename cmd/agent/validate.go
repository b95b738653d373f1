package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
)

func newValidate() *cobra.Command {
	return &cobra.Command{
		Use:     "validate [PATH]",
		GroupID: groupConfig,
		Short:   "Check a config and list every problem in it",
		Long: "Check a config file or folder and list every problem with file, line and what to do.\n" +
			"Default: $TOWLINE_CONFIG, else /etc/towline/config.yaml, as the agent itself.\n" +
			"Neither a registry nor a cluster is asked. Exit code 0: it is valid; 1: it is not.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("%s takes at most one path, got %d", c.CommandPath(), len(args))}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var path string
			if len(args) == 1 {
				path = args[0]
			} else {
				// Nothing but the path counts here: Load says what is wrong with the settings in the file, and those of the environment are none of a config.
				settings, _ := config.LoadAgent(nil)
				path = settings.Config
			}
			cfg, err := config.Load(path)
			if err != nil {
				fmt.Fprintln(c.ErrOrStderr(), err)
				return errSilent
			}
			count := map[deploy.Kind]int{}
			for _, t := range cfg.Targets {
				count[t.Name.Kind]++
			}
			alerts := ""
			if n := len(cfg.Sinks); n > 0 {
				alerts = ", " + plural(n, "alert")
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is valid: %s, %s, %s%s\n", path,
				plural(len(cfg.Sources), "source"), plural(count[deploy.KindKustomization], "kustomization"), plural(count[deploy.KindHelmRelease], "helmRelease"), alerts)
			return err
		},
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		GroupID: groupConfig,
		Short:   "Print the JSON Schema of the config",
		Long: "Print the JSON Schema of the config, for editors: with\n\n    # yaml-language-server: $schema=towline.schema.json\n\n" +
			"as the first line of a config an editor completes and checks it.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			b, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(b)
			return err
		},
	}
}
