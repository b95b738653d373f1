// Package store keeps artifacts on disk by digest: unpacked safely, written all or nothing, compared with their digests before they are used, and within a budget.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/crashpoint"
)

const (
	// tempPrefix begins the names of what is being written or removed. Nobody reads there.
	tempPrefix = ".tmp-"
	// modeCache is the mode of the cache itself: what artifacts hold is nobody else's business.
	modeCache = 0o700
	// modeMeta is the mode of an entry's own files.
	modeMeta = 0o600
	// PruneGrace keeps entries from Prune that were used a moment ago: whoever fetched one may not have said yet that it is needed.
	PruneGrace = 10 * time.Minute
	// touchEvery is how old an entry's time of use on disk may get before it is written again: flash memory wears, and evicting needs no better.
	touchEvery = time.Hour
)

// Cache is a folder of entries. Safe for concurrent use, also by several processes.
type Cache struct {
	dir    string
	limits Limits

	// space lets one Put at a time look for room and take it. It is taken after an entry's lock; whoever has it never waits for another entry's.
	space sync.Mutex

	// mu guards what is below.
	mu sync.Mutex
	// looked is what list found, so that a poll of a thousand sources does not read the metadata of all entries a thousand times.
	looked map[string]looked
	// claim is the folder, locked; nil where it is not claimed.
	claim *os.File
	// used says when an entry was last handed out by this process. Such an entry was checked, and stays where it is.
	used map[string]time.Time
	// kept are the entries that the last Prune was told to keep; nil before the first.
	kept  map[string]bool
	locks map[string]*entryLock
}

// entryLock is one entry's lock, and how many have it or wait for it.
type entryLock struct {
	mu sync.Mutex
	n  int
}

// Open makes the folder if need be and removes what a killed process left half done. What cannot be removed, as on a disk that is read-only, is no error: what
// is there can still be read.
func Open(dir string, limits Limits) (*Cache, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open the artifact cache: %w", err)
	}
	c := &Cache{dir: abs, limits: limits.withDefaults(), used: map[string]time.Time{}, locks: map[string]*entryLock{}}
	if err := c.makeDir(abs); err != nil {
		return nil, fmt.Errorf("open the artifact cache: %w", err)
	}
	_ = c.clean() // Prune tries again, and says why not
	return c, nil
}

// entryName is what EntryName makes.
var entryName = regexp.MustCompile(`^sha(256|512)-[0-9a-f]{64,128}-[0-9a-f]+$`)

// EntryName is where an artifact is kept: sha256-<hex of its digest>-<hash of how its layers were chosen and what is done with them>.
func EntryName(digest, selector string) string {
	return strings.ReplaceAll(digest, ":", "-") + "-" + selector
}

// checkName keeps a name from being a path to somewhere else.
func checkName(name string) error {
	if !entryName.MatchString(name) {
		return fmt.Errorf("%.80q is not the name of an artifact in the cache", name)
	}
	return nil
}

// Damage is told to the caller of Get when something in an entry could not be used any more and was removed or repaired.
type Damage struct {
	Entry string
	Err   error
	// Repaired from the blobs in the entry: no registry was needed. An entry that Get returns without this lost its evidence only.
	Repaired bool
}

// Get returns an entry; nil where there is none. The first time in a process it is compared with its digests. A damaged tree is unpacked again from its
// blobs; an entry that cannot be repaired is removed, and is then like one that was never there. Where a repair fails for the disk's sake (it is full, or
// read-only), that is the error, and the entry stays.
func (c *Cache) Get(name string) (*Entry, *Damage, error) {
	if err := checkName(name); err != nil {
		return nil, nil, err
	}
	defer c.lock(name)()
	dir := filepath.Join(c.dir, name)
	e, err := readEntry(dir)
	if err == nil && !c.isUsed(name) {
		err = e.check()
	}
	switch {
	case err == nil:
		damage := c.dropBadEvidence(name, e)
		c.use(name)
		return e, damage, nil
	case errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged):
		return nil, nil, nil
	case !errors.Is(err, errDamaged):
		return nil, nil, fmt.Errorf("read the artifact cache: %w", err)
	}
	damage := &Damage{Entry: name, Err: err}
	repairable, err := e.repairable()
	if err != nil {
		return nil, damage, fmt.Errorf("read the artifact cache: %w", err)
	}
	if repairable {
		fresh, err := c.repair(e)
		switch {
		case err == nil:
			damage.Repaired = true
			_ = c.dropBadEvidence(name, fresh)
			c.use(name)
			return fresh, damage, nil
		case ofSystem(err):
			return nil, damage, c.explain(err)
		}
		damage.Err = errors.Join(damage.Err, err) // such as a limit that was lowered since
	}
	return nil, damage, c.explain(c.remove(name))
}

// remove takes an entry away: first out of sight, so that a crash never leaves half of one. It needs no room on the disk.
func (c *Cache) remove(name string) error {
	c.mu.Lock()
	delete(c.used, name)
	c.mu.Unlock()
	away := filepath.Join(c.dir, tempName("old-"))
	err := os.Rename(filepath.Join(c.dir, name), away)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove from the artifact cache: %w", err)
	}
	crashpoint.At("store.removing")
	_ = os.RemoveAll(away) // what stays is removed by the next clean
	return nil
}

// lock waits for an entry's lock.
func (c *Cache) lock(name string) (unlock func()) {
	l := c.entryLock(name)
	l.mu.Lock()
	return c.unlocker(name, l)
}

// tryLock is false where somebody else has the lock.
func (c *Cache) tryLock(name string) (unlock func(), ok bool) {
	l := c.entryLock(name)
	if !l.mu.TryLock() {
		c.dropLock(name, l)
		return nil, false
	}
	return c.unlocker(name, l), true
}

func (c *Cache) entryLock(name string) *entryLock {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.locks[name]
	if l == nil {
		l = &entryLock{}
		c.locks[name] = l
	}
	l.n++
	return l
}

func (c *Cache) unlocker(name string, l *entryLock) func() {
	return func() {
		l.mu.Unlock()
		c.dropLock(name, l)
	}
}

func (c *Cache) dropLock(name string, l *entryLock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.n--; l.n == 0 {
		delete(c.locks, name)
	}
}

func (c *Cache) isUsed(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.used[name]
	return ok
}

// use notes that an entry is in use, in memory and now and then on disk, where the time only goes forward: a clock may start in 1970 at every boot.
func (c *Cache) use(name string) {
	now := time.Now()
	c.mu.Lock()
	c.used[name] = now
	c.mu.Unlock()
	dir := filepath.Join(c.dir, name)
	if info, err := os.Lstat(dir); err == nil && now.Sub(info.ModTime()) > touchEvery {
		_ = os.Chtimes(dir, now, now) // on a disk that is read-only nothing is evicted either
	}
}
