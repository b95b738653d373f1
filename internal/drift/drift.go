// Package drift watches what targets have put into clusters, and says which of them somebody else has changed.
package drift

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

// Holding is what a target has in a cluster. The zero value is nothing.
type Holding struct {
	// Clients of the cluster, as the account that the target works as.
	Clients *kube.Clients
	Kinds   deploy.ObjectKinds
}

// Sight is one object as an event of the API server shows it.
type Sight struct {
	Object deploy.ObjectID
	UID    types.UID
	// Metadata is nil where the object is gone, or does not bear the target's label any more.
	Metadata *metav1.PartialObjectMetadata
	// First: it is how the object was found when the watch began; nobody knows of a change.
	First bool
}

// Judge reports whether an object is not as its target left it. It makes no request and is called for a target that has no attempt under way.
type Judge func(t deploy.Target, s Sight) bool

// ByOthers judges by who wrote last, for objects of which nothing is remembered.
func ByOthers(_ deploy.Target, s Sight) bool {
	return !s.First && (s.Metadata == nil || !writtenByUs(s.Metadata.ManagedFields))
}

// writtenByUs reports whether the newest write, status aside, is ours. The time of writes has whole seconds, so one of somebody else in the same second is the newer one.
func writtenByUs(managed []metav1.ManagedFieldsEntry) bool {
	var ours, theirs metav1.Time
	for _, m := range managed {
		if m.Subresource != "" || m.Time == nil {
			continue
		}
		newest := &theirs
		if m.Manager == deploy.FieldManager {
			newest = &ours
		}
		if newest.Before(m.Time) {
			*newest = *m.Time
		}
	}
	return theirs.Before(&ours)
}

// News hears what was seen. It never blocks.
type News interface {
	// Drifted says which of a target's objects are not as it left them.
	Drifted(n deploy.Name, objects []deploy.ObjectID)
	// Contested says which objects of a target others insist on from now on: none, where they gave in.
	Contested(deploy.Name, []deploy.Contest)
}

// Watcher watches the objects of targets: their metadata, one watch for each kind in each cluster, however many targets have objects of it. Safe for concurrent use.
type Watcher struct {
	judges map[deploy.Kind]Judge
	news   News
	log    *zap.Logger
	now    func() time.Time

	// signal has capacity 1: one pending wake-up is enough.
	signal chan struct{}
	mu     sync.Mutex // guards what follows
	wanted map[deploy.Name]bool
	// targets by the value of the label that their objects bear.
	targets map[string]*target
	// live are the kinds that are watched everywhere now.
	live map[key]bool
}

// target is one whose objects are watched.
type target struct {
	spec    deploy.Target
	holding Holding
	// busy: an attempt is under way. What is seen meanwhile waits for its end, since the attempt may have done it; of each object the last sight counts.
	busy    bool
	pending map[deploy.ObjectID]Sight
	bouts   map[deploy.ObjectID]*bout
}

func newTarget(spec deploy.Target, h Holding) *target {
	return &target{spec: spec, holding: h, pending: map[deploy.ObjectID]Sight{}, bouts: map[deploy.ObjectID]*bout{}}
}

// New makes a watcher. Kinds of targets without a judge are judged ByOthers. No request is made before Run.
func New(judges map[deploy.Kind]Judge, news News, log *zap.Logger) *Watcher {
	return &Watcher{judges: judges, news: news, log: log, now: time.Now, signal: make(chan struct{}, 1), wanted: map[deploy.Name]bool{}, targets: map[string]*target{}, live: map[key]bool{}}
}

// Set says which targets there are. What others left is not watched any more, nor what suspended ones have; those that are new are watched from the end of their next attempt.
func (w *Watcher) Set(targets []deploy.Target) {
	wanted := make(map[deploy.Name]bool, len(targets))
	for _, t := range targets {
		if !t.Suspend {
			wanted[t.Name] = true
		}
	}
	w.mu.Lock()
	w.wanted = wanted
	var calm []deploy.Name
	for label, t := range w.targets {
		if !wanted[t.spec.Name] && w.remove(label) {
			calm = append(calm, t.spec.Name)
		}
	}
	w.mu.Unlock()
	for _, n := range calm {
		w.news.Contested(n, nil)
	}
	w.wake()
}

// remove lets a target go, and reports whether others insisted on objects of it. Called with mu held.
func (w *Watcher) remove(label string) (contested bool) {
	t := w.targets[label]
	delete(w.targets, label)
	return t != nil && len(t.contests()) > 0
}

// Begin says that an attempt for a target is under way.
func (w *Watcher) Begin(n deploy.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	label := n.LabelValue()
	if w.wanted[n] && w.targets[label] == nil {
		w.targets[label] = newTarget(deploy.Target{Name: n}, Holding{}) // another target's watch may show its objects before it ends
	}
	if t := w.targets[label]; t != nil {
		t.busy = true
	}
}

