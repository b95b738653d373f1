package kube

// Close drops all clients but the agent's own, so that a test can see that no connection stays. The agent itself has no use for it: it ends.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ref, c := range p.clusters {
		if ref != (reference{}) {
			c.close()
		}
	}
	clear(p.clusters)
}
