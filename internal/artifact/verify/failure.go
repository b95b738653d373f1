package verify

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/deploy"
)

// What an error may say at most: it becomes the message of an event.
const (
	// maxFindings is how many bad signatures an error lists.
	maxFindings = 8
	// maxFinding is the length in bytes of what it says about one of them.
	maxFinding = 400
)

func noPolicy(format string, args ...any) error {
	return &deploy.Failure{Reason: deploy.SourceNoPolicy, Err: fmt.Errorf(format, args...)}
}

func unverified(format string, args ...any) error {
	return &deploy.Failure{Reason: deploy.SourceUnverified, Err: fmt.Errorf(format, args...)}
}

// findings is what was found about the signatures of an artifact, none of which was good.
type findings struct {
	bad []string
	// early says that a certificate begins after this machine's now.
	early bool
	// others is how many things were there that are no signatures: attestations.
	others int
	// over is how many were not looked at because there are too many.
	over int
	// unread is the first error of the content: what it hid may have been good.
	unread error
}

// refuse notes what is wrong with one signature.
func (f *findings) refuse(what string, err error) {
	var early *notYet
	if errors.As(err, &early) {
		f.early = true
	}
	f.bad = append(f.bad, shorten(what+": "+err.Error()))
}

// failed notes an error about one signature: bad, not there although it is listed, or unreadable. It reports whether it makes sense to look at the next one.
func (f *findings) failed(what string, err error) bool {
	var bad *badContent
	switch {
	case errors.As(err, &bad):
		f.refuse(what, err)
		return true
	case errors.Is(err, oci.ErrNotFound):
		f.refuse(what, errors.New("it is listed, but not there"))
		return true
	}
	if f.unread == nil {
		f.unread = err
	}
	return !errors.Is(err, oci.ErrRateLimited) // the registry asked to be left alone
}

// err is the verdict over an artifact without a good signature. An error of the content goes first: it says nothing about signatures.
func (f *findings) err(digest string) error {
	switch {
	case f.unread != nil:
		return f.unread
	case len(f.bad) == 0 && f.over == 0:
		err := fmt.Errorf("%s is not signed: no signature is beside it", digest)
		if f.others > 0 {
			err = fmt.Errorf("%w (attestations are no signatures: %d)", err, f.others)
		}
		return &deploy.Failure{Reason: deploy.SourceUnsigned, Err: err}
	}
	said := slices.Clone(f.bad[:min(len(f.bad), maxFindings)])
	if more := len(f.bad) - len(said); more > 0 {
		said = append(said, fmt.Sprintf("and %d more", more))
	}
	if f.over > 0 {
		said = append(said, fmt.Sprintf("%d were not looked at: at most %d are", f.over, maxSignatures))
	}
	text := strings.Join(said, "; ")
	if f.early {
		return &deploy.Failure{Reason: deploy.SourceNotYetValid, Err: fmt.Errorf("no good signature of %s yet: %s", digest, text)}
	}
	return unverified("no good signature of %s: %s", digest, text)
}

// notYet says that something begins in the future.
type notYet struct{ err error }

func (e *notYet) Error() string { return e.err.Error() }

// badContent is content that was read and is not what it has to be.
type badContent struct{ err error }

func (e *badContent) Error() string { return e.err.Error() }
func (e *badContent) Unwrap() error { return e.err }

func bad(format string, args ...any) error { return &badContent{fmt.Errorf(format, args...)} }

// shorten makes one line of bounded length out of text that others wrote, without what steers a terminal or the direction of writing.
func shorten(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\ufffd"), func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
	if len(s) > maxFinding {
		s = strings.ToValidUTF8(s[:maxFinding], "") + "…"
	}
	return s
}
