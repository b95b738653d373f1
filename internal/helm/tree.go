package helm

import (
	"context"

	"github.com/towline/towline/internal/deploy"
)

// Objects are those of the deployed release's manifest, as the cluster has them.
func (e *Engine) Objects(ctx context.Context, t deploy.Target) ([]deploy.Live, error) {
	return nil, nil
}
