package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/fatih/color"
	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/deploy"
)

// newDiff says what differs. Its exit codes are those of diff and kubectl diff: 0 the same, 1 not the same, 2 anything else.
func newDiff() *cobra.Command {
	var (
		path   string
		output outputFlag
	)
	c := &cobra.Command{
		Use:     "diff [TARGET]",
		GroupID: groupConfig,
		Short:   "Show what applying the newest artifacts would change in the cluster",
		Long: "Fetch the newest artifact of a target's source, render the target and let the API server say what applying it would change; without a target, of all targets.\n" +
			"Objects are compared as the agent would apply them, by server-side dry runs: nothing is written. Drift is shown too. The values of Secrets are masked; that they\n" +
			"differ is seen. The agent need not run.\n\nExit code 0: an attempt would change nothing (what it would keep or leave alone is shown); 1: it would; 2: it could not be told.",
		Example: "  towline diff kustomization/web\n  towline diff kustomization/web --path ./deploy   # a working copy in place of the artifact",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("towline diff takes one target, got %d arguments", len(args))}
			}
			return nil
		},
		ValidArgsFunction: completeTargets,
		RunE: func(c *cobra.Command, args []string) error {
			same, err := diffTargets(c, args, path, output)
			switch {
			case err != nil:
				return usageError{err} // 1 would say that they differ
			case !same:
				return errSilent
			}
			return nil
		},
	}
	config.AddFlags(c.Flags(), "config", "kubeconfig", "context", "cache-dir")
	addPath(c, &path)
	addColor(c)
	output.add(c)
	c.AddCommand(newDiffArtifact())
	return c
}

// errUnclear ends a diff that has said of each object why it could not be compared.
var errUnclear = errors.New("not everything could be compared")

func diffTargets(c *cobra.Command, args []string, path string, output outputFlag) (same bool, err error) {
	if path != "" && len(args) == 0 {
		return false, errors.New("--path is for one target: name it")
	}
	settings, err := config.LoadAgent(c.Flags())
	if err != nil {
		return false, err
	}
	v, err := newView(settings)
	if err != nil {
		return false, err
	}
	targets := v.cfg.Targets
	if len(args) == 1 {
		t, _, err := find(v.cfg, args[0])
		if err != nil {
			return false, err
		}
		targets = []deploy.Target{t}
	}
	d := newDiffer(v, path)
	var (
		shown  = []shownDifference{}
		failed []error
	)
	for _, t := range targets {
		found, err := d.diff(c.Context(), t)
		if c.Context().Err() != nil {
			return false, errors.New("interrupted")
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t.Name.Short(v.cfg.Namespace), err))
			continue
		}
		for _, f := range found {
			s, err := show(t.Name.Short(v.cfg.Namespace), f)
			if err != nil {
				return false, err
			}
			shown = append(shown, s)
		}
	}
	err = output.write(c.OutOrStdout(), shown, func(w io.Writer) error { return writeDifferences(w, shown, len(targets) > 1) })
	for _, s := range shown {
		if s.Error != "" {
			failed = append(failed, errUnclear)
			break
		}
	}
	return !slices.ContainsFunc(shown, shownDifference.counts), errors.Join(append(failed, err)...)
}

// differ compares targets; an artifact is fetched once for all of them.
type differ struct {
	*view
	path    string
	store   *artifact.Store
	fetched map[deploy.Name]fetched
}

type fetched struct {
	revision deploy.Revision
	err      error
}

func newDiffer(v *view, path string) *differ {
	return &differ{view: v, path: path, store: newStore(v.settings, secrets{v.clients.Kubernetes}, nil), fetched: map[deploy.Name]fetched{}}
}

