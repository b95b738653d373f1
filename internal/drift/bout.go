package drift

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/deploy"
)

const (
	// boutCount times within boutWindow an object may drift and be put right at once. Beyond that somebody else insists, and an agent that insisted as fast would keep the cluster busy.
	boutCount  = 5
	boutWindow = 2 * time.Minute
	// firstBout and mostBout bound the pauses then; each is twice the one before.
	firstBout = time.Minute
	mostBout  = 30 * time.Minute
)

// bout is how often one object has drifted lately. Pure: the time is given.
type bout struct {
	// times of drift that was told, within boutWindow.
	times []time.Time
	// pause is how long the object is left alone from time to time; 0: nobody insists.
	pause time.Duration
	// until is when the pause ends. due: it drifted again since the pause began.
	until time.Time
	due   bool
	// by names those who insist.
	by string
}

// strike takes in that the object drifted, and reports whether that is to be told now. paused says that a pause begins with it.
func (b *bout) strike(now time.Time) (tell, paused bool) {
	if now.Before(b.until) {
		b.due = true
		return false, false
	}
	if b.over(now) {
		b.pause = 0
	}
	b.times = slices.DeleteFunc(b.times, func(t time.Time) bool { return now.Sub(t) > boutWindow })
	b.times = append(b.times, now)
	if b.pause == 0 && len(b.times) < boutCount {
		return true, false
	}
	b.times, b.due = nil, false
	b.pause = min(max(2*b.pause, firstBout), mostBout)
	b.until = now.Add(b.pause)
	return true, true
}

// over reports whether nothing has happened for so long that what was is forgotten.
func (b *bout) over(now time.Time) bool {
	return !b.due && !now.Before(b.end()) && (len(b.times) == 0 || now.Sub(b.times[len(b.times)-1]) > boutWindow)
}

// end is when a pause is forgotten if nothing happens.
func (b *bout) end() time.Time { return b.until.Add(max(b.pause, boutWindow)) }

// contests are the objects that others insist on. Called with mu held.
func (t *target) contests() (list []deploy.Contest) {
	for id, b := range t.bouts {
		if b.pause > 0 {
			list = append(list, deploy.Contest{Object: id, By: b.by, Pause: b.pause.Seconds()})
		}
	}
	slices.SortFunc(list, func(a, b deploy.Contest) int { return strings.Compare(a.Object.String(), b.Object.String()) })
	return list
}

// tidy forgets what is over, and reports whether a contest was among that. Called with mu held.
func (t *target) tidy(now time.Time) (ended bool) {
	maps.DeleteFunc(t.bouts, func(_ deploy.ObjectID, b *bout) bool {
		over := b.over(now)
		ended = ended || over && b.pause > 0
		return over
	})
	return ended
}

// struck are the objects of sights, all of drift, that are to be told now; changed reports whether the contests are others than before. Called with mu held.
func (w *Watcher) struck(t *target, drifts []Sight) (tell []deploy.ObjectID, changed bool) {
	at := w.now()
	changed = t.tidy(at)
	for _, s := range drifts {
		b := t.bouts[s.Object]
		if b == nil {
			b = &bout{}
			t.bouts[s.Object] = b
		}
		soon, paused := b.strike(at)
		if soon {
			tell = append(tell, s.Object)
		}
		b.by = others(s)
		if paused {
			changed = true
			w.log.Warn("others change an object again and again: it is put right less often from now on",
				zap.Stringer("target", t.spec.Name), zap.Stringer("object", s.Object), zap.String("by", b.by), zap.Duration("pause", b.pause))
		}
	}
	return tell, changed
}

// others are the field managers beside ours, as far as the sight shows them.
func others(s Sight) string {
	if s.Metadata == nil {
		return "those who delete it"
	}
	var names []string
	for _, m := range s.Metadata.ManagedFields {
		name := strconv.Quote(m.Manager)
		if m.Manager != deploy.FieldManager && m.Subresource != "status" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "others"
	}
	return strings.Join(names, " and ")
}

// remind tells the targets of which an object has drifted in a pause that is over now, and says when there is something to remind of next; the zero time: never.
func (w *Watcher) remind() (next time.Time) {
	tell := map[deploy.Name][]deploy.ObjectID{}
	contests := map[deploy.Name][]deploy.Contest{}
	w.mu.Lock()
	now := w.now()
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, t := range w.targets {
		changed := t.tidy(now)
		for id, b := range t.bouts {
			if b.due && !now.Before(b.until) {
				b.due = false
				b.strike(now)
				tell[t.spec.Name] = append(tell[t.spec.Name], id)
				changed = true
			}
			if b.due {
				sooner(b.until)
			} else if b.pause > 0 {
				sooner(b.end())
			}
		}
		if changed {
			contests[t.spec.Name] = t.contests()
		}
	}
	w.mu.Unlock()
	for n, list := range contests {
		w.news.Contested(n, list)
	}
	for n, objects := range tell {
		w.tell(n, objects)
	}
	return next
}
