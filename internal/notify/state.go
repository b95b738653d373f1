package notify

import (
	"github.com/towline/towline/internal/deploy"
)

// Known says which digest a source had when the agent ended last, so that finding it again is no news. Call it before the source's first state.
func (n *Notifier) Known(source deploy.Name, digest string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, seen := n.sources[source]; !seen && digest != "" {
		n.sources[source] = sourceMemory{digest: digest}
	}
}

// SourceState hears how a poll went.
func (n *Notifier) SourceState(s deploy.SourceState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	after, events := sourceChanges(n.sources[s.Name], s)
	n.sources[s.Name] = after
	n.send(events...)
}

// SourceGone forgets a source that left the config. Whoever took it out knows.
func (n *Notifier) SourceGone(name deploy.Name) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.sources, name)
}

// TargetState hears what a target is doing.
func (n *Notifier) TargetState(t deploy.TargetState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	after, events := targetChanges(n.targets[t.Name], t)
	n.targets[t.Name] = after
	n.send(events...)
}

// TargetGone hears that a target left for good.
func (n *Notifier) TargetGone(name deploy.Name) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.targets[name]
	delete(n.targets, name)
	if e, ok := targetGone(name, before); ok {
		n.send(e)
	}
}

// ConfigFailed hears that a config was refused. The message is sent as it is, so it must be free of secrets. A nil error is ignored.
func (n *Notifier) ConfigFailed(err error) {
	if err == nil {
		return
	}
	n.configState(err.Error())
}

// ConfigLoaded hears that the config is good.
func (n *Notifier) ConfigLoaded() { n.configState("") }

func (n *Notifier) configState(problem string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e, ok := configChange(n.agent(), n.config, problem)
	n.config = problem
	if ok {
		n.send(e)
	}
}

// kindAgent is the kind that events about the agent itself bear. Nothing of that kind is in the cluster.
const kindAgent deploy.Kind = "Agent"

func (n *Notifier) agent() deploy.Name {
	return deploy.Name{Kind: kindAgent, Namespace: n.options.Namespace, Name: controller}
}