func (d *differ) diff(ctx context.Context, t deploy.Target) ([]deploy.Difference, error) {
	revision, err := d.revision(ctx, t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	return d.engines[t.Name.Kind].Diff(ctx, deploy.Work{Target: t, Revision: revision, Full: true})
}

func (d *differ) revision(ctx context.Context, t deploy.Target) (deploy.Revision, error) {
	_, source, err := find(d.cfg, t.Name.String())
	if err != nil {
		return deploy.Revision{}, err
	}
	if d.path != "" {
		return local(source, d.path)
	}
	f, ok := d.fetched[source.Name]
	if !ok {
		f.revision, f.err = fetch(ctx, d.store, source)
		d.fetched[source.Name] = f
	}
	return f.revision, f.err
}

// verbs say what would become of an object, with the sign and colour of it.
var verbs = map[deploy.Action]struct {
	word  string
	paint func(string, ...any) string
}{
	deploy.ActionCreate:    {"created", color.GreenString},
	deploy.ActionInstall:   {"created", color.GreenString},
	deploy.ActionApply:     {"changed", color.YellowString},
	deploy.ActionUpdate:    {"changed", color.YellowString},
	deploy.ActionUpgrade:   {"changed", color.YellowString},
	deploy.ActionRecover:   {"changed", color.YellowString},
	deploy.ActionRecreate:  {"deleted and created again", color.RedString},
	deploy.ActionPrune:     {"deleted", color.RedString},
	deploy.ActionUninstall: {"deleted", color.RedString},
	deploy.ActionKeep:      {"kept", color.CyanString},
	deploy.ActionSkip:      {"left alone", color.CyanString},
	deploy.ActionDrift:     {"drifted", color.CyanString},
}

// counts reports whether a difference is one that an attempt would do away with, or waits for somebody's word to. What is kept or left alone on purpose is shown and does not count:
// it would be there at every look, for ever.
func (s shownDifference) counts() bool {
	switch s.Action {
	case deploy.ActionKeep, deploy.ActionSkip, deploy.ActionDrift:
		return s.Blocked
	}
	return true
}

// wordOrder is that of the summary.
var wordOrder = []string{"created", "changed", "deleted and created again", "deleted", "blocked", "kept", "left alone", "drifted", "not comparable"}

func (s shownDifference) word() (string, func(string, ...any) string) {
	if s.Error != "" {
		return "not comparable", color.RedString
	}
	if s.Blocked {
		return "blocked", color.RedString
	}
	if v, ok := verbs[s.Action]; ok {
		return v.word, v.paint
	}
	return string(s.Action), color.YellowString
}

// maxRepeated is how long a reason may be to stand at each of many objects, in bytes.
const maxRepeated = 60

// writeDifferences prints one block for each object, and at the end how many there are of each sort. Nothing at all where there are none.
func writeDifferences(w io.Writer, all []shownDifference, named bool) error {
	if len(all) == 0 {
		return nil
	}
	var b bytes.Buffer
	counts, target, said := map[string]int{}, "", ""
	for _, s := range all {
		if named && s.Target != target {
			target, said = s.Target, ""
			fmt.Fprintf(&b, "%s\n\n", color.New(color.Bold).Sprint(target))
		}
		word, paint := s.word()
		counts[word]++
		fmt.Fprintf(&b, "► %s %s", color.New(color.Bold).Sprint(printable(s.Object.String())), paint("%s", word))
		switch why := s.why(); {
		case why == "":
		case why == said && len(why) > maxRepeated:
			b.WriteString(" (the same)")
		default:
			fmt.Fprintf(&b, " (%s)", printable(why))
			said = why
		}
		if s.Error != "" {
			fmt.Fprintf(&b, ": %s", printable(s.Error))
		}
		b.WriteString("\n")
		paintDiff(&b, s.Diff)
		b.WriteString("\n")
	}
	var words []string
	for _, word := range wordOrder {
		if n := counts[word]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, word))
		}
	}
	fmt.Fprintln(&b, strings.Join(words, ", "))
	_, err := b.WriteTo(w)
	return err
}

// why is the reason where the word does not say it already.
func (s shownDifference) why() string {
	if s.Error != "" {
		return ""
	}
	switch s.Reason {
	case "new", "changed", "no longer in the artifact":
		return ""
	}
	return s.Reason
}

// paintDiff writes the lines of a unified diff in colour. The numbers of lines in an object mean nothing to people: only gaps are marked.
func paintDiff(b *bytes.Buffer, text string) {
	first := true
	for line := range strings.Lines(text) {
		line = printable(strings.TrimSuffix(line, "\n"))
		switch {
		case strings.HasPrefix(line, "@@"):
			if first {
				first = false
				continue
			}
			line = color.CyanString("@@")
		case strings.HasPrefix(line, "+"):
			line = color.GreenString("%s", line)
		case strings.HasPrefix(line, "-"):
			line = color.RedString("%s", line)
		}
		b.WriteString(line + "\n")
	}
}
