package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/reconcile"
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
		Short:   "Bring a release back to an earlier revision, and hold it there",
		Long: "Let the running agent bring a release back to an earlier revision: to REVISION, else to the last good one before the newest (towline history TARGET lists\n" +
			"them). The release is then held there, Degraded with the reason RolledBack, until there is news for it (another chart, other values) or somebody asks\n" +
			"for it with towline reconcile. A running attempt gives way where it only waits. The command ends when the rollback is done; interrupted, it leaves that\n" +
			"to the agent. TARGET is helmrelease/NAME, or helmrelease/NAMESPACE/NAME where the entry has a namespace of its own.",
		Args:              targetAndRevision,
		ValidArgsFunction: completeTargets,
		RunE: func(c *cobra.Command, args []string) error {
			revision, err := revisionIn(args)
			if err != nil {
				return err
			}
			if n, err := deploy.ParseName(args[0], "", ""); err != nil {
				return usageError{err}
			} else if err := canRollBack(n); err != nil {
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
				_, err := fmt.Fprintf(w, "%s is as it was at revision %d, and is held there until there is news for it or towline reconcile %s\n", args[0], to, args[0])
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

// revisionIn is the second argument; 0 where there is none.
func revisionIn(args []string) (int, error) {
	if len(args) < 2 {
		return 0, nil
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 1 {
		return 0, usageError{fmt.Errorf("%q is not a revision: want a number of those that towline history %s lists", args[1], args[0])}
	}
	return n, nil
}

// canRollBack says why there is nothing to roll back for a name of that kind.
func canRollBack(n deploy.Name) error {
	switch n.Kind {
	case deploy.KindHelmRelease:
		return nil
	case deploy.KindKustomization:
		return reconcile.ErrNoRollback
	}
	return usageError{errors.New("a source has no revisions of its own to go back to: name a helmrelease")}
}
