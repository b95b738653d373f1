package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/status"
)

func newRollback() *cobra.Command {
	var (
		at     connection
		output outputFlag
	)
	c := &cobra.Command{
		Use:     "rollback TARGET [REVISION]",
		GroupID: groupLook,
		Short:   "Bring a target back to an earlier revision, and hold it there",
		Long: "Let the running agent bring a target back to an earlier revision: to REVISION, else to the last good one before the newest (towline history TARGET lists\n" +
			"them). REVISION is Helm's number for a release, and a tag, a digest or the beginning of a digest for manifests. The target is then held there, Degraded with\n" +
			"the reason RolledBack, until there is news for it (another artifact; of a release also other values) or somebody says towline reconcile --force. A running\n" +
			"attempt gives way where it only waits. The command ends when the rollback is done; interrupted, it leaves that to the agent. TARGET is kustomization/NAME\n" +
			"or helmrelease/NAME; kind/NAMESPACE/NAME where the entry has a namespace of its own.",
		Args:              targetAndRevision,
		ValidArgsFunction: completeTargets,
		RunE: func(c *cobra.Command, args []string) error {
			n, err := deploy.ParseName(args[0], "", "")
			if err != nil {
				return usageError{err}
			}
			if err := canRollBack(n); err != nil {
				return err
			}
			revision, err := revisionIn(n, args)
			if err != nil {
				return err
			}
			client, name, err := at.named(c.Context(), args[0])
			if err != nil {
				return err
			}
			to, err := client.Rollback(c.Context(), name, revision)
			if c.Context().Err() != nil {
				return fmt.Errorf("interrupted: the agent goes on with the rollback (towline explain %s shows how it ends)", args[0])
			}
			if err != nil {
				return err
			}
			return output.write(c.OutOrStdout(), status.RolledBack{Name: name, Revision: to}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is as it was at revision %s, and is held there until there is news for it or towline reconcile --force %s\n", args[0], to, args[0])
				return err
			})
		},
	}
	at.add(c.Flags())
	output.add(c)
	return c
}

// targetAndRevision wants one or two arguments.
func targetAndRevision(c *cobra.Command, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return usageError{fmt.Errorf("%s takes a target and, if need be, a revision, got %d arguments", c.CommandPath(), len(args))}
	}
	return nil
}

// revisionIn is the second argument; empty where there is none.
func revisionIn(of deploy.Name, args []string) (string, error) {
	if len(args) < 2 {
		return "", nil
	}
	if n, err := strconv.Atoi(args[1]); of.Kind == deploy.KindHelmRelease && (err != nil || n < 1) {
		return "", usageError{fmt.Errorf("%q is not a revision: want a number of those that towline history %s lists", args[1], args[0])}
	}
	return args[1], nil
}

// canRollBack says why there is nothing to roll back for a name of that kind.
func canRollBack(n deploy.Name) error {
	if n.Kind == deploy.KindSource {
		return usageError{errors.New("a source has no revisions of its own to go back to: name a target")}
	}
	return nil
}
