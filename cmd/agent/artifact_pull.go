package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/artifact/publish"
)

func newPull() *cobra.Command {
	return newVerb("pull", "Fetch an artifact", newPullArtifact())
}

func newPullArtifact() *cobra.Command {
	var (
		at             place
		output, layout string
		force          bool
	)
	c := &cobra.Command{
		Use:   "artifact oci://HOST/REPOSITORY[:TAG][@DIGEST]",
		Short: "Pull an artifact and unpack it into a folder",
		Long: "Pull an artifact (default: tag latest), check every byte of it against its digest and unpack what the agent would take of it into a folder, which is made where it\nis missing. " +
			"Files that are there and not in the artifact stay. One that is there with another content is an error, and then nothing is changed.\n\n" +
			"With --layout the artifact is not unpacked: it is copied, with all platforms and its signatures, into an OCI image layout, which a source can name as\n" +
			"oci-layout:///path. Other artifacts in the layout stay.",
		Example: "  towline pull artifact oci://registry.example.org/apps/web:v1 --output ./web\n" +
			"  towline pull artifact oci://registry.example.org/apps/web:v1 --layout /media/stick/web",
		Args: exactlyOne("url"),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case output == "" && layout == "":
				return usageError{errors.New("where to? Name a folder with --output, or an OCI image layout with --layout")}
			case output != "" && layout != "":
				return usageError{errors.New("--output unpacks and --layout copies: give one of them")}
			}
			ref, repo, stop, err := at.reach(args[0])
			if err != nil {
				return err
			}
			defer stop()
			ctx, cancel := context.WithTimeout(c.Context(), at.timeout)
			defer cancel()
			bar := newTransferBar(c.ErrOrStderr(), "pulling")
			if layout != "" {
				saved, err := publish.Save(ctx, repo, ref, layout, bar.tell)
				bar.clear()
				if err != nil {
					return failed(ctx, "pull", ref, false, err)
				}
				return writeSaved(c.OutOrStdout(), saved, ref, layout)
			}
			got, err := publish.Pull(ctx, repo, ref, output, publish.PullOptions{Force: force, Progress: bar.tell})
			bar.clear()
			if err != nil {
				return failed(ctx, "pull", ref, false, err)
			}
			return writePulled(c.OutOrStdout(), got, ref, output)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`folder` to unpack into")
	c.Flags().StringVar(&layout, "layout", "", "OCI image layout, a `folder`, to copy into with signatures")
	c.Flags().BoolVar(&force, "force", false, "replace files that have another content")
	at.add(c.Flags())
	return c
}

func writeSaved(w io.Writer, saved publish.Saved, ref publish.Ref, layout string) error {
	_, err := fmt.Fprintf(w, "copied %s into %s with %s\ndigest %s\n", ref, layout, plural(saved.Signatures, "signature"), saved.Digest)
	return err
}

func writePulled(w io.Writer, got publish.Pulled, ref publish.Ref, dir string) error {
	if _, err := fmt.Fprintf(w, "pulled %s into %s: %s\n", ref, dir, plural(got.Files, "file")); err != nil {
		return err
	}
	for _, row := range [][2]string{
		{"digest", got.Digest}, {"source", got.Annotations[publish.AnnotationSource]}, {"revision", got.Annotations[publish.AnnotationRevision]},
	} {
		if row[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s %s\n", row[0], printable(row[1])); err != nil {
			return err
		}
	}
	return nil
}
