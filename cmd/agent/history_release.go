package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fatih/color"
	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/record"
)

// revisionsTimeout is how long the cluster may take to tell a release's revisions: the rest of the history is there already.
const revisionsTimeout = 15 * time.Second

// revisions reads those of a release from the cluster. A release that left the config is known by its record.
func (n *connection) revisions(ctx context.Context, name deploy.Name) ([]deploy.ReleaseRevision, error) {
	ctx, cancel := context.WithTimeout(ctx, revisionsTimeout)
	defer cancel()
	settings, err := config.LoadAgent(n.flags)
	if err != nil {
		return nil, err
	}
	clients, err := connect(settings)
	if err != nil {
		return nil, err
	}
	namespace := config.DefaultNamespace
	cfg, cerr := config.Load(settings.Config)
	if cerr == nil {
		namespace = cfg.Namespace
		if i := slices.IndexFunc(cfg.Targets, func(t deploy.Target) bool { return t.Name == name }); i >= 0 {
			return newEngines(clients, namespace, nil).releases.History(ctx, cfg.Targets[i])
		}
	}
	records, rerr := record.New(clients, namespace).Load(ctx)
	if i := slices.IndexFunc(records, func(r deploy.Record) bool { return r.Target.Name == name }); i >= 0 {
		return newEngines(clients, namespace, nil).releases.History(ctx, records[i].Target)
	}
	switch {
	case rerr != nil:
		return nil, rerr
	case cerr != nil:
		return nil, cerr
	}
	return nil, fmt.Errorf("neither the config nor a record in namespace %s says where the release %s is", namespace, name.Short(namespace))
}

func writeRevisions(w io.Writer, revisions []deploy.ReleaseRevision) {
	t := newTable(w, "revision", "status", "chart", "app version", "updated", "", "description")
	for _, r := range revisions {
		chart, updated := strings.TrimSuffix(r.Chart+" "+r.Version, " "), "-"
		if !r.Updated.IsZero() {
			updated = r.Updated.Local().Format(time.DateTime)
		}
		t.AppendRow(table.Row{r.Revision, statusWord(r.Status), chart, r.AppVersion, updated, revisionMarks(r), oneLine(r.Description + r.Problem)})
	}
	t.Render()
}

// revisionMarks says in words what is special about a revision.
func revisionMarks(r deploy.ReleaseRevision) string {
	var words []string
	for _, m := range []struct {
		yes  bool
		word string
	}{
		{r.Held, "held"},
		{r.Rejected, "undoes a failure"},
		{r.Attempts == 1, "1 failure"},
		{r.Attempts > 1, fmt.Sprintf("%d failures", r.Attempts)},
		{r.Tested != "", "tests " + r.Tested},
		{r.Foreign, "not ours"},
	} {
		if m.yes {
			words = append(words, m.word)
		}
	}
	return strings.Join(words, ", ")
}

// statusWord colours Helm's words for the status of a revision.
func statusWord(s string) string {
	switch {
	case s == "deployed":
		return color.GreenString(s)
	case s == "failed":
		return color.RedString(s)
	case strings.HasPrefix(s, "pending-"), s == "uninstalling":
		return color.YellowString(s)
	}
	return s
}
