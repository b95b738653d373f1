package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/fatih/color"
	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/status"
)

func newExplain() *cobra.Command {
	var (
		at     connection
		output outputFlag
	)
	c := &cobra.Command{
		Use:     "explain NAME",
		GroupID: groupLook,
		Short:   "Say why a target or source is as it is: stage, error, what it waits for, next attempt",
		Long: "Say why a target or source is as it is. NAME is kustomization/NAME, helmrelease/NAME or source/NAME; kind/NAMESPACE/NAME where the entry has a\n" +
			"namespace of its own.",
		Args:              exactlyOne("name"),
		ValidArgsFunction: completeNames,
		RunE: func(c *cobra.Command, args []string) error {
			client, name, err := at.named(c.Context(), args[0])
			if err != nil {
				return err
			}
			if name.Kind == deploy.KindSource {
				return explainSource(c, client, name, output)
			}
			x, err := client.Target(c.Context(), name)
			if err != nil {
				return err
			}
			return output.write(c.OutOrStdout(), x, func(w io.Writer) error {
				_, err := io.WriteString(w, explanation(x, name.Namespace))
				return err
			})
		},
	}
	at.add(c.Flags())
	output.add(c)
	return c
}

// explanation is an explanation for people.
func explanation(x status.Explanation, namespace string) string {
	var b strings.Builder
	t := x.Target
	fmt.Fprintf(&b, "%s is %s\n", color.New(color.Bold).Sprint(t.Name.Short(namespace)), phaseWord(t.Phase))
	for _, why := range x.Why {
		fmt.Fprintf(&b, "  %s\n", why)
	}
	row := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-14s %s\n", label+":", value)
		}
	}
	b.WriteString("\n")
	row("Stage", t.Stage)
	row("Revision", t.Revision)
	if t.LastGood != nil {
		row("Last good", fmt.Sprintf("%s, %s ago", t.LastGood.Revision, ago(t.LastGood.At)))
	}
	if x.Source != nil {
		row("Source", fmt.Sprintf("%s (%s) %s", x.Source.Name.Short(namespace), sourceWord(*x.Source), x.Source.URL))
	}
	for _, d := range x.Dependencies {
		row("Depends on", fmt.Sprintf("%s (%s) %s", d.Name.Short(namespace), phaseWord(d.Phase), d.Message))
	}
	for _, n := range x.Dependents {
		row("Needed by", n.Short(namespace))
	}
	if !t.Next.IsZero() {
		row("Next attempt", "in "+duration(time.Until(t.Next)))
	}
	if len(t.Changes) > 0 {
		b.WriteString("\nLast changes:\n")
		for _, c := range t.Changes {
			fmt.Fprintf(&b, "  %-9s %s", c.Action, c.Object)
			switch {
			case c.Err != nil && c.Action == deploy.ActionKeep: // as it should be
				fmt.Fprintf(&b, "  %s", color.CyanString(c.Err.Error()))
			case c.Err != nil:
				fmt.Fprintf(&b, "  %s", color.RedString(c.Err.Error()))
			case c.Reason != "":
				fmt.Fprintf(&b, "  %s", c.Reason)
			}
			b.WriteString("\n")
		}
	}
	if len(t.History) > 0 {
		b.WriteString("\nHistory:\n")
		for _, p := range t.History {
			fmt.Fprintf(&b, "  %-12s  %s  %s  %s\n", ago(p.At)+" ago", phaseWord(p.Phase), shortRevision(p.Revision), oneLine(strings.TrimPrefix(p.Reason+": "+p.Message, ": ")))
		}
	}
	return b.String()
}
