package layout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/ignore"
)

// OpenFiles makes one artifact of a folder, of which the ignore rules leave out some, of a single YAML or JSON file, or of a .tar, .tgz or .tar.gz archive as it is.
// It has the tag latest, and the digest that the same content has when it is published reproducibly. As long as nothing changed, no file is read again.
func OpenFiles(path string, extra *string) (*Layout, error) {
	f := &plain{path: path, extra: extra, now: time.Now}
	if _, err := f.pick(); err != nil {
		return nil, err
	}
	return &Layout{from: f}, nil
}

// plain is an artifact of plain files.
type plain struct {
	path  string
	extra *string
	now   func() time.Time

	// mu guards the rest.
	mu     sync.Mutex
	last   *state
	packed int // how often the content was read: a poll of what has not changed adds nothing
}

// state is what the files were when they were last read.
type state struct {
	stamp    [sha256.Size]byte // over the stamps of all files
	settled  bool
	matcher  *ignore.Matcher
	digest   string
	manifest []byte
	config   v1.Descriptor
	layer    v1.Descriptor
}

// current is the state of the files as they are now: the last one where no file changed since.
func (f *plain) current(ctx context.Context) (*state, error) {
	src, err := f.pick()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last != nil && f.last.settled {
		sum, _, err := f.stampOf(src, f.last.matcher)
		if err != nil {
			return nil, err
		}
		if sum == f.last.stamp {
			return f.last, nil
		}
	}
	st := &state{}
	if st.matcher, err = src.rules(f.extra); err != nil {
		return nil, fmt.Errorf("open the files of %s: %w", f.path, err)
	}
	// Stamps come first: what changes while it is read shows the next time.
	if st.stamp, st.settled, err = f.stampOf(src, st.matcher); err != nil {
		return nil, err
	}
	f.packed++
	if st.layer, err = f.write(ctx, src, st.matcher, io.Discard); err != nil {
		return nil, err
	}
	raw, config := ManifestOf(st.layer, map[string]string{AnnotationCreated: NoTime})
	st.manifest, st.digest = raw, digestOf(raw)
	st.config = v1.Descriptor{MediaType: ConfigMediaType, Size: int64(len(config)), Digest: v1.Hash{Algorithm: algorithm, Hex: digestOf(config)[len(algorithm)+1:]}}
	f.last = st
	return st, nil
}

func (f *plain) stampOf(src source, m *ignore.Matcher) (sum [sha256.Size]byte, settled bool, err error) {
	h := sha256.New()
	settled, err = src.stamp(h, m, f.now())
	if err != nil {
		return sum, false, fmt.Errorf("open the files of %s: %w", f.path, err)
	}
	return [sha256.Size]byte(h.Sum(nil)), settled, nil
}

// write packs the layer and says what was written.
func (f *plain) write(ctx context.Context, src source, m *ignore.Matcher, w io.Writer) (v1.Descriptor, error) {
	sum := sha256.New()
	var size counter
	if err := src.pack(&impatient{ctx, io.MultiWriter(w, sum, &size)}, m); err != nil {
		return v1.Descriptor{}, fmt.Errorf("read the files of %s: %w", f.path, err)
	}
	return v1.Descriptor{
		MediaType: LayerMediaType, Size: int64(size), Digest: v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(sum.Sum(nil))},
	}, nil
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// impatient ends writing when the context does.
type impatient struct {
	ctx context.Context // of the one call that writes
	w   io.Writer
}

func (i *impatient) Write(b []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.w.Write(b)
}

// Digest is that of the manifest.
func (f *plain) Digest(ctx context.Context, tag string) (string, error) {
	if tag != defaultTag {
		return "", missing("plain files have no tag %s, but %s", tag, defaultTag)
	}
	st, err := f.current(ctx)
	if err != nil {
		return "", err
	}
	return st.digest, nil
}

// Tags is the one that there is.
func (f *plain) Tags(context.Context) ([]string, error) {
	if _, err := f.pick(); err != nil {
		return nil, err
	}
	return []string{defaultTag}, nil
}

// Manifest is the manifest of the files as they are.
func (f *plain) Manifest(ctx context.Context, digest string) ([]byte, error) {
	st, err := f.current(ctx)
	if err != nil {
		return nil, err
	}
	if st.digest != digest {
		return nil, missing("the files of %s have the digest %s now, and not %s", f.path, st.digest, digest)
	}
	return st.manifest, nil
}

// Blob writes the config, or packs the layer once more: it is kept nowhere.
func (f *plain) Blob(ctx context.Context, want v1.Descriptor, w io.Writer) error {
	st, err := f.current(ctx)
	if err != nil {
		return err
	}
	switch want.Digest {
	case st.config.Digest:
		_, err := io.WriteString(w, emptyConfig)
		return err
	case st.layer.Digest:
	default:
		return missing("the files of %s have changed: they are no longer %s", f.path, want.Digest)
	}
	src, err := f.pick()
	if err != nil {
		return err
	}
	got, err := f.write(ctx, src, st.matcher, w)
	if err != nil {
		return err
	}
	if got.Digest != want.Digest || got.Size != want.Size {
		return fmt.Errorf("the files of %s changed while they were read: the next poll takes them", f.path)
	}
	return nil
}

// Referrers are none: plain files bear no signature.
func (f *plain) Referrers(context.Context, string) ([]v1.Descriptor, error) { return nil, nil }
