package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with the config, in words that say what to do about it. It never holds a value from below values.
type Problem struct {
	// File as it was given to Load, or below the folder that was.
	File string
	// Line and Column count from 1; 0 means the whole file.
	Line, Column int
	Message      string
}

// String is file:line: message, or file: message where the problem has no line.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Message)
}

// maxMessage is how long one message may be, in bytes: a value that is quoted in it may be of any length.
const maxMessage = 600

// shortened leaves out the middle of a message that is too long: what is wrong stands at its beginning, what to do at its end.
func shortened(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	const half = maxMessage / 2
	return strings.ToValidUTF8(text[:half], "") + " (...) " + strings.ToValidUTF8(text[len(text)-half:], "")
}

// Error lists everything that is wrong with a config, ordered by file and line.
type Error struct {
	Problems []Problem
}

// maxPrinted is how many problems one message holds: it goes into logs and events. Problems has them all.
const maxPrinted = 200

// Error is one problem a line.
func (e *Error) Error() string {
	var lines []string
	for _, p := range e.Problems[:min(len(e.Problems), maxPrinted)] {
		lines = append(lines, p.String())
	}
	if more := len(e.Problems) - maxPrinted; more > 0 {
		lines = append(lines, fmt.Sprintf("... and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// newError sorts the problems and drops repetitions: an anchor with a problem is met once for each of its aliases.
func newError(problems []Problem) *Error {
	ps := slices.Clone(problems)
	slices.SortFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	})
	return &Error{Problems: slices.Compact(ps)}
}
