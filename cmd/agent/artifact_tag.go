package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/artifact/publish"
)

func newTag() *cobra.Command {
	return newVerb("tag", "Give an artifact another tag", newTagArtifact())
}

func newTagArtifact() *cobra.Command {
	var (
		at   place
		tags []string
	)
	c := &cobra.Command{
		Use:     "artifact oci://HOST/REPOSITORY[:TAG][@DIGEST]",
		Short:   "Make tags point to an artifact",
		Long:    "Make tags point to what the url names now (default: tag latest). Tags that exist are moved. No content is transferred.",
		Example: "  towline tag artifact oci://registry.example.org/apps/web:v1 --tag stable --tag latest",
		Args:    exactlyOne("url"),
		RunE: func(c *cobra.Command, args []string) error {
			if len(tags) == 0 {
				return usageError{errors.New("which tags? Name them with --tag")}
			}
			for _, tag := range tags { // all, before the first is set
				if err := publish.CheckTag(tag); err != nil {
					return usageError{err}
				}
			}
			ref, repo, stop, err := at.reach(args[0])
			if err != nil {
				return err
			}
			defer stop()
			ctx, cancel := context.WithTimeout(c.Context(), at.timeout)
			defer cancel()
			digest, err := publish.Tag(ctx, repo, ref, tags)
			if err != nil {
				return failed(ctx, "tag", ref, false, err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "tagged %s as %s\ndigest %s\n", ref, strings.Join(tags, ", "), digest)
			return err
		},
	}
	c.Flags().StringSliceVar(&tags, "tag", nil, "`tag` to set; may be repeated")
	at.add(c.Flags())
	return c
}
