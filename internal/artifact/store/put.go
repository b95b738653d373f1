package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/crashpoint"
)

// Item is what is put into the cache.
type Item struct {
	// Digest that the artifact is asked for by.
	Digest string
	// ManifestDigest and Manifest: the manifest as it was served.
	ManifestDigest string
	Manifest       []byte
	Annotations    map[string]string
	// Layers are nearly always one; several are put into one tree, in their order.
	Layers []v1.Descriptor
	// Copy keeps the layer, of which there is then one, as a file instead of extracting it.
	Copy bool
	// Trim applies ignore rules to an extracted tree: those of the artifact, then Ignore, then the defaults.
	Trim   bool
	Ignore *string
	// Evidence is kept with the entry from the start, as by SetEvidence. Empty: none.
	Evidence []byte
	// Pull writes a layer. What it writes must have the digest and the size that the layer says.
	Pull func(layer v1.Descriptor, w io.Writer) error
}

// Put writes an entry, or nothing. Where a sound one is there already, that one is returned and stays. Other entries are evicted as the budget or a full disk
// demands (after which Pull is called once more), but none before the first Prune has said which are needed. An artifact over a limit, or for which what must stay
// leaves no room, is a *LimitError.
func (c *Cache) Put(name string, item Item) (*Entry, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := c.checkItem(item); err != nil {
		return nil, invalid(err)
	}
	if err := c.hasRoom(name, compressedSize(item.Layers)); err != nil { // before anything is pulled
		return nil, err
	}
	e, err := c.put(name, item)
	if diskFull(err) && c.yield() { // others fill the disk too, and the budget knows nothing of them
		e, err = c.put(name, item)
	}
	return e, c.explain(err)
}

func (c *Cache) put(name string, item Item) (*Entry, error) {
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
	return c.publish(tmp, name, e, item.Evidence)
}

// checkItem looks at what can be told before anything is pulled.
func (c *Cache) checkItem(item Item) error {
	switch {
	case len(item.Layers) == 0:
		return errors.New("the artifact has no layers")
	case item.Copy && len(item.Layers) > 1:
		return fmt.Errorf("the artifact has %d layers: only one can be copied", len(item.Layers))
	case len(item.Layers) > c.limits.Files:
		return &LimitError{"the number of files", int64(c.limits.Files), "files"}
	}
	left := c.limits.Compressed
	for _, l := range item.Layers {
		if l.Size < 0 {
			return fmt.Errorf("layer %s has the size %d", l.Digest, l.Size)
		}
		if l.Size > left {
			return &LimitError{"the compressed size", c.limits.Compressed, "bytes"}
		}
		left -= l.Size
	}
	return contentIs(item.Manifest, item.ManifestDigest)
}

// write fills a temporary folder. Blobs, manifest, evidence and metadata are synced to disk, then the names of the folder; the unpacked files are not, for they
// can be made again from the blobs, and syncing thousands of them would take longer than everything else together.
func (c *Cache) write(tmp string, item Item) (*Entry, error) {
	e := &Entry{Dir: filepath.Join(tmp, treeDir), Meta: Meta{
		Version: metaVersion, Digest: item.Digest, Manifest: item.ManifestDigest, Annotations: item.Annotations, Trim: item.Trim, Ignore: item.Ignore,
	}}
	for _, l := range item.Layers { // without what a repair does not need
		e.Layers = append(e.Layers, v1.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size, Annotations: l.Annotations})
	}
	if item.Copy {
		if err := os.Mkdir(e.Dir, modeDir); err != nil {
			return nil, fmt.Errorf("write the artifact cache: %w", err)
		}
		e.File = copiedFile
		if strings.HasSuffix(string(item.Layers[0].MediaType), "tar+gzip") {
			e.File = copiedTgz
		}
	}
	for i, l := range item.Layers {
		if err := writeBlob(e.blob(i), l, item.Pull); err != nil {
			return nil, err
		}
	}
	crashpoint.At("store.pulled")
	if err := e.fill(e.Dir, c.limits); err != nil {
		return nil, err
	}
	crashpoint.At("store.unpacked")
	if err := writeFile(filepath.Join(tmp, manifestFile), item.Manifest); err != nil {
		return nil, err
	}
	if len(item.Evidence) > 0 {
		sealed, err := seal(item.Evidence, maxEvidence)
		if err != nil {
			return nil, fmt.Errorf("keep the evidence: %w", err)
		}
		if err := writeFile(filepath.Join(tmp, evidenceFile), sealed); err != nil {
			return nil, err
		}
	}
	meta, err := e.sealed()
	if err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(tmp, metaFile), meta); err != nil {
		return nil, err
	}
	return e, errors.Join(syncPath(e.Dir), syncPath(tmp))
}

