package applier

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
)

// Retries within a run are for what passes by itself in seconds: a webhook that is starting, a CRD that the server has just accepted, an overloaded or restarting
// API server. What takes longer is the scheduler's to repeat.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 1600 * time.Millisecond
	retryTries = 7 // 4.7 s in all
)

// Errors about an inventory that no retry cures.
var (
	errMissingNamespace = errors.New("namespace not found")
	errUnreadable       = errors.New("inventory is unreadable")
)

// retry calls try until it succeeds, fails for good, or has been called retryTries times. The error is the last one.
func retry(ctx context.Context, again func(error) bool, try func() error) error {
	return retryPausing(ctx, sleep, again, try)
}

// retryPausing is retry with another way to let time pass.
func retryPausing(ctx context.Context, pause func(context.Context, time.Duration) error, again func(error) bool, try func() error) error {
	wait := retryFirst
	for n := 1; ; n++ {
		err := try()
		if err == nil || n == retryTries || ctx.Err() != nil || !again(err) {
			return err
		}
		if pause(ctx, max(wait, asked(err))) != nil {
			return err
		}
		wait = min(wait*2, retryMost)
	}
}

// asked is how long the server wants to be left alone.
func asked(err error) time.Duration {
	const most = 30 * time.Second // a run does not hang for longer on one answer
	seconds, _ := apierrors.SuggestsClientDelay(err)
	return min(time.Duration(seconds)*time.Second, most)
}

// unready reports whether an admission or conversion webhook could not be called: its server is starting, or part of what is being applied.
func unready(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code < 500 {
		return false
	}
	text := status.Status().Message
	return strings.Contains(text, "failed calling webhook") || strings.Contains(text, "conversion webhook for") && strings.Contains(text, "failed")
}

// sleep waits, or returns the context's error as soon as it ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lostError is a request whose answer did not arrive whole: the server may or may not have done what was asked.
type lostError struct{ err error }

func (l *lostError) Error() string { return l.err.Error() }
func (l *lostError) Unwrap() error { return l.err }

// transient reports whether an error may be gone in a moment.
func transient(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		switch {
		case apierrors.IsTooManyRequests(err), apierrors.IsTimeout(err), apierrors.IsConflict(err):
			return true
		}
		return status.Status().Code >= 500 // a webhook that cannot be called is an internal error
	}
	var connection net.Error // *url.Error is one
	var lost *lostError
	var stale discovery.StaleGroupVersionError
	return errors.As(err, &connection) || errors.As(err, &lost) || errors.As(err, &stale) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// transientOrRaced also takes what compare-and-swap answers when somebody else was first.
func transientOrRaced(err error) bool {
	return transient(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}
