package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// stored is an entry as the budget sees it.
type stored struct {
	name string
	size int64     // on disk, in bytes
	last time.Time // of use
	// useless to this version: broken, or of another version.
	useless bool
	// stay: somebody needs it, or may be about to say so.
	stay bool
}

// victims chooses what goes, so that the rest takes at most budget: what is useless in any case, then what was used least recently. The rest is what then is left in
// bytes, which is more than the budget where what must stay is.
func victims(all []stored, budget int64) (gone []stored, rest int64) {
	var candidates []stored
	for _, s := range all {
		rest += s.size
		if !s.stay {
			candidates = append(candidates, s)
		}
	}
	slices.SortFunc(candidates, func(a, b stored) int {
		if a.useless != b.useless {
			if a.useless {
				return -1
			}
			return 1
		}
		return cmp.Or(a.last.Compare(b.last), cmp.Compare(a.name, b.name))
	})
	for _, s := range candidates {
		if !s.useless && rest <= budget {
			break
		}
		gone = append(gone, s)
		rest -= s.size
	}
	return gone, rest
}

// Prune removes what cannot be used any more and then the least recently used entries, until the rest is within the budget (Limits.Cache). The kept folders
// (Entry.Dir) stay in any case, and so does what was used within PruneGrace. It returns how many it removed. Put spares the kept folders too, until the next Prune.
// It claims the folder.
func (c *Cache) Prune(keep []string) (int, error) {
	if err := c.Claim(); err != nil {
		return 0, err
	}
	kept := map[string]bool{}
	for _, dir := range keep {
		kept[filepath.Base(filepath.Dir(dir))] = true
	}
	c.mu.Lock()
	c.kept = kept
	c.mu.Unlock()
	c.space.Lock()
	defer c.space.Unlock()
	all, err := c.list()
	if err != nil {
		return 0, fmt.Errorf("prune the artifact cache: %w", err)
	}
	gone, _ := victims(all, c.limits.Cache)
	n, err := c.evict(gone)
	return n, errors.Join(err, c.clean())
}

// Usage is what the entries take on disk, in bytes, and how many there are.
func (c *Cache) Usage() (bytes int64, entries int, err error) {
	all, err := c.list()
	if err != nil {
		return 0, 0, fmt.Errorf("read the artifact cache: %w", err)
	}
	for _, s := range all {
		bytes += s.size
	}
	return bytes, len(all), nil
}

// hasRoom fails where an artifact of at least this size could not be kept. Nothing is removed.
func (c *Cache) hasRoom(name string, size int64) error {
	_, err := c.choose(name, size)
	return err
}

// makeRoom evicts what has to go for an artifact of this size. The caller holds c.space.
func (c *Cache) makeRoom(name string, size int64) error {
	gone, err := c.choose(name, size)
	if err != nil {
		return err
	}
	_, err = c.evict(gone)
	return err
}

// yield evicts everything that nobody needs, and reports whether that was anything.
func (c *Cache) yield() bool {
	c.space.Lock()
	defer c.space.Unlock()
	if !c.toldWhatIsNeeded() {
		return false
	}
	all, err := c.list()
	if err != nil {
		return false
	}
	gone, _ := victims(all, 0)
	n, _ := c.evict(gone) // what could not be removed is no reason to give up
	return n > 0
}

func (c *Cache) toldWhatIsNeeded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept != nil
}

// choose says what has to go for an artifact that takes the name's place; nothing before the first Prune.
func (c *Cache) choose(name string, size int64) (gone []stored, err error) {
	full := &LimitError{"the cache, with this artifact and all that must stay,", c.limits.Cache, "bytes"}
	if size > c.limits.Cache {
		return nil, full
	}
	if !c.toldWhatIsNeeded() {
		return nil, nil
	}
	all, err := c.list()
	if errors.Is(err, fs.ErrNotExist) { // it is made anew
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the artifact cache: %w", err)
	}
	all = slices.DeleteFunc(all, func(s stored) bool { return s.name == name }) // it is replaced
	gone, rest := victims(all, c.limits.Cache-size)
	if rest > c.limits.Cache-size {
		return nil, full
	}
	return gone, nil
}

// evict removes entries, but none that somebody is working with. It returns how many.
func (c *Cache) evict(gone []stored) (n int, err error) {
	var errs []error
	for _, s := range gone {
		unlock, ok := c.tryLock(s.name)
		if !ok {
			continue
		}
		if !c.mustStay(s.name, s.last) { // it may have been handed out meanwhile
			err := c.remove(s.name)
			errs = append(errs, err)
			if err == nil {
				n++
			}
		}
		unlock()
	}
	return n, errors.Join(errs...)
}

// mustStay is what somebody needs, or was given a moment ago.
func (c *Cache) mustStay(name string, last time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept[name] {
		return true
	}
	if used, ok := c.used[name]; ok && time.Since(used) < PruneGrace {
		return true
	}
	ago := time.Since(last) // by another process; a time in the future says nothing
	return ago >= 0 && ago < PruneGrace
}

// list is all entries with their sizes, as their metadata says; only what has none is walked. What does not have an entry's name is not ours: somebody may have named
// the wrong folder.
func (c *Cache) list() ([]stored, error) {
	dirs, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	var all []stored
	seen := map[string]looked{}
	for _, d := range dirs {
		if !entryName.MatchString(d.Name()) {
			continue
		}
		s, l, err := c.look(d.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
		seen[s.name] = l
	}
	c.mu.Lock()
	c.looked = seen
	c.mu.Unlock()
	return all, nil
}

// looked is what was found in an entry whose folder has not changed since: everything in it is changed by renaming.
type looked struct {
	inode   uint64
	changed syscall.Timespec
	size    int64
	useless bool
}

func (c *Cache) look(name string) (stored, looked, error) {
	info, err := os.Lstat(filepath.Join(c.dir, name))
	if err != nil {
		return stored{}, looked{}, err
	}
	s := stored{name: name, last: info.ModTime()}
	s.stay = c.mustStay(name, s.last)
	c.mu.Lock()
	if used, ok := c.used[name]; ok && used.After(s.last) {
		s.last = used
	}
	before := c.looked[name]
	c.mu.Unlock()
	l := looked{}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		l.inode, l.changed = sys.Ino, sys.Ctim
	}
	if l.inode != 0 && l.inode == before.inode && l.changed == before.changed {
		l = before
	} else if l.size, l.useless, err = measure(filepath.Join(c.dir, name)); err != nil {
		return stored{}, looked{}, err
	}
	s.size, s.useless = l.size, l.useless
	return s, l, nil
}

// measure is what an entry takes on disk, and whether nothing can be done with it.
func measure(dir string) (size int64, useless bool, err error) {
	e, err := readEntry(dir)
	if e == nil {
		useless = errors.Is(err, errDamaged)
		size, err = walkedSize(dir)
		return size, useless, err
	}
	if err != nil && !errors.Is(err, errDamaged) { // a damaged tree may be repaired when it is needed
		return 0, false, err
	}
	size = e.Size
	if info, err := os.Lstat(e.path(evidenceFile)); err == nil {
		size += onDisk(info.Size())
	}
	return size, false, nil
}

// walkedSize is what a folder takes on disk, as Meta.Size counts it. Links are not followed.
func walkedSize(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() {
			sum += block
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum += onDisk(info.Size())
		return nil
	})
	return sum, err
}
