package applier

import (
	"context"

	"github.com/towline/towline/internal/deploy"
)

// Objects are what the target's inventory lists, as the cluster has it.
func (e *Engine) Objects(ctx context.Context, t deploy.Target) ([]deploy.Live, error) {
	return nil, nil
}
