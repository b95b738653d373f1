package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/flux"
)

func newExport() *cobra.Command {
	var strict, withSource bool
	c := &cobra.Command{
		Use:     "export [NAME...]",
		GroupID: groupConfig,
		Short:   "Print the config, or some entries of it, as Flux documents",
		Long: "Print sources, kustomizations and helmReleases as the OCIRepository, Kustomization and HelmRelease documents of Flux that mean the same. NAME is\n" +
			"source/NAME, kustomization/NAME or helmrelease/NAME; kind/NAMESPACE/NAME where the entry has a namespace of its own. Default: all.\n\n" +
			"What Flux has no field for is left out and said on stderr. Files of this machine become references to Secrets, which stderr names too: make them\n" +
			"first. Values and variables are printed as the config has them. Neither a registry nor a cluster is asked.",
		ValidArgsFunction: completeNames,
		RunE: func(c *cobra.Command, args []string) error {
			for _, arg := range args {
				if _, err := deploy.ParseName(arg, "", ""); err != nil {
					return usageError{err}
				}
			}
			settings, err := config.LoadAgent(c.Flags())
			if err != nil {
				return err
			}
			cfg, err := loadConfig(settings.Config)
			if err != nil {
				return err
			}
			return export(c.OutOrStdout(), c.ErrOrStderr(), cfg, args, withSource, strict)
		},
	}
	config.AddFlags(c.Flags(), "config")
	c.Flags().BoolVar(&withSource, "with-source", false, "print the sources of the named targets too")
	c.Flags().BoolVar(&strict, "strict", false, "print nothing and exit with 1 where something would be left out")
	return c
}

// export prints documents to out, and to said what is not in them.
func export(out, said io.Writer, cfg *config.Config, args []string, withSource, strict bool) error {
	sources, targets, err := chosen(cfg, args, withSource)
	if err != nil {
		return err
	}
	docs, left, err := flux.Documents(sources, targets)
	if err != nil {
		return err
	}
	lost := len(left)
	for _, l := range left {
		fmt.Fprintln(said, l.Text(cfg.Namespace))
	}
	if len(args) == 0 {
		for _, s := range cfg.Sinks {
			lost++
			fmt.Fprintf(said, "notify/%s: alerts are not exported: they need a Provider and an Alert of Flux's notification controller\n", s.Name)
		}
	}
	if strict && lost > 0 {
		return errors.New("some of the config cannot be said in Flux's words: see above")
	}
	return flux.Write(out, docs)
}

// chosen are the named entries, or all.
func chosen(cfg *config.Config, args []string, withSource bool) ([]deploy.Source, []deploy.Target, error) {
	if len(args) == 0 {
		return cfg.Sources, cfg.Targets, nil
	}
	var known []string
	wanted, found := map[deploy.Name]bool{}, map[deploy.Name]bool{}
	for _, arg := range args {
		name, err := deploy.ParseName(arg, "", cfg.Namespace)
		if err != nil {
			return nil, nil, usageError{err}
		}
		wanted[name] = true
	}
	var targets []deploy.Target
	for _, t := range cfg.Targets {
		known = append(known, t.Name.Short(cfg.Namespace))
		if !wanted[t.Name] {
			continue
		}
		targets, found[t.Name] = append(targets, t), true
		if withSource {
			wanted[t.Source] = true
		}
	}
	var sources []deploy.Source
	for _, s := range cfg.Sources {
		known = append(known, s.Name.Short(cfg.Namespace))
		if wanted[s.Name] {
			sources, found[s.Name] = append(sources, s), true
		}
	}
	slices.Sort(known)
	for _, name := range slices.SortedFunc(maps.Keys(wanted), deploy.Name.Compare) {
		if !found[name] {
			return nil, nil, fmt.Errorf("%s is not in the config; it has: %s", name.Short(cfg.Namespace), strings.Join(known, ", "))
		}
	}
	return sources, targets, nil
}
