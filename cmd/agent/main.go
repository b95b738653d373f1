// Command towline keeps Kubernetes clusters at what OCI registries say: it pulls artifacts, applies the manifests and installs the charts in them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitFine  = 0
	exitNot   = 1 // the command ran and the answer is no: a target failed, a config is wrong
	exitUsage = 2 // the command line itself is wrong
)

// usageError marks an error of the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errSilent ends a command with exitNot when everything has been said already.
var errSilent = errors.New("")

func main() {
	// The first signal asks for an orderly end; stop gives the second one its default meaning back, which is to end at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop()
	}()
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitFine
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "Error: %s\n", printableLines(err.Error()))
		return exitUsage
	case err != errSilent: //nolint:errorlint // the sentinel is never wrapped
		fmt.Fprintf(stderr, "Error: %s\n", printableLines(err.Error()))
	}
	return exitNot
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "towline",
		Short: "Keep Kubernetes clusters at what OCI registries say",
		Long: "Towline pulls OCI artifacts and makes the cluster be what they say: manifests are applied server-side with a pruning inventory, charts are\n" +
			"installed and upgraded with Helm. One YAML config lists the sources and their targets; the cluster needs no CRDs.",
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		Args:                       noArgs,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddGroup(
		&cobra.Group{ID: groupAgent, Title: "The agent:"},
		&cobra.Group{ID: groupConfig, Title: "The config:"},
		&cobra.Group{ID: groupLook, Title: "A running agent:"},
		&cobra.Group{ID: groupArtifact, Title: "Artifacts in registries:"},
	)
	root.AddCommand(newRun(), newValidate(), newSchema(), newBuild(), newDiff(), newTree(), newExport(), newReceiver(), newStatus(), newExplain(), newHistory(), newReconcile(), newRollback(), newReload(), newVersion())
	root.AddCommand(newPush(), newPull(), newTag(), newList())
	return root
}

// The groups of commands in the help text.
const (
	groupAgent    = "agent"
	groupConfig   = "config"
	groupLook     = "look"
	groupArtifact = "artifact"
)

func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !c.HasParent() {
		msg := fmt.Sprintf("unknown command %q for towline", args[0])
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			msg += fmt.Sprintf(": did you mean %s?", near[0])
		}
		return usageError{errors.New(msg + " (towline --help lists the commands)")}
	}
	return usageError{fmt.Errorf("%s takes no arguments, got %q", c.CommandPath(), args)}
}

func exactlyOne(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError{fmt.Errorf("%s takes one %s, got %d arguments", c.CommandPath(), what, len(args))}
		}
		return nil
	}
}
