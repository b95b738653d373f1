package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/fatih/color"
	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/artifact/publish"
)

// difference is what is printed.
type difference struct {
	URL     string   `json:"url"`
	Digest  string   `json:"digest"`
	Path    string   `json:"path"`
	Same    bool     `json:"same"`
	Added   []string `json:"added"` // in the folder only
	Removed []string `json:"removed"`
	Changed []string `json:"changed"`
}

func newDiffArtifact() *cobra.Command {
	var (
		at       place
		in       publish.Input
		patterns []string
		output   outputFlag
	)
	c := &cobra.Command{
		Use:   "artifact oci://HOST/REPOSITORY[:TAG][@DIGEST]",
		Short: "Compare an artifact with a folder",
		Long: "Compare an artifact (default: tag latest) with what push would make of a folder or file. Files that were added, removed or changed are listed; those of YAML and\n" +
			"JSON are shown as a unified diff, without the values of Secrets. Exit code 0: they are the same; 1: they differ; 2: it could not be told.",
		Example: "  towline diff artifact oci://registry.example.org/apps/web:v1 --path ./deploy",
		Args:    exactlyOne("url"),
		RunE: func(c *cobra.Command, args []string) error {
			if in.Path == "" {
				return usageError{errors.New("compare with what? Name a folder or file with --path, or - for standard input")}
			}
			in.Ignore, in.Stdin = ignorePaths(c, patterns), c.InOrStdin()
			same, err := diffArtifact(c, at, in, args[0], output)
			switch {
			case err != nil:
				return usageError{err} // 1 would say that they differ
			case !same:
				return errSilent
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVarP(&in.Path, "path", "f", "", "`folder`, file or archive to compare with; - is standard input")
	addIgnorePaths(f, &patterns)
	at.add(f)
	output.add(c)
	return c
}

func diffArtifact(c *cobra.Command, at place, in publish.Input, url string, output outputFlag) (same bool, err error) {
	ref, repo, stop, err := at.reach(url)
	if err != nil {
		return false, err
	}
	defer stop()
	ctx, cancel := context.WithTimeout(c.Context(), at.timeout)
	defer cancel()
	bar := newTransferBar(c.ErrOrStderr(), "pulling")
	found, err := publish.Diff(ctx, repo, ref, in, publish.PullOptions{Progress: bar.tell})
	bar.clear()
	if err != nil {
		return false, failed(ctx, "diff", ref, false, err)
	}
	var text bytes.Buffer
	if err := errors.Join(found.Text(&text), found.Close()); err != nil { // before anything is written: who reads it may go away, and take this process along
		return false, failed(ctx, "diff", ref, false, err)
	}
	out := difference{
		URL: ref.String(), Digest: found.Digest, Path: in.Path, Same: found.Same(),
		Added: orNone(found.Added), Removed: orNone(found.Removed), Changed: orNone(found.Changed),
	}
	err = output.write(c.OutOrStdout(), out, func(w io.Writer) error { return writeDifference(w, out, text.String()) })
	return out.Same, err
}

// orNone makes JSON say [] and not null.
func orNone(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func writeDifference(w io.Writer, d difference, text string) error {
	if d.Same {
		_, err := fmt.Fprintf(w, "%s and %s are the same\n", d.URL, d.Path)
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s and %s differ: %d added, %d removed, %d changed\n", d.URL, d.Path, len(d.Added), len(d.Removed), len(d.Changed))
	for _, kind := range []struct {
		sign  string
		paint func(string, ...any) string
		names []string
	}{{"+", color.GreenString, d.Added}, {"-", color.RedString, d.Removed}, {"~", color.YellowString, d.Changed}} {
		for _, name := range kind.names {
			fmt.Fprintf(&b, "  %s\n", kind.paint("%s %s", kind.sign, printable(name)))
		}
	}
	b.WriteString("\n")
	if _, err := b.WriteTo(w); err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if text, dos := strings.CutSuffix(line, "\r"); dos {
			line = text + "^M" // as git shows it
		}
		line = printable(line)
		switch {
		case strings.HasPrefix(line, "@@"):
			line = color.CyanString("%s", line)
		case strings.HasPrefix(line, "+"):
			line = color.GreenString("%s", line)
		case strings.HasPrefix(line, "-"):
			line = color.RedString("%s", line)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
