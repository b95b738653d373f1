package layout

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// maxEntries is how many entries a layout's tar may have: each costs about 200 bytes of memory while the source exists.
const maxEntries = 100_000

// tarball is a layout as a tar. It is read in place: once its entries' places are known, nothing else of it is.
type tarball struct {
	path string
	now  func() time.Time

	// mu guards the index.
	mu    sync.Mutex
	stamp stamp
	index map[string]span
}

// span is where the content of an entry is, in bytes from the beginning.
type span struct{ offset, size int64 }

func (t *tarball) open() (files, error) {
	f, err := os.Open(t.path)
	if err != nil {
		return nil, err
	}
	index, err := t.spans(f)
	if err != nil {
		_ = f.Close() // only read
		return nil, err
	}
	return &tarFiles{f, index}, nil
}

// spans is the index of the open file: the known one as long as the file is the same.
func (t *tarball) spans(f *os.File) (map[string]span, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", t.path)
	}
	now := stampOf(info)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.index != nil && t.stamp == now {
		return t.index, nil
	}
	index, err := indexOf(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.path, err)
	}
	t.index = nil
	if now.settled(t.now()) {
		t.index, t.stamp = index, now
	}
	return index, nil
}

// indexOf notes where the files of a layout begin. Contents are jumped over.
func indexOf(f *os.File, size int64) (map[string]span, error) {
	var head [4]byte
	if n, _ := f.ReadAt(head[:], 0); compressed(head[:n]) {
		return nil, errors.New("it is compressed, and must be a plain tar to be read in place: uncompress it")
	}
	index := map[string]span{}
	r := tar.NewReader(f)
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return index, nil
		}
		if err != nil {
			return nil, err
		}
		if n == maxEntries {
			return nil, fmt.Errorf("it has more than %d entries", maxEntries)
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if name := path.Clean(h.Name); h.Typeflag == tar.TypeReg && wanted(name) {
			if h.Size > size-offset {
				return nil, io.ErrUnexpectedEOF
			}
			index[name] = span{offset, h.Size}
		}
	}
}

// compressed reports whether a file begins as gzip, zstd or xz do.
func compressed(head []byte) bool {
	s := string(head)
	return strings.HasPrefix(s, "\x1f\x8b") || s == "\x28\xb5\x2f\xfd" || s == "\xfd7zX"
}

// wanted reports whether a layout has files of that name.
func wanted(name string) bool {
	return name == markerFile || name == indexFile || name == dockerFile || strings.HasPrefix(name, blobFolder+"/")
}

type tarFiles struct {
	*os.File
	index map[string]span
}

func (t *tarFiles) file(name string) (io.ReadCloser, error) {
	at, found := t.index[name]
	if !found {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(t.File, at.offset, at.size)), nil
}
