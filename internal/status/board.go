// Package status is the agent's board: it remembers what every source and target is doing and shows it as HTTP API, metrics and web page, over TCP and a
// unix socket, with the client that reads it back.
package status

import (
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// The gates that every agent has to pass before it is ready.
const (
	GateConfig  = "config"  // opened by ConfigLoaded
	GateCluster = "cluster" // opened by SetReady when the API server answered for the first time
)

// maxTombstones is how many names of things that left the board are kept for streams that have not heard of it yet. A stream that is further behind gets
// the whole board again.
const maxTombstones = 256

// Options of a Board.
type Options struct {
	// Version of the agent, shown everywhere.
	Version string
	// Namespace of the config: names are written short in it.
	Namespace string
	// Gates besides GateConfig and GateCluster that SetReady must open before the agent is ready.
	Gates []string
	// DroppedAlerts is how many alerts each receiver has lost since the start, for the metrics. Nil: unknown. It must be quick.
	DroppedAlerts func() map[string]int
	// CacheUsage is what the cached artifacts take on disk, in bytes, and how many there are, for the metrics. Nil: unknown. It may read the disk.
	CacheUsage func() (bytes int64, entries int, err error)
	// Webhooks calls with each source that has a receiver, each result (accepted, ignored, refused) and how many webhooks had it, for the metrics. Nil: unknown. It must
	// be quick.
	Webhooks func(func(source deploy.Name, result string, n int64))
}

// Board remembers the newest state of everything. Its methods never block, do no I/O and may be called from any goroutine. What is handed to it must not be
// changed afterwards.
type Board struct {
	version   string
	namespace string
	now       func() time.Time
	started   time.Time
	metrics   *metrics
	dropped   func() map[string]int
	cache     func() (bytes int64, entries int, err error)
	webhooks  func(func(source deploy.Name, result string, n int64))

	// mu guards everything below. It is held for map accesses and copying only.
	mu      sync.Mutex
	seq     uint64 // of the last change
	headSeq uint64 // of the last change to config or gates
	config  Config
	gates   map[string]bool
	sources map[deploy.Name]sourceEntry
	targets map[deploy.Name]targetEntry
	// gone holds what left, oldest first; changes up to goneFloor are no longer in it.
	gone      []tombstone
	goneFloor uint64
	watchers  map[chan struct{}]struct{}
}

type sourceEntry struct {
	state deploy.SourceState
	seq   uint64
}

type targetEntry struct {
	state deploy.TargetState
	// ready is how the last attempt ended, and finished when; they stay while the next one runs.
	ready    bool
	finished time.Time
	seq      uint64
}

type tombstone struct {
	name deploy.Name
	seq  uint64
}

// New returns an empty board whose gates are closed.
func New(o Options) *Board {
	b := &Board{
		version:   o.Version,
		namespace: o.Namespace,
		now:       time.Now,
		dropped:   o.DroppedAlerts,
		cache:     o.CacheUsage,
		webhooks:  o.Webhooks,
		gates:     map[string]bool{GateConfig: false, GateCluster: false},
		sources:   map[deploy.Name]sourceEntry{},
		targets:   map[deploy.Name]targetEntry{},
		watchers:  map[chan struct{}]struct{}{},
	}
	b.started = b.now()
	for _, g := range o.Gates {
		b.gates[g] = false
	}
	b.metrics = newMetrics(b)
	return b
}

// SourceState puts the newest state of a source on the board.
func (b *Board) SourceState(s deploy.SourceState) {
	s.URL = withoutUser(s.URL)
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.sources[s.Name].state
	b.metrics.source(old, s)
	b.sources[s.Name] = sourceEntry{state: s, seq: b.changed()}
}

// SourceGone takes a source off the board.
func (b *Board) SourceGone(n deploy.Name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.sources[n]; !ok {
		return
	}
	delete(b.sources, n)
	b.metrics.sourceGone(n)
	b.bury(n)
}

// TargetState puts the newest state of a target on the board.
func (b *Board) TargetState(t deploy.TargetState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, known := b.targets[t.Name]
	e := targetEntry{state: t, ready: lastReady(t, old.ready, known), finished: old.finished, seq: b.changed()}
	if t.Finished.After(e.finished) {
		e.finished = t.Finished
	}
	b.metrics.target(b.started, old.finished, t)
	b.targets[t.Name] = e
}

// TargetGone takes a target off the board.
func (b *Board) TargetGone(n deploy.Name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.targets[n]; !ok {
		return
	}
	delete(b.targets, n)
	b.metrics.targetGone(n)
	b.bury(n)
}

// ConfigLoaded says that a config is in force, how many entries it has, and opens GateConfig. The error of an earlier one is forgotten.
func (b *Board) ConfigLoaded(hash string, sources, targets int, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.config = Config{Hash: hash, Sources: sources, Targets: targets, LoadedAt: at}
	b.gates[GateConfig] = true
	b.headSeq = b.changed()
}

// ConfigFailed says that a config was refused; the one in force stays. The message is shown as it is, so it must be free of secrets. A nil error is ignored.
func (b *Board) ConfigFailed(err error) {
	if err == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.config.Error, b.config.FailedAt = err.Error(), b.now()
	b.headSeq = b.changed()
}

// SetReady opens or closes a gate; a name that is new adds one. The agent is ready while all gates are open. Nothing is latched: whoever wants "at least once"
// opens the gate and leaves it.
func (b *Board) SetReady(gate string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if was, known := b.gates[gate]; known && was == ok {
		return
	}
	b.gates[gate] = ok
	b.headSeq = b.changed()
}

// changed counts a change and wakes the watchers. Call with mu held.
func (b *Board) changed() uint64 {
	b.seq++
	for w := range b.watchers {
		select {
		case w <- struct{}{}:
		default: // it has a wake-up waiting already
		}
	}
	return b.seq
}

// bury remembers that a name left. Call with mu held.
func (b *Board) bury(n deploy.Name) {
	b.gone = append(b.gone, tombstone{name: n, seq: b.changed()})
	if len(b.gone) > maxTombstones {
		b.goneFloor = b.gone[0].seq
		b.gone = append(b.gone[:0:0], b.gone[1:]...)
	}
}

// watch returns a channel that holds a token whenever something changed since the last receive, and the function that ends it.
func (b *Board) watch() (changes <-chan struct{}, stop func()) {
	w := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers[w] = struct{}{}
	return w, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers, w)
	}
}

// lastReady is whether the last attempt that ended was Ready. While one runs, and while the target is suspended, that is what it was before; after a restart,
// what the history says.
func lastReady(t deploy.TargetState, before, known bool) bool {
	switch {
	case t.Phase == deploy.PhaseReady:
		return true
	case !running(t.Phase) && t.Phase != deploy.PhaseSuspended:
		return false
	case t.Failures > 0:
		return false
	case known:
		return before
	default:
		return len(t.History) > 0 && t.History[0].Phase == deploy.PhaseReady
	}
}

// running reports whether a phase is a stage of an attempt.
func running(p deploy.Phase) bool {
	switch p {
	case deploy.PhaseBuilding, deploy.PhasePlanning, deploy.PhaseApplying, deploy.PhaseWaiting, deploy.PhasePruning:
		return true
	}
	return false
}

// withoutUser cuts user and password out of a URL. The config refuses such URLs; the board is public and does not rely on that.
func withoutUser(s string) string {
	if !strings.Contains(s, "@") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "(not a URL)"
	}
	u.User = nil
	return u.String()
}