// publish moves a finished entry to its place. The caller holds the entry's lock.
func (c *Cache) publish(tmp, name string, e *Entry, evidence []byte) (*Entry, error) {
	dir := filepath.Join(c.dir, name)
	if there, err := readEntry(dir); err == nil && (c.isUsed(name) || there.check() == nil) {
		c.use(name)
		return there, c.setEvidence(there, evidence)
	}
	c.space.Lock()
	defer c.space.Unlock()
	if err := c.makeRoom(name, e.Size+onDisk(int64(len(evidence)))); err != nil {
		return nil, err
	}
	if err := c.remove(name); err != nil {
		return nil, err
	}
	crashpoint.At("store.before-entry")
	if err := os.Rename(tmp, dir); err != nil {
		return nil, fmt.Errorf("write the artifact cache: %w", err)
	}
	crashpoint.At("store.entry")
	if err := syncPath(c.dir); err != nil {
		return nil, err
	}
	e.Dir = filepath.Join(dir, treeDir)
	c.use(name)
	return e, nil
}

func compressedSize(layers []v1.Descriptor) (sum int64) {
	for _, l := range layers {
		sum += l.Size
	}
	return sum
}

// writeBlob pulls a layer into a file and syncs it. What does not have the layer's digest and size is an error, whatever pull says.
func writeBlob(path string, l v1.Descriptor, pull func(v1.Descriptor, io.Writer) error) error {
	sum, err := v1.Hasher(l.Digest.Algorithm)
	if err != nil {
		return fmt.Errorf("layer %s: %w", l.Digest, err)
	}
	return fillFile(path, func(f io.Writer) error {
		w := &blobWriter{w: f, sum: sum, left: l.Size}
		err := pull(l, w)
		switch got := fmt.Sprintf("%x", sum.Sum(nil)); {
		case w.err != nil: // the disk's error, however pull has wrapped it
			return w.err
		case err != nil:
			return err
		case w.left > 0:
			return fmt.Errorf("layer %s: %d of its %d bytes are missing: %w", l.Digest, w.left, l.Size, io.ErrUnexpectedEOF)
		case got != l.Digest.Hex:
			return invalid(fmt.Errorf("layer %s: what was pulled has the digest %s:%s", l.Digest, l.Digest.Algorithm, got))
		}
		return nil
	})
}

// blobWriter counts and hashes what goes to a file, and takes no byte more than it was told to.
type blobWriter struct {
	w    io.Writer
	sum  hash.Hash
	left int64
	err  error // the first of its own
}

func (b *blobWriter) Write(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if int64(len(p)) > b.left {
		b.err = invalid(errors.New("the layer is larger than the manifest says"))
		return 0, b.err
	}
	n, err := b.w.Write(p)
	b.left -= int64(n)
	_, _ = b.sum.Write(p[:n]) // a hash takes everything
	if err != nil {
		b.err = fmt.Errorf("write the artifact cache: %w", err)
	}
	return n, b.err
}

// contentIs compares bytes with a digest.
func contentIs(content []byte, digest string) error {
	want, err := v1.NewHash(digest)
	if err != nil {
		return fmt.Errorf("the manifest's digest: %w", err)
	}
	sum, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return fmt.Errorf("the manifest's digest: %w", err)
	}
	if _, err := io.Copy(sum, bytes.NewReader(content)); err != nil {
		return err
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != want.Hex {
		return fmt.Errorf("the manifest should have the digest %s, and has %s:%s", digest, want.Algorithm, got)
	}
	return nil
}

// sealed is an entry's metadata as it is written to disk.
func (e *Entry) sealed() ([]byte, error) {
	raw, err := json.Marshal(e.Meta)
	if err != nil {
		return nil, fmt.Errorf("write the artifact cache: %w", err)
	}
	return seal(raw, maxMeta)
}
