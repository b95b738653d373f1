package applier

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/apis/actuation"
	"sigs.k8s.io/cli-utils/pkg/common"
	"sigs.k8s.io/cli-utils/pkg/inventory"
	"sigs.k8s.io/cli-utils/pkg/object"
)

// client is the inventory of one operation as cli-utils' tasks see it. The sets of ids that they hand over say too little (an apply whose answer was lost, say,
// is not among them), so what is written comes from the operation's own notes. It holds the operation's context because the interface passes none.
type client struct {
	run *run
	ctx context.Context
}

var _ inventory.Client = client{}

// Merge is called before the first apply.
func (c client) Merge(inventory.Info, object.ObjMetadataSet, common.DryRunStrategy) (object.ObjMetadataSet, error) {
	return nil, c.run.begin(c.ctx)
}

// Replace is called when everything has been done, or has been cut short.
func (c client) Replace(inventory.Info, object.ObjMetadataSet, []actuation.ObjectStatus, common.DryRunStrategy) error {
	ctx, cancel := detached(c.ctx)
	defer cancel()
	return c.run.record(ctx)
}

// DeleteInventoryObj is called after a deletion without failures. The record without entries is a deleted ConfigMap.
func (c client) DeleteInventoryObj(inventory.Info, common.DryRunStrategy) error {
	return c.Replace(nil, nil, nil, common.DryRunNone)
}

// GetClusterObjs lists what is recorded now.
func (c client) GetClusterObjs(inventory.Info) (object.ObjMetadataSet, error) {
	known, err := c.run.engine.store.read(c.ctx, c.run.info)
	if err != nil {
		return nil, err
	}
	var ids object.ObjMetadataSet
	for id := range known {
		ids = append(ids, id)
	}
	return ids, nil
}

// ApplyInventoryNamespace has nothing to do: the agent's namespace is there before the agent.
func (c client) ApplyInventoryNamespace(*unstructured.Unstructured, common.DryRunStrategy) error {
	return nil
}

// GetClusterInventoryInfo, GetClusterInventoryObjs and ListClusterInventoryObjs are for cli-utils' own appliers, which we do not use.
func (c client) GetClusterInventoryInfo(inventory.Info) (*unstructured.Unstructured, error) {
	return nil, nil
}

// GetClusterInventoryObjs is unused.
func (c client) GetClusterInventoryObjs(inventory.Info) (object.UnstructuredSet, error) {
	return nil, nil
}

// ListClusterInventoryObjs is unused.
func (c client) ListClusterInventoryObjs(context.Context) (map[string]object.ObjMetadataSet, error) {
	return nil, nil
}
