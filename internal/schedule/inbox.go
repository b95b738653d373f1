package schedule

import (
	"slices"
	"sync"

	"github.com/towline/towline/internal/deploy"
)

// inbox holds what was told to the scheduler since its goroutine last looked. It keeps the latest value of each thing, so it is bounded by the number of
// sources and targets.
type inbox struct {
	// signal has capacity 1: one pending wake-up is enough.
	signal chan struct{}

	mu    sync.Mutex // guards what follows
	known map[deploy.Name]bool
	// closed: nobody reads any more.
	closed bool
	mail   mail
}

// mail is one batch of news.
type mail struct {
	set       bool // targets were given, maybe none
	targets   []deploy.Target
	unknown   map[deploy.Name]bool // sources whose revision so far is void; it goes before revisions
	revisions map[deploy.Name]deploy.Revision
	sources   map[deploy.Name]deploy.SourceState
	forced    map[deploy.Name]force
	drifted   map[deploy.Name]drifted
	progress  map[deploy.Name]stage
	waiters   []chan<- []deploy.TargetState
	orders    map[deploy.Name]*order
	contests  map[deploy.Name][]deploy.Contest
}

// stage is where a running attempt is.
type stage struct {
	phase deploy.Phase
	words string
}

// force is why a target is to be run now, a set of bits.
type force uint8

const (
	forceAsked   force = 1 << iota // somebody wants it
	forceAgain                     // somebody wants what is held back to be tried again
	forceChanged                   // something that it is made of is another than before
	forceDrifted                   // somebody changed what it put into the cluster
)

// drifted are the objects of a target that somebody changed, without doubles. unsure: there may be others.
type drifted struct {
	objects []deploy.ObjectID
	unsure  bool
}

// and adds further objects; none: it is not known which.
func (d drifted) and(objects []deploy.ObjectID) drifted {
	d.unsure = d.unsure || len(objects) == 0
	for _, o := range objects {
		if !slices.Contains(d.objects, o) {
			d.objects = append(d.objects, o)
		}
	}
	return d
}

func newMail() mail {
	return mail{
		unknown:   make(map[deploy.Name]bool),
		revisions: make(map[deploy.Name]deploy.Revision),
		sources:   make(map[deploy.Name]deploy.SourceState),
		forced:    make(map[deploy.Name]force),
		drifted:   make(map[deploy.Name]drifted),
		progress:  make(map[deploy.Name]stage),
		orders:    make(map[deploy.Name]*order),
		contests:  make(map[deploy.Name][]deploy.Contest),
	}
}

func newInbox() *inbox { return &inbox{signal: make(chan struct{}, 1), mail: newMail()} }

// put changes the pending mail and wakes the scheduler.
func (b *inbox) put(change func(*mail)) {
	b.mu.Lock()
	change(&b.mail)
	b.mu.Unlock()
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

// take empties the inbox.
func (b *inbox) take() mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mail
	b.mail = newMail()
	return m
}

func (b *inbox) putTargets(targets []deploy.Target) {
	known := make(map[deploy.Name]bool, len(targets))
	for _, t := range targets {
		known[t.Name] = true
	}
	b.put(func(m *mail) { m.set, m.targets, b.known = true, targets, known })
}

func (b *inbox) putRevision(r deploy.Revision) {
	b.put(func(m *mail) { m.revisions[r.Source] = r })
}

func (b *inbox) putUnknown(n deploy.Name) {
	b.put(func(m *mail) {
		m.unknown[n] = true
		delete(m.revisions, n)
		delete(m.sources, n)
	})
}

func (b *inbox) putSource(st deploy.SourceState) {
	b.put(func(m *mail) { m.sources[st.Name] = st })
}

func (b *inbox) putForced(n deploy.Name, f force) (known bool) {
	b.put(func(m *mail) {
		if known = b.known[n]; known {
			m.forced[n] |= f
		}
	})
	return known
}

func (b *inbox) putDrifted(n deploy.Name, objects []deploy.ObjectID) {
	b.put(func(m *mail) {
		if b.known[n] {
			m.forced[n] |= forceDrifted
			m.drifted[n] = m.drifted[n].and(objects)
		}
	})
}

func (b *inbox) putProgress(n deploy.Name, st stage) {
	b.put(func(m *mail) { m.progress[n] = st })
}

func (b *inbox) putWaiter(w chan<- []deploy.TargetState) {
	b.put(func(m *mail) { m.waiters = append(m.waiters, w) })
}
