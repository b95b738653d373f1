package status

import (
	"maps"
	"slices"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// Head is what the board says of the agent itself.
type Head struct {
	Version   string    `json:"version"`
	Namespace string    `json:"namespace"`
	Started   time.Time `json:"started"`
	// At is when the snapshot was taken, by the agent's clock.
	At    time.Time `json:"at"`
	Ready bool      `json:"ready"`
	// Missing names the gates that are still closed, sorted.
	Missing []string `json:"missing,omitempty"`
	Config  Config   `json:"config"`
}

// Config says which config is in force and, if a newer one was refused, why.
type Config struct {
	Hash     string    `json:"hash,omitempty"`
	Sources  int       `json:"sources"`
	Targets  int       `json:"targets"`
	LoadedAt time.Time `json:"loadedAt,omitzero"`
	// Error of the newest config where it was refused; that of Hash stays in force.
	Error    string    `json:"error,omitempty"`
	FailedAt time.Time `json:"failedAt,omitzero"`
}

// Status is a snapshot of the whole board, sources and targets sorted by name.
type Status struct {
	Head
	Summary Summary              `json:"summary"`
	Sources []deploy.SourceState `json:"sources"`
	Targets []deploy.TargetState `json:"targets"`
}

// Summary counts.
type Summary struct {
	Sources SourceCounts `json:"sources"`
	Targets TargetCounts `json:"targets"`
}

// SourceCounts counts sources; each is in exactly one of the others than Total.
type SourceCounts struct {
	Total     int `json:"total"`
	Ready     int `json:"ready"`
	Failing   int `json:"failing"`
	Pending   int `json:"pending"`
	Suspended int `json:"suspended"`
}

// TargetCounts counts targets by phase; each is in exactly one of the others than Total.
type TargetCounts struct {
	Total     int `json:"total"`
	Ready     int `json:"ready"`
	Running   int `json:"running"`
	Pending   int `json:"pending"`
	Degraded  int `json:"degraded"`
	Failed    int `json:"failed"`
	Suspended int `json:"suspended"`
	Deleting  int `json:"deleting"`
}

// summarize counts.
func summarize(sources []deploy.SourceState, targets []deploy.TargetState) Summary {
	var s Summary
	s.Sources.Total, s.Targets.Total = len(sources), len(targets)
	for _, src := range sources {
		switch {
		case src.Suspended:
			s.Sources.Suspended++
		case src.Failures > 0:
			s.Sources.Failing++
		case src.Ready:
			s.Sources.Ready++
		default:
			s.Sources.Pending++
		}
	}
	for _, t := range targets {
		*s.Targets.of(t.Phase)++
	}
	return s
}

// of is the counter that a phase belongs to.
func (c *TargetCounts) of(p deploy.Phase) *int {
	switch {
	case running(p):
		return &c.Running
	case p == deploy.PhaseReady:
		return &c.Ready
	case p == deploy.PhaseDegraded:
		return &c.Degraded
	case p == deploy.PhaseFailed:
		return &c.Failed
	case p == deploy.PhaseSuspended:
		return &c.Suspended
	case p == deploy.PhaseDeleting:
		return &c.Deleting
	}
	return &c.Pending
}

// Status is a snapshot of the whole board.
func (b *Board) Status() Status {
	s, _ := b.snapshot()
	return s
}

// snapshot is Status together with the change that it is as new as.
func (b *Board) snapshot() (Status, uint64) {
	b.mu.Lock()
	s := Status{
		Head:    b.head(),
		Sources: make([]deploy.SourceState, 0, len(b.sources)),
		Targets: make([]deploy.TargetState, 0, len(b.targets)),
	}
	for _, e := range b.sources {
		s.Sources = append(s.Sources, e.state)
	}
	for _, e := range b.targets {
		s.Targets = append(s.Targets, e.state)
	}
	seq := b.seq
	b.mu.Unlock()

	slices.SortFunc(s.Sources, func(x, y deploy.SourceState) int { return x.Name.Compare(y.Name) })
	slices.SortFunc(s.Targets, func(x, y deploy.TargetState) int { return x.Name.Compare(y.Name) })
	s.Summary = summarize(s.Sources, s.Targets)
	return s, seq
}

// head is the agent's own part. Call with mu held.
func (b *Board) head() Head {
	h := Head{Version: b.version, Namespace: b.namespace, Started: b.started, At: b.now(), Ready: true, Config: b.config}
	for _, gate := range slices.Sorted(maps.Keys(b.gates)) {
		if !b.gates[gate] {
			h.Ready = false
			h.Missing = append(h.Missing, gate)
		}
	}
	return h
}

// delta is what changed on the board since some moment.
type delta struct {
	head    *Head // nil: unchanged
	gone    []deploy.Name
	sources []deploy.SourceState
	targets []deploy.TargetState
}

// since is what changed after the change seq, and the newest change. It is not complete where the board no longer knows all that left since: the caller starts
// over with a snapshot.
func (b *Board) since(seq uint64) (d delta, newest uint64, complete bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if seq < b.goneFloor {
		return delta{}, 0, false
	}
	if b.headSeq > seq {
		h := b.head()
		d.head = &h
	}
	for _, g := range b.gone {
		if g.seq > seq {
			d.gone = append(d.gone, g.name)
		}
	}
	for _, e := range b.sources {
		if e.seq > seq {
			d.sources = append(d.sources, e.state)
		}
	}
	for _, e := range b.targets {
		if e.seq > seq {
			d.targets = append(d.targets, e.state)
		}
	}
	return d, b.seq, true
}
