package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/record"
	"github.com/towline/towline/internal/status"
)

func newHistory() *cobra.Command {
	var (
		at      connection
		output  outputFlag
		cluster bool
	)
	c := &cobra.Command{
		Use:     "history TARGET",
		GroupID: groupLook,
		Short:   "Show how the last attempts for a target ended, and the revisions of a release, the newest first",
		Long: "Show how the last attempts for a target ended, the newest first; of several in a row that ended alike, the first. TARGET is kustomization/NAME or\n" +
			"helmrelease/NAME; kind/NAMESPACE/NAME where the entry has a namespace of its own. Where no agent is running, the record that it keeps in the\n" +
			"cluster is read. Of a release Helm's revisions are shown too, read from the cluster: whoever made them, what they are made of, and which of them\n" +
			"undoes a failure or is held by hand. towline rollback goes back to one.",
		Args:              exactlyOne("target"),
		ValidArgsFunction: completeTargets,
		RunE: func(c *cobra.Command, args []string) error {
			if n, err := deploy.ParseName(args[0], "", ""); err != nil {
				return usageError{err}
			} else if n.Kind == deploy.KindSource {
				return usageError{errors.New("a source has no history: name a kustomization or a helmrelease")}
			}
			h, err := at.history(c, args[0], cluster)
			if err != nil {
				return err
			}
			if h.Name.Kind == deploy.KindHelmRelease {
				if h.Revisions, err = at.revisions(c.Context(), h.Name); err != nil {
					fmt.Fprintf(c.ErrOrStderr(), "Helm's revisions are not shown: %v\n", err)
				}
			}
			return output.write(c.OutOrStdout(), h, func(w io.Writer) error { return writeHistory(w, h) })
		},
	}
	at.add(c.Flags())
	output.add(c)
	config.AddFlags(c.Flags(), "kubeconfig", "context")
	c.Flags().BoolVar(&cluster, "cluster", false, "read the record in the cluster, whether an agent is running or not")
	return c
}

// targetHistory is what history prints.
type targetHistory struct {
	Name    deploy.Name   `json:"name"`
	History []deploy.Past `json:"history"`
	// Revisions of a release, the newest first.
	Revisions []deploy.ReleaseRevision `json:"revisions,omitempty"`
}

// history asks the running agent, or the cluster where there is none or that is asked for.
func (n *connection) history(c *cobra.Command, arg string, cluster bool) (targetHistory, error) {
	if cluster {
		return n.recorded(c.Context(), arg)
	}
	client, name, err := n.named(c.Context(), arg)
	if errors.Is(err, status.ErrNoAgent) {
		fmt.Fprintln(c.ErrOrStderr(), "No agent is running there: this is what the last one recorded in the cluster.")
		h, rerr := n.recorded(c.Context(), arg)
		if rerr != nil {
			return h, errors.Join(err, rerr)
		}
		return h, nil
	}
	if err != nil {
		return targetHistory{}, err
	}
	x, err := client.Target(c.Context(), name)
	return targetHistory{Name: name, History: list(x.Target.History)}, err
}

// recorded reads the history from the agent's records.
func (n *connection) recorded(ctx context.Context, arg string) (targetHistory, error) {
	settings, err := config.LoadAgent(n.flags)
	if err != nil {
		return targetHistory{}, err
	}
	namespace := config.DefaultNamespace
	cfg, err := config.Load(settings.Config)
	switch {
	case err == nil:
		namespace = cfg.Namespace
	case !errors.Is(err, fs.ErrNotExist): // this need not be the agent's machine
		return targetHistory{}, fmt.Errorf("the config says in which namespace the records are, and is not valid:\n%w", err)
	}
	name, err := deploy.ParseName(arg, "", namespace)
	if err != nil {
		return targetHistory{}, usageError{err}
	}
	clients, err := connect(settings)
	if err != nil {
		return targetHistory{}, err
	}
	records, err := record.New(clients, namespace).Load(ctx)
	i := slices.IndexFunc(records, func(r deploy.Record) bool { return r.Target.Name == name })
	if i >= 0 {
		return targetHistory{Name: name, History: list(records[i].History)}, nil
	}
	if err != nil {
		return targetHistory{}, err
	}
	return targetHistory{}, fmt.Errorf("namespace %s holds no record of %s; it has: %s", namespace, name.Short(namespace), recordedNames(records, namespace))
}

func recordedNames(records []deploy.Record, namespace string) string {
	var names []string
	for _, r := range records {
		names = append(names, r.Target.Name.Short(namespace))
	}
	if slices.Sort(names); len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// list is never null in JSON.
func list(h []deploy.Past) []deploy.Past { return append([]deploy.Past{}, h...) }

func writeHistory(w io.Writer, h targetHistory) error {
	if err := writePast(w, h.History); err != nil || len(h.Revisions) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	writeRevisions(w, h.Revisions)
	return nil
}

func writePast(w io.Writer, history []deploy.Past) error {
	if len(history) == 0 {
		_, err := fmt.Fprintln(w, "no attempt has ended yet")
		return err
	}
	t := newTable(w, "when", "phase", "revision", "changes", "took", "message")
	for _, p := range history {
		t.AppendRow(table.Row{
			p.At.Local().Format(time.DateTime), phaseWord(p.Phase), shortRevision(p.Revision), strconv.Itoa(p.Changes), took(p.Took),
			oneLine(strings.TrimPrefix(p.Reason+": "+status.Brief(p.Message), ": ")),
		})
	}
	t.Render()
	return nil
}

// took writes seconds as people read them: tenths below a minute.
func took(seconds float64) string {
	if seconds < time.Minute.Seconds() {
		return strconv.FormatFloat(seconds, 'f', 1, 64) + "s"
	}
	return duration(time.Duration(seconds * float64(time.Second)))
}
