package artifact

import (
	"context"
	"errors"
	"fmt"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/artifact/store"
	"github.com/towline/towline/internal/deploy"
)

// failure gives an error the word that the board, events and alerts tell it by. A RetryAfter that is inside stays findable.
func failure(doing string, err error) error {
	reason := deploy.SourceFailed
	var f *deploy.Failure
	var limit *store.LimitError
	switch {
	case errors.As(err, &f):
		reason = f.Reason
	case errors.As(err, &limit):
		reason = deploy.SourceOverLimit
	case errors.Is(err, store.ErrInvalid), errors.Is(err, oci.ErrDigest):
		reason = deploy.SourceInvalidArtifact
	case errors.Is(err, oci.ErrRoute):
		reason = deploy.SourceNoCredentials
	case errors.Is(err, oci.ErrClock):
		reason = deploy.SourceNotYetValid
	case errors.Is(err, ErrUnauthorized):
		reason = deploy.SourceUnauthorized
	case errors.Is(err, ErrRateLimited):
		reason = deploy.SourceRateLimited
	case errors.Is(err, ErrNotFound):
		reason = deploy.SourceNotFound
	case errors.Is(err, ErrUnavailable):
		reason = deploy.SourceUnavailable
	case errors.Is(err, ErrNetwork):
		reason = deploy.SourceNetwork
	case errors.Is(err, context.DeadlineExceeded):
		reason = deploy.SourceTimeout
	}
	return &deploy.Failure{Reason: reason, Err: fmt.Errorf("%s: %w", doing, err)}
}

// invalid is an artifact that is no good, as far as its manifest says.
func invalid(format string, args ...any) error {
	return &deploy.Failure{Reason: deploy.SourceInvalidArtifact, Err: fmt.Errorf(format, args...)}
}

// passing reports whether an error is of a kind that another place, or a later time, may not have.
func passing(err error) bool {
	return errors.Is(err, ErrNetwork) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrRateLimited) || errors.Is(err, context.DeadlineExceeded)
}
