// Package store keeps artifacts on disk by digest: unpacked safely, written all or nothing, and compared with their digests before they are used.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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
)

// Cache is a folder of entries. Safe for concurrent use, also by several processes.
type Cache struct {
	dir    string
	limits Limits

	// mu guards the maps below.
	mu sync.Mutex
	// used says when an entry was last handed out by this process. Such an entry was checked, and stays where it is.
	used  map[string]time.Time
	locks map[string]*sync.Mutex
}

// Open makes the folder if need be and removes what a killed process left half done.
func Open(dir string, limits Limits) (*Cache, error) {
	if err := os.MkdirAll(dir, modeCache); err != nil {
		return nil, fmt.Errorf("open the artifact cache: %w", err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open the artifact cache: %w", err)
	}
	c := &Cache{dir: abs, limits: limits.withDefaults(), used: map[string]time.Time{}, locks: map[string]*sync.Mutex{}}
	return c, c.clean()
}

// entryName is what EntryName makes.
var entryName = regexp.MustCompile(`^sha(256|512)-[0-9a-f]{64,128}-[0-9a-f]+$`)

// EntryName is where an artifact is kept: sha256-<hex of its digest>-<hash of how its layer was chosen>.
func EntryName(digest, selector string) string {
	return strings.ReplaceAll(digest, ":", "-") + "-" + selector
}

// Damage is told to the caller of Get when an entry could not be used any more and was removed or repaired.
type Damage struct {
	Entry    string
	Err      error
	Repaired bool // from the blob in the entry: no registry was needed
}

// Get returns an entry; nil where there is none. The first time in a process it is compared with its digests. A damaged tree is unpacked again from its
// blob; an entry that cannot be repaired is removed, and is then like one that was never there.
func (c *Cache) Get(name string) (*Entry, *Damage, error) {
	defer c.lock(name)()
	dir := filepath.Join(c.dir, name)
	e, err := readEntry(dir)
	if err == nil && !c.isUsed(name) {
		err = e.check(dir)
	}
	switch {
	case err == nil:
		c.use(name)
		return e, nil, nil
	case errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged):
		return nil, nil, nil
	case !errors.Is(err, errDamaged):
		return nil, nil, fmt.Errorf("read the artifact cache: %w", err)
	}
	damage := &Damage{Entry: name, Err: err}
	if repaired := c.repair(name, e); repaired != nil {
		damage.Repaired = true
		return repaired, damage, nil
	}
	return nil, damage, c.remove(name)
}

// Item is what is put into the cache.
type Item struct {
	// Digest that the artifact is asked for by.
	Digest string
	// ManifestDigest and Manifest: the manifest as it was served, and checked.
	ManifestDigest string
	Manifest       []byte
	Annotations    map[string]string
	Layer          v1.Descriptor
	// Copy keeps the layer as a file instead of extracting it.
	Copy bool
	// Pull writes the layer and fails unless it had the digest and size that Layer says.
	Pull func(io.Writer) error
}

// Put writes an entry, or nothing. Where a sound one is there already, that one is returned and stays.
func (c *Cache) Put(name string, item Item) (*Entry, error) {
	tmp, release, err := c.temp()
	if err != nil {
		return nil, err
	}
	defer release()
	e, err := c.write(tmp, item)
	if err != nil {
		return nil, err
	}
	defer c.lock(name)()
	return c.publish(tmp, name, e)
}

// publish moves a finished entry to its place. The caller holds the entry's lock.
func (c *Cache) publish(tmp, name string, e *Entry) (*Entry, error) {
	dir := filepath.Join(c.dir, name)
	if c.isUsed(name) {
		if there, err := readEntry(dir); err == nil {
			c.use(name)
			return there, nil
		}
	}
	if err := c.remove(name); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return nil, fmt.Errorf("write the artifact cache: %w", err)
	}
	if err := syncPath(c.dir); err != nil {
		return nil, err
	}
	e.Dir = filepath.Join(dir, treeDir)
	c.use(name)
	return e, nil
}

