package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/fatih/color"
	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

// inspector is what an engine can tell without changing anything. Both are one.
type inspector interface {
	Diff(ctx context.Context, w deploy.Work) ([]deploy.Difference, error)
	Objects(ctx context.Context, t deploy.Target) ([]deploy.Live, error)
}

// view is the config with the cluster, for commands that only look. The agent need not run.
type view struct {
	settings config.Agent
	cfg      *config.Config
	clients  *kube.Clients
	engines  map[deploy.Kind]inspector
}

// newView reads the config and builds the engines. No request is made.
func newView(settings config.Agent) (*view, error) {
	cfg, err := loadConfig(settings.Config)
	if err != nil {
		return nil, err
	}
	clients, err := connect(settings)
	if err != nil {
		return nil, err
	}
	e := newEngines(clients, cfg.Namespace, nil)
	return &view{settings: settings, cfg: cfg, clients: clients, engines: map[deploy.Kind]inspector{
		deploy.KindKustomization: e.manifests,
		deploy.KindHelmRelease:   e.releases,
	}}, nil
}

// fetch gets the newest artifact of a source.
func fetch(ctx context.Context, store *artifact.Store, source deploy.Source) (deploy.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, source.Timeout)
	defer cancel()
	pin, err := store.Resolve(ctx, source)
	if err != nil {
		return deploy.Revision{}, err
	}
	return store.Fetch(ctx, source, pin)
}

// local is a folder of this machine, or a chart's archive, in place of a source's artifact.
func local(source deploy.Source, path string) (deploy.Revision, error) {
	at, err := filepath.Abs(path)
	if err != nil {
		return deploy.Revision{}, err
	}
	info, err := os.Stat(at)
	if err != nil {
		return deploy.Revision{}, usageError{fmt.Errorf("--path: %w", err)}
	}
	r := deploy.Revision{Source: source.Name, Digest: path, Dir: at}
	if !info.IsDir() {
		r.Dir, r.File = filepath.Split(at)
	}
	return r, nil
}

// addPath is --path of the commands that render.
func addPath(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "path", "", "`folder` (of a chart also: archive) to take in place of the source's artifact: the one that push is given (nothing in it is ignored)")
}

// colorFlag is --color auto|always|never.
type colorFlag string

func addColor(c *cobra.Command) {
	f := colorFlag("auto")
	c.Flags().Var(&f, "color", "auto, always or never; auto: on a terminal, unless NO_COLOR is set")
	_ = c.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
}

func (f *colorFlag) String() string { return string(*f) }
func (*colorFlag) Type() string     { return "when" }

// Set also takes effect: the colours of a process are one for all.
func (f *colorFlag) Set(s string) error {
	switch s {
	case "auto":
	case "always":
		_ = os.Unsetenv("NO_COLOR") // which the library heeds even so
		color.NoColor = false
	case "never":
		color.NoColor = true
	default:
		return fmt.Errorf("want auto, always or never, got %q", s)
	}
	*f = colorFlag(s)
	return nil
}

// completeNames completes the names of all that the config defines and the line has not got yet, sources included.
func completeNames(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	settings, err := config.LoadAgent(c.Flags())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cfg, err := loadConfig(settings.Config)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range cfg.Targets {
		names = append(names, t.Name.Short(cfg.Namespace))
	}
	for _, s := range cfg.Sources {
		names = append(names, s.Name.Short(cfg.Namespace))
	}
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(args, name) }), cobra.ShellCompDirectiveNoFileComp
}

// completeTargets completes the names of the config's targets.
func completeTargets(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	settings, err := config.LoadAgent(c.Flags())
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cfg, err := loadConfig(settings.Config)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range cfg.Targets {
		names = append(names, t.Name.Short(cfg.Namespace))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
