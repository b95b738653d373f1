package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/artifact/publish"
)

func newList() *cobra.Command {
	return newVerb("list", "List the artifacts of a repository", newListArtifacts())
}

func newListArtifacts() *cobra.Command {
	var (
		at            place
		semver, regex string
		output        outputFlag
	)
	c := &cobra.Command{
		Use:     "artifacts oci://HOST/REPOSITORY",
		Aliases: []string{"artifact"},
		Short:   "List the tags of a repository with their digests, sources and revisions",
		Long: "List the tags of a repository with their digests, sources and revisions: versions first, the highest on top, then the other tags. Tags of signatures and\n" +
			"attestations (sha256-…) are left out.",
		Example: "  towline list artifacts oci://registry.example.org/apps/web --filter-semver='>=1.0.0'",
		Args:    exactlyOne("url"),
		RunE: func(c *cobra.Command, args []string) error {
			filter, err := publish.NewFilter(semver, regex)
			if err != nil {
				return usageError{err}
			}
			ref, repo, stop, err := at.reach(args[0])
			if err != nil {
				return err
			}
			defer stop()
			if ref.Tag != "" || ref.Digest != "" {
				return usageError{errors.New("the url must hold neither tag nor digest: all of the repository's are listed")}
			}
			ctx, cancel := context.WithTimeout(c.Context(), at.timeout)
			defer cancel()
			listed, err := publish.List(ctx, repo, ref, filter)
			if err != nil {
				return failed(ctx, "list", ref, false, err)
			}
			return output.write(c.OutOrStdout(), listed, func(w io.Writer) error { return writeListed(w, listed) })
		},
	}
	c.Flags().StringVar(&semver, "filter-semver", "", "`constraint` that tags must be versions within, such as 1.x or '>=1.0.0-0'")
	c.Flags().StringVar(&regex, "filter-regex", "", "Go regular `expression` that tags must match")
	at.add(c.Flags())
	output.add(c)
	return c
}

func writeListed(w io.Writer, listed []publish.Listed) error {
	if len(listed) == 0 {
		_, err := fmt.Fprintln(w, "no artifacts")
		return err
	}
	t := newTable(w, "artifact", "digest", "source", "revision")
	for _, l := range listed {
		t.AppendRow(table.Row{l.Artifact, l.Digest, printable(l.Source), printable(l.Revision)})
	}
	t.Render()
	return nil
}
