package applier

import (
	"context"

	"github.com/towline/towline/internal/deploy"
)

// Diff says what an attempt for the work would change in the cluster. It writes nothing.
func (e *Engine) Diff(ctx context.Context, w deploy.Work) ([]deploy.Difference, error) {
	return nil, nil
}
