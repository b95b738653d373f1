package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fatih/color"
	"github.com/spf13/cobra"
	kstatus "sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/record"
)

func newTree() *cobra.Command {
	var output outputFlag
	c := &cobra.Command{
		Use:     "tree TARGET",
		GroupID: groupConfig,
		Short:   "Show the objects of a target as the cluster has them, with what controllers made of them",
		Long: "Show the objects that were applied for a target, by its inventory, with how each is doing, and below them what controllers made: ReplicaSets, Jobs, Pods.\n" +
			"Old ReplicaSets without Pods are left out. The agent need not run. Exit code 1: nothing has been applied yet.",
		Example:           "  towline tree kustomization/web\n  towline tree helmrelease/podinfo -o json",
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
			v, err := newView(settings)
			if err != nil {
				return err
			}
			target, _, err := find(v.cfg, args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), target.Timeout)
			defer cancel()
			objects, err := v.engines[target.Name.Kind].Objects(ctx, target)
			if err != nil {
				return err
			}
			markEmpty(ctx, v, target, objects)
			name := target.Name.Short(v.cfg.Namespace)
			if len(objects) == 0 {
				return fmt.Errorf("%s: nothing has been applied yet (towline diff %s shows what would be)", name, name)
			}
			shown := shownTree{Target: name, Objects: objects}
			return output.write(c.OutOrStdout(), shown, func(w io.Writer) error { return writeTree(w, shown) })
		},
	}
	config.AddFlags(c.Flags(), "config", "kubeconfig", "context")
	addColor(c)
	output.add(c)
	return c
}

// markEmpty marks the objects of a target whose last artifact rendered none: that is refused before the inventory is written, so only the record of the attempt tells.
func markEmpty(ctx context.Context, v *view, t deploy.Target, objects []deploy.Live) {
	records, _ := record.New(v.clients, v.cfg.Namespace).Load(ctx) // without them the objects are shown all the same
	i := slices.IndexFunc(records, func(r deploy.Record) bool { return r.Target.Name == t.Name })
	if i < 0 || len(records[i].History) == 0 {
		return
	}
	if last := records[i].History[0]; last.Reason != deploy.ReasonPruneBlocked || last.Changes > 0 {
		return // an attempt with changes had objects
	}
	for i, o := range objects {
		if !o.Kept && o.Health != string(kstatus.NotFoundStatus) {
			objects[i].PruneBlocked = deploy.BlockedByEmpty
		}
	}
}

// shownTree is what is printed.
type shownTree struct {
	Target  string        `json:"target"`
	Objects []deploy.Live `json:"objects"`
}

// branch is one line: what stands left of the health, and the object.
type branch struct {
	text string
	live deploy.Live
}

func writeTree(w io.Writer, t shownTree) error {
	lines := branches(t.Objects, "", nil)
	wide := 0
	for _, l := range lines {
		wide = max(wide, utf8.RuneCountInString(l.text))
	}
	var b strings.Builder
	fmt.Fprintln(&b, color.New(color.Bold).Sprint(t.Target))
	for _, l := range lines {
		gap := strings.Repeat(" ", wide-utf8.RuneCountInString(l.text))
		line := l.text + gap + "  " + healthWord(l.live.Health, true)
		if !l.live.Created.IsZero() {
			line += fmt.Sprintf("  %-6s", duration(time.Since(l.live.Created)))
		}
		if m := treeMessage(l.live); m != "" {
			line += "  " + m
		}
		fmt.Fprintln(&b, strings.TrimRight(line, " "))
	}
	if slices.ContainsFunc(t.Objects, func(l deploy.Live) bool { return l.PruneBlocked != "" }) {
		fmt.Fprintf(&b, "\nThe prune waits for somebody's word: towline diff %s says which digest to allow.\n", t.Target)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// branches are the lines of a forest. What is below an object is in its namespace.
func branches(all []deploy.Live, indent string, parent *deploy.Live) []branch {
	var out []branch
	for i, l := range all {
		fork, below := "├── ", "│   "
		if i == len(all)-1 {
			fork, below = "└── ", "    "
		}
		id := l.Object
		if parent != nil && parent.Object.Namespace == id.Namespace {
			id.Namespace = ""
		}
		out = append(out, branch{indent + fork + printable(id.String()), l})
		out = append(out, branches(l.Children, indent+below, &all[i])...)
	}
	return out
}

// healthWidth is that of the longest word of kstatus, Terminating.
const healthWidth = 11

func healthWord(health string, padded bool) string {
	text := health
	if padded {
		text = fmt.Sprintf("%-*s", healthWidth, health)
	}
	switch health {
	case "Current":
		return color.GreenString(text)
	case "Failed", "NotFound":
		return color.RedString(text)
	case "Unknown":
		return color.MagentaString(text)
	}
	return color.YellowString(text)
}

// treeMessage is what is worth saying beside the health: nothing of what is fine.
func treeMessage(l deploy.Live) string {
	var parts []string
	if l.Kept {
		parts = append(parts, color.CyanString("kept: no longer in the artifact"))
	}
	switch l.PruneBlocked {
	case deploy.BlockedByLimit:
		parts = append(parts, color.RedString("would be pruned: blocked by pruneLimit"))
	case deploy.BlockedByEmpty:
		parts = append(parts, color.RedString("would be pruned: blocked, because the artifact renders no objects"))
	}
	if len(l.Finalizers) > 0 {
		parts = append(parts, "waits for "+strings.Join(l.Finalizers, ", "))
	} else if l.Message != "" && (l.Health != "Current" || strings.Contains(l.Message, "unknown")) {
		parts = append(parts, printable(strings.Join(strings.Fields(l.Message), " ")))
	}
	return strings.Join(parts, "; ")
}
