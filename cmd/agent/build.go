package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/helm"
)

func newBuild() *cobra.Command {
	var (
		path        string
		showSecrets bool
	)
	c := &cobra.Command{
		Use:     "build TARGET",
		GroupID: groupConfig,
		Short:   "Render a target to stdout, as it would be applied",
		Long: "Fetch the newest artifact of a target's source, render the target and print it. Nothing in the cluster changes; it is only asked for what\n" +
			"the source and the target name in it, if there is anything. The data of Secrets is masked, and so is what was filled from secrets.",
		Args:              exactlyOne("target"),
		ValidArgsFunction: completeTargets,
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := deploy.ParseName(args[0], "", ""); err != nil {
				return usageError{err}
			}
			settings, err := config.LoadAgent(c.Flags())
			if err != nil {
				return err
			}
			objects, err := render(c.Context(), settings, args[0], path)
			if err != nil {
				return err
			}
			return writeObjects(c.OutOrStdout(), objects, showSecrets)
		},
	}
	config.AddFlags(c.Flags(), "config", "kubeconfig", "context", "cache-dir")
	addPath(c, &path)
	c.Flags().BoolVar(&showSecrets, "show-secrets", false, "print the data of Secrets, and what was filled from secrets, too")
	return c
}

// needsCluster reports whether a source names something that only the cluster has.
func needsCluster(s deploy.SourceSpec) bool {
	return s.SecretRef != nil || s.ServiceAccountName != "" || s.CertSecretRef != nil || s.ProxySecretRef != nil ||
		s.Verify != nil && (s.Verify.SecretRef != nil || s.Verify.TrustedRootSecretRef != nil)
}

// render fetches and renders one target of the config; a path takes the place of what would be fetched.
func render(ctx context.Context, settings config.Agent, arg, path string) ([]*unstructured.Unstructured, error) {
	cfg, err := loadConfig(settings.Config)
	if err != nil {
		return nil, err
	}
	target, source, err := find(cfg, arg)
	if err != nil {
		return nil, err
	}
	revision, err := revisionOf(ctx, settings, source, path)
	if err != nil {
		return nil, err
	}
	var read func(ctx context.Context, kind, namespace, name string) (map[string][]byte, error)
	if needsValues(target) {
		clients, err := connect(settings)
		if err != nil {
			return nil, err
		}
		read = values{clients.Kubernetes}.read
	}
	if target.HelmRelease != nil {
		return helm.Render(ctx, helm.Options{Read: read, Patch: build.Patch}, target, revision)
	}
	return build.New(build.Options{Read: read}).Build(ctx, target, revision.Dir)
}

// revisionOf is what a source has now, or the path in its place. The cluster is only asked where the source needs it.
func revisionOf(ctx context.Context, settings config.Agent, source deploy.Source, path string) (deploy.Revision, error) {
	if path != "" {
		return local(source, path)
	}
	var fromCluster artifact.Secrets
	if needsCluster(source.Spec) {
		clients, err := connect(settings)
		if err != nil {
			return deploy.Revision{}, err
		}
		fromCluster = secrets{clients.Kubernetes}
	}
	return fetch(ctx, newStore(settings, fromCluster, nil), source)
}

// find looks a target up in the config, with its source.
func find(cfg *config.Config, arg string) (deploy.Target, deploy.Source, error) {
	name, err := deploy.ParseName(arg, "", cfg.Namespace)
	if err != nil {
		return deploy.Target{}, deploy.Source{}, usageError{err}
	}
	if name.Kind == deploy.KindSource {
		return deploy.Target{}, deploy.Source{}, usageError{errors.New("a source has no objects: name a kustomization or a helmrelease")}
	}
	t := slices.IndexFunc(cfg.Targets, func(t deploy.Target) bool { return t.Name == name })
	if t < 0 {
		var known []string
		for _, t := range cfg.Targets {
			known = append(known, t.Name.Short(cfg.Namespace))
		}
		return deploy.Target{}, deploy.Source{}, fmt.Errorf("%s is not in the config; it has: %s", arg, strings.Join(known, ", "))
	}
	target := cfg.Targets[t]
	s := slices.IndexFunc(cfg.Sources, func(s deploy.Source) bool { return s.Name == target.Source })
	if s < 0 {
		return target, deploy.Source{}, fmt.Errorf("%s: its source %s is not in the config", arg, target.Source) // a validated config has it
	}
	return target, cfg.Sources[s], nil
}

// writeObjects prints objects as YAML documents.
func writeObjects(w io.Writer, objects []*unstructured.Unstructured, showSecrets bool) error {
	for _, u := range objects {
		if !showSecrets && deploy.HoldsSecrets(u) {
			u = masked(u)
		}
		b, err := yaml.Marshal(u.Object)
		if err != nil {
			return fmt.Errorf("%s: %w", deploy.IDOf(u), err)
		}
		if _, err := fmt.Fprintf(w, "---\n%s", b); err != nil {
			return err
		}
	}
	return nil
}

// masked is a copy of an object whose secret values nobody can read, or guess from their length.
func masked(u *unstructured.Unstructured) *unstructured.Unstructured {
	out := u.DeepCopy()
	maskSecrets(out, nil)
	return out
}
