package store

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Modes of what is unpacked, whatever the archive says: owners, set-id bits and write access for others do not come from outside.
const (
	modeDir  = 0o755
	modeFile = 0o644
	modeExec = 0o755
)

// Unpack extracts a tar or tar+gzip archive below root, which must be empty. It takes regular files, folders and links that end inside; anything else, a
// path that leaves, an archive that is cut short or followed by other bytes, or one over a limit is an error, and what was written is then to be thrown away.
func Unpack(r io.Reader, root *os.Root, limits Limits) error {
	u := &unpacker{root: root, limits: limits.withDefaults()}
	stream, err := decompress(r)
	if err != nil {
		return err
	}
	tr := tar.NewReader(stream)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := u.entry(h, tr); err != nil {
			return err
		}
	}
	if err := onlyPadding(stream); err != nil {
		return err
	}
	return u.makeLinks()
}

// magicGzip and magicZstd are how compressed streams begin (RFC 1952, RFC 8878).
const (
	magicGzip = "\x1f\x8b"
	magicZstd = "\x28\xb5\x2f\xfd"
)

// decompress looks at the first bytes: media types are often wrong about compression.
func decompress(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(len(magicZstd))
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", unexpected(err))
	}
	switch {
	case strings.HasPrefix(string(head), magicGzip):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("read the archive: %w", err)
		}
		return z, nil
	case string(head) == magicZstd:
		return nil, errors.New("the layer is compressed with zstd: only tar and tar+gzip can be extracted")
	}
	return b, nil
}

// maxPadding is how many zero bytes may follow the end of the archive: tar pads to a record of 10 KiB; the rest is for large blocking factors.
const maxPadding = 1 << 20

// onlyPadding reads to the end of the stream, which also checks gzip's checksum, and wants zeros.
func onlyPadding(r io.Reader) error {
	buf := make([]byte, 32<<10)
	total := 0
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			if c != 0 {
				return errors.New("read the archive: there are other bytes behind its end")
			}
		}
		if total += n; total > maxPadding {
			return errors.New("read the archive: there is too much padding behind its end")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: behind its end: %w", err)
		}
	}
}

type unpacker struct {
	root   *os.Root
	limits Limits
	files  int
	bytes  int64
	links  []link
}

// link is made after all files are written, so that nothing is ever written through one.
type link struct{ name, target string }

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader { // git archive writes one; it names no file
		return nil
	}
	name, err := u.name(h.Name)
	if err != nil {
		return err
	}
	if u.files++; u.files > u.limits.Files {
		return &LimitError{"the number of files", int64(u.limits.Files), "files"}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.wrap(h.Name, u.root.MkdirAll(name, modeDir))
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(name, h, r)
	case tar.TypeSymlink:
		u.links = append(u.links, link{name, h.Linkname})
		return nil
	}
	return fmt.Errorf("the archive holds %q of type %q: only files, folders and symbolic links are taken", h.Name, string(h.Typeflag))
}

// name is an entry's path as it may be used: relative, without "..", not too deep. Only the root itself may be ".".
func (u *unpacker) name(s string) (string, error) {
	if strings.ContainsRune(s, 0) || s == "" {
		return "", fmt.Errorf("the archive holds an entry with the bad name %q", s)
	}
	if path.IsAbs(s) {
		return "", fmt.Errorf("the archive holds the absolute path %q: refused", s)
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == ".." {
			return "", fmt.Errorf("the archive holds the path %q, which has \"..\": refused", s)
		}
	}
	clean := path.Clean(s)
	if strings.Count(clean, "/") >= u.limits.Depth {
		return "", &LimitError{"the depth of a path", int64(u.limits.Depth), "elements"}
	}
	return clean, nil
}

func (u *unpacker) file(name string, h *tar.Header, r io.Reader) error {
	if h.Size > u.limits.Unpacked-u.bytes {
		return &LimitError{"the unpacked size", u.limits.Unpacked, "bytes"}
	}
	if err := u.root.MkdirAll(path.Dir(name), modeDir); err != nil {
		return u.wrap(h.Name, err)
	}
	mode := fs.FileMode(modeFile)
	if h.Mode&0o100 != 0 {
		mode = modeExec
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) { // an appended archive holds a file twice: the last one counts
		if err = u.root.Remove(name); err == nil {
			f, err = u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		}
	}
	if err != nil {
		return u.wrap(h.Name, err)
	}
	n, err := io.Copy(f, io.LimitReader(r, h.Size))
	u.bytes += n
	if n != h.Size && err == nil {
		err = io.ErrUnexpectedEOF
	}
	return u.wrap(h.Name, errors.Join(err, f.Close()))
}

// makeLinks makes the links and then looks where each ends, for only then the whole way is there. A text comparison would not do: a link may lead through
// another one.
func (u *unpacker) makeLinks() error {
	for _, l := range u.links {
		if l.target == "" || path.IsAbs(l.target) {
			return fmt.Errorf("the archive holds the link %q to %q: only relative links are taken", l.name, l.target)
		}
		if err := u.root.MkdirAll(path.Dir(l.name), modeDir); err != nil {
			return u.wrap(l.name, err)
		}
		if err := u.root.Symlink(l.target, l.name); err != nil {
			return u.wrap(l.name, err)
		}
	}
	for _, l := range u.links {
		if _, err := u.root.Stat(l.name); err != nil {
			return fmt.Errorf("the archive holds the link %q to %q, which does not end inside the archive: refused", l.name, l.target)
		}
	}
	return nil
}

func (u *unpacker) wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("unpack %q: %w", name, err)
}

// unexpected turns the end of the input into an error that says that there should have been more.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