// End says that the attempt has ended, and what the target has now. What was seen in the meantime is judged.
func (w *Watcher) End(spec deploy.Target, h Holding) {
	label := spec.Name.LabelValue()
	w.mu.Lock()
	before := w.targets[label]
	if !w.wanted[spec.Name] || len(h.Kinds) == 0 {
		contested := w.remove(label)
		w.mu.Unlock()
		if contested {
			w.news.Contested(spec.Name, nil)
		}
		w.wake()
		return
	}
	t := newTarget(spec, h)
	w.targets[label] = t
	var pending []Sight
	news := true
	if before != nil {
		pending, t.bouts = slices.Collect(maps.Values(before.pending)), before.bouts
		news = before.holding.Clients != h.Clients || !maps.EqualFunc(before.holding.Kinds, h.Kinds, slices.Equal)
	}
	w.mu.Unlock()
	if news {
		w.wake()
	}
	w.consider(t, pending)
}

// Watches reports whether every kind of object that a target has is being watched now, everywhere.
func (w *Watcher) Watches(n deploy.Name) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.targets[n.LabelValue()]
	if t == nil || len(t.holding.Kinds) == 0 {
		return false
	}
	for kind := range t.holding.Kinds {
		if !w.live[key{t.holding.Clients, kind}] {
			return false
		}
	}
	return true
}

// isLive notes whether a kind is watched everywhere now.
func (w *Watcher) isLive(k key, yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.live, k); yes {
		w.live[k] = true
	}
}

// see takes in what a watch shows.
func (w *Watcher) see(clients *kube.Clients, label string, s Sight) {
	w.mu.Lock()
	t := w.targets[label]
	if t == nil || !t.busy && t.holding.Clients != clients { // where a busy one works will be known at its end
		w.mu.Unlock()
		return
	}
	if t.busy {
		if before, ok := t.pending[s.Object]; ok {
			s.First = s.First && before.First
		}
		t.pending[s.Object] = s
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	w.consider(t, []Sight{s})
}

// consider judges sights of a target's objects, and tells it where one of them is of drift that is not to be left for later.
func (w *Watcher) consider(t *target, sights []Sight) {
	drifts := slices.DeleteFunc(sights, func(s Sight) bool { return !w.judge(t.spec, s) })
	if len(drifts) == 0 {
		return
	}
	w.mu.Lock()
	tell, changed := w.struck(t, drifts)
	contests := t.contests()
	w.mu.Unlock()
	if changed {
		w.news.Contested(t.spec.Name, contests)
	}
	if len(tell) > 0 {
		w.tell(t.spec.Name, tell)
	}
	if len(contests) > 0 {
		w.wake() // to set the time of the reminder
	}
}

func (w *Watcher) judge(spec deploy.Target, s Sight) bool {
	if judge := w.judges[spec.Name.Kind]; judge != nil {
		return judge(spec, s)
	}
	return ByOthers(spec, s)
}

func (w *Watcher) tell(n deploy.Name, objects []deploy.ObjectID) {
	w.log.Debug("drift was seen", zap.Stringer("target", n), zap.Stringers("objects", objects))
	w.news.Drifted(n, objects)
}

func (w *Watcher) wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// key names a watch: a kind in a cluster, as one account.
type key struct {
	clients *kube.Clients
	kind    schema.GroupKind
}

// scopes are the kinds that targets have now, and the namespaces that these are in.
func (w *Watcher) scopes() map[key][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	scopes := map[key][]string{}
	for _, t := range w.targets {
		for kind, namespaces := range t.holding.Kinds {
			k := key{t.holding.Clients, kind}
			scopes[k] = append(scopes[k], namespaces...)
		}
	}
	for k, namespaces := range scopes {
		slices.Sort(namespaces)
		scopes[k] = slices.Compact(namespaces)
	}
	return scopes
}

// Run watches until ctx ends, and returns when everything that it started has ended. The error is nil.
func (w *Watcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	followers := map[key]*follower{}
	defer func() {
		for _, f := range followers {
			f.stop()
		}
	}()
	reminder := time.NewTimer(0)
	defer reminder.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reminder.C:
		case <-w.signal:
		}
		reminder.Stop()
		if next := w.remind(); !next.IsZero() {
			reminder.Reset(next.Sub(w.now()))
		}
		scopes := w.scopes()
		for k, f := range followers {
			namespaces, wanted := scopes[k]
			if !wanted || f.confined.Load() && !slices.Equal(f.namespaces, namespaces) {
				f.stop()
				delete(followers, k)
			}
		}
		for k, namespaces := range scopes {
			if followers[k] != nil {
				continue
			}
			mine, stop := context.WithCancel(ctx)
			f := &follower{watcher: w, key: k, namespaces: namespaces, stop: stop}
			followers[k] = f
			running.Go(func() { f.run(mine) })
		}
	}
}
