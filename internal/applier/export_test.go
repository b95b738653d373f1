package applier

// SetShardMax lowers how many bytes of lines fill one ConfigMap of an inventory.
func (e *Engine) SetShardMax(n int) { e.store.shardMax = n }
