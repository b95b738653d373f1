package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fatih/color"
	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/status"
)

// explainSource prints all that the running agent knows of a source.
func explainSource(c *cobra.Command, client *status.Client, name deploy.Name, output outputFlag) error {
	s, err := client.Status(c.Context())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(s.Sources, func(x deploy.SourceState) bool { return x.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no source %s/%s in the config: towline status lists what there is", name.Namespace, name.Name)
	}
	var used []string
	for _, t := range s.Targets {
		if t.Source == name {
			used = append(used, t.Name.Short(s.Namespace))
		}
	}
	return output.write(c.OutOrStdout(), s.Sources[i], func(w io.Writer) error {
		_, err := io.WriteString(w, sourceExplanation(s.Sources[i], used, s.Namespace))
		return err
	})
}

// sourceExplanation is a source's state for people.
func sourceExplanation(s deploy.SourceState, used []string, namespace string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is %s\n", color.New(color.Bold).Sprint(s.Name.Short(namespace)), sourceWord(s))
	switch {
	case s.Message != "":
		fmt.Fprintf(&b, "  %s\n", strings.TrimPrefix(s.Reason+": "+printable(s.Message), ": "))
	case s.LastPoll.IsZero() && !s.Suspended:
		b.WriteString("  It was not polled yet.\n")
	}
	if s.Failures > 0 {
		fmt.Fprintf(&b, "  That was failure %d in a row.\n", s.Failures)
	}
	if s.Failures > 0 && s.Revision != "" {
		fmt.Fprintf(&b, "  Held meanwhile: %s.\n", shortRevision(s.Revision))
	}
	if s.Cached {
		b.WriteString("  Its revision is from the disk: it was not reached since the agent started.\n")
	}
	b.WriteString("\n")
	row := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-14s %s\n", label+":", printable(value))
		}
	}
	row("URL", s.URL)
	row("Revision", s.Revision)
	row("Verified", s.VerifiedBy)
	if !s.LastPoll.IsZero() {
		row("Last poll", ago(s.LastPoll)+" ago")
	}
	if !s.NextPoll.IsZero() && !s.Suspended {
		row("Next poll", "in "+duration(time.Until(s.NextPoll)))
	}
	row("Used by", strings.Join(used, ", "))
	for i, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		if i == 0 {
			b.WriteString("\nAnnotations:\n")
		}
		fmt.Fprintf(&b, "  %s: %s\n", printable(key), printable(s.Annotations[key]))
	}
	return b.String()
}