// write fills a temporary folder. Blob, manifest and metadata are synced to disk; the unpacked files are not, for they can be made again from the blob, and
// syncing thousands of them would take longer than everything else together.
func (c *Cache) write(tmp string, item Item) (*Entry, error) {
	if item.Layer.Size > c.limits.Compressed {
		return nil, &LimitError{"the compressed size", c.limits.Compressed, "bytes"}
	}
	e := &Entry{Meta: Meta{
		Version: metaVersion, Digest: item.Digest, Manifest: item.ManifestDigest, Layer: item.Layer, Annotations: item.Annotations,
	}}
	tree := filepath.Join(tmp, treeDir)
	if err := os.Mkdir(tree, modeDir); err != nil {
		return nil, fmt.Errorf("write the artifact cache: %w", err)
	}
	blob := filepath.Join(tmp, layerFile)
	if item.Copy {
		e.File = copiedFile
		if strings.HasSuffix(string(item.Layer.MediaType), "tar+gzip") {
			e.File = copiedTgz
		}
		blob = filepath.Join(tree, e.File)
	}
	if err := writeFile(blob, item.Pull); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, fmt.Errorf("write the artifact cache: %w", err)
	}
	defer func() { _ = root.Close() }()
	if !item.Copy {
		if err := unpackFile(blob, root, c.limits); err != nil {
			return nil, err
		}
	}
	if e.Tree, err = treeHash(root); err != nil {
		return nil, fmt.Errorf("hash the unpacked artifact: %w", err)
	}
	meta, err := json.Marshal(e.Meta)
	if err != nil {
		return nil, fmt.Errorf("write the artifact cache: %w", err)
	}
	for name, content := range map[string][]byte{manifestFile: item.Manifest, metaFile: meta} {
		err := writeFile(filepath.Join(tmp, name), func(w io.Writer) error { _, err := w.Write(content); return err })
		if err != nil {
			return nil, err
		}
	}
	return e, errors.Join(syncPath(tree), syncPath(tmp))
}

// repair makes an entry again from its own blob; nil where that is not whole either. The caller holds the entry's lock.
func (c *Cache) repair(name string, e *Entry) *Entry {
	if e == nil || e.File != "" {
		return nil
	}
	dir := filepath.Join(c.dir, name)
	if fileIs(filepath.Join(dir, manifestFile), e.Manifest) != nil || fileIs(filepath.Join(dir, layerFile), e.Layer.Digest.String()) != nil {
		return nil
	}
	manifest, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil
	}
	tmp, release, err := c.temp()
	if err != nil {
		return nil
	}
	defer release()
	fresh, err := c.write(tmp, Item{
		Digest: e.Digest, ManifestDigest: e.Manifest, Manifest: manifest, Annotations: e.Annotations, Layer: e.Layer,
		Pull: func(w io.Writer) error { return copyFile(w, filepath.Join(dir, layerFile)) },
	})
	if err != nil {
		return nil
	}
	if fresh, err = c.publish(tmp, name, fresh); err != nil {
		return nil
	}
	return fresh
}

// Prune removes every entry that is not among the kept folders (Entry.Dir) and was not used for PruneGrace. It returns how many it removed.
func (c *Cache) Prune(keep []string) (int, error) {
	kept := map[string]bool{}
	for _, dir := range keep {
		kept[filepath.Base(filepath.Dir(dir))] = true
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return 0, fmt.Errorf("prune the artifact cache: %w", err)
	}
	n := 0
	var errs []error
	for _, d := range entries {
		if !entryName.MatchString(d.Name()) || kept[d.Name()] {
			continue // not ours to remove: somebody may have named the wrong folder
		}
		removed, err := c.pruneOne(d.Name())
		errs = append(errs, err)
		if removed {
			n++
		}
	}
	return n, errors.Join(errs...)
}

func (c *Cache) pruneOne(name string) (bool, error) {
	defer c.lock(name)()
	c.mu.Lock()
	recent := time.Since(c.used[name]) < PruneGrace
	c.mu.Unlock()
	if recent {
		return false, nil
	}
	err := c.remove(name)
	return err == nil, err
}

// remove takes an entry away: first out of sight, so that a crash never leaves half of one.
func (c *Cache) remove(name string) error {
	c.mu.Lock()
	delete(c.used, name)
	c.mu.Unlock()
	tmp, release, err := c.temp()
	if err != nil {
		return err
	}
	defer release()
	err = os.Rename(filepath.Join(c.dir, name), filepath.Join(tmp, "old"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove from the artifact cache: %w", err)
	}
	return nil
}

func (c *Cache) lock(name string) (unlock func()) {
	c.mu.Lock()
	l := c.locks[name]
	if l == nil {
		l = &sync.Mutex{}
		c.locks[name] = l
	}
	c.mu.Unlock()
	l.Lock()
	return l.Unlock
}

func (c *Cache) isUsed(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.used[name]
	return ok
}

func (c *Cache) use(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used[name] = time.Now()
}
