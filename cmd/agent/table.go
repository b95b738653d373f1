package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fatih/color"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/status"
)

// maxMessage is how much of a message a table shows, in characters; explain shows all of it.
const maxMessage = 90

// newTable is a plain table without rules; what goes in is coloured only where stdout is a terminal.
func newTable(w io.Writer, header ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	style := table.StyleLight
	style.Options = table.Options{SeparateHeader: false}
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "   "
	style.Format.Header = text.FormatUpper
	t.SetStyle(style)
	t.AppendHeader(header)
	t.SuppressTrailingSpaces()
	return t
}

// writeSources prints the table of sources.
func writeSources(w io.Writer, sources []deploy.SourceState, namespace string) error {
	if len(sources) == 0 {
		_, err := fmt.Fprintln(w, "no sources")
		return err
	}
	t := newTable(w, "source", "state", "revision", "polled", "message")
	for _, s := range sources {
		t.AppendRow(table.Row{s.Name.Short(namespace), sourceWord(s), shortRevision(s.Revision), ago(s.LastPoll), oneLine(sourceMessage(s))})
	}
	t.Render()
	return nil
}

// sourceMessage says what is wrong with a source, else what is worth knowing of its revision.
func sourceMessage(s deploy.SourceState) string {
	var words []string
	if s.Cached { // first, for a long message is cut
		words = append(words, "from the disk")
	}
	if s.Reason != "" {
		words = append(words, s.Reason+": "+status.Brief(s.Message))
	}
	if s.VerifiedBy != "" {
		words = append(words, "verified: "+s.VerifiedBy)
	}
	return strings.Join(words, "; ")
}

func sourceWord(s deploy.SourceState) string {
	switch {
	case s.Suspended:
		return color.CyanString("Suspended")
	case s.Failures > 0:
		return color.RedString("Failing")
	case s.Ready:
		return color.GreenString("Ready")
	}
	return color.YellowString("Pending")
}

// writeTargets prints the table of targets.
func writeTargets(w io.Writer, targets []deploy.TargetState, namespace string) error {
	if len(targets) == 0 {
		_, err := fmt.Fprintln(w, "no targets")
		return err
	}
	t := newTable(w, "target", "phase", "revision", "since", "message")
	for _, s := range targets {
		t.AppendRow(table.Row{s.Name.Short(namespace), phaseWord(s.Phase), shortRevision(s.Revision), ago(s.Finished), oneLine(targetMessage(s))})
	}
	t.Render()
	return nil
}

// targetMessage is the most important thing to say of a target in one line.
func targetMessage(s deploy.TargetState) string {
	parts := []string{s.Message}
	if s.Reason != "" {
		parts[0] = s.Reason + ": " + s.Message
	}
	if s.Stage != "" {
		parts = append([]string{s.Stage}, parts...)
	}
	if h := s.Held; h != nil && s.Reason != deploy.ReasonRolledBack {
		parts = append(parts, "goes back to "+shortRevision(h.Revision))
	}
	for _, c := range s.Contested {
		parts = append(parts, c.String())
	}
	for _, w := range s.WaitsFor {
		parts = append(parts, "waits for "+w)
	}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), "; ")
}

func phaseWord(p deploy.Phase) string {
	switch p {
	case deploy.PhaseReady:
		return color.GreenString(string(p))
	case deploy.PhaseFailed, deploy.PhaseDegraded:
		return color.RedString(string(p))
	case deploy.PhaseSuspended:
		return color.CyanString(string(p))
	}
	return color.YellowString(string(p))
}

// shortRevision keeps twelve hex digits of a digest.
func shortRevision(r string) string {
	const hexDigits = 12
	at := strings.LastIndex(r, ":")
	if at < 0 || len(r) < at+1+hexDigits {
		return r
	}
	return r[:at+1+hexDigits]
}

// ago is how long something is past, as people say it.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return duration(time.Since(t))
}

func duration(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

func oneLine(s string) string {
	s = status.ShortDigests(strings.Join(strings.Fields(s), " "))
	if r := []rune(s); len(r) > maxMessage {
		return string(r[:maxMessage-1]) + "…"
	}
	return s
}
