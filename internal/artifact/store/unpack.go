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

	"github.com/klauspost/compress/zstd"
)

// Modes of what is unpacked, whatever the archive says: owners, set-id bits and write access for others do not come from outside.
const (
	modeDir  = 0o755
	modeFile = 0o644
	modeExec = 0o755
)

// The longest that texts in an archive may be, in bytes: people need a tenth, and all links are in memory until the files are written.
const (
	maxPath     = 1024
	maxLinkText = 4 << 20
	// perEntry is what the headers of one file may take in an archive, on average.
	perEntry = 4 << 10
)

// Unpack extracts a tar, tar+gzip or tar+zstd archive below root, which must be empty. It takes regular files, folders and links that end inside; anything else, a
// path that leaves, an archive that is cut short or followed by other bytes, or one over a limit is an error, and what was written is then to be thrown away.
func Unpack(r io.Reader, root *os.Root, limits Limits) error {
	u := newUnpacker(root, limits)
	if err := u.archive(bufio.NewReader(r)); err != nil {
		return err
	}
	return u.makeLinks()
}

// unpacker puts one or more layers into a tree. The limits are on their sum.
type unpacker struct {
	root   *os.Root
	limits Limits
	files  int
	bytes  int64
	// stream is how many bytes all archives may still have in themselves, whatever is in them: headers that name no file are none of the files' bytes.
	stream int64
	links  []link
	// linkText is the size of the links' names and targets, in bytes.
	linkText int
	// folderThere is a folder that is known to be there: files of one folder mostly follow each other.
	folderThere string
}

// link is made after all files are written, so that nothing is ever written through one.
type link struct{ name, target string }

func newUnpacker(root *os.Root, limits Limits) *unpacker {
	l := limits.withDefaults()
	return &unpacker{root: root, limits: l, stream: l.Unpacked + int64(l.Files)*perEntry + maxPadding, folderThere: "."}
}

func (u *unpacker) archive(b *bufio.Reader) error {
	stream, done, err := decompress(b)
	if err != nil {
		return err
	}
	defer done()
	stream = &bounded{stream, u}
	before := u.stream
	tr := tar.NewReader(stream)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			if u.stream == before { // even a tar of nothing has an end; without one, this is no artifact that says that everything is gone
				return fmt.Errorf("read the archive: there is nothing in it: %w", io.ErrUnexpectedEOF)
			}
			return onlyPadding(stream)
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := u.entry(h, tr); err != nil {
			return err
		}
	}
}

// bounded reads until all archives together had more bytes than the limits can explain.
type bounded struct {
	r io.Reader
	u *unpacker
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.u.stream -= int64(n); b.u.stream < 0 {
		return 0, &LimitError{"the unpacked size", b.u.limits.Unpacked, "bytes"}
	}
	return n, err
}

// magicGzip and magicZstd are how compressed streams begin (RFC 1952, RFC 8878).
const (
	magicGzip = "\x1f\x8b"
	magicZstd = "\x28\xb5\x2f\xfd"
)

// zstdWindow is the most of what was read that a zstd stream may refer back to, in bytes: what RFC 8878 recommends, and enough for all levels but --ultra.
const zstdWindow = 8 << 20

// decompress looks at the first bytes: media types are often wrong about compression. done is to be called when nothing is read any more.
func decompress(b *bufio.Reader) (r io.Reader, done func(), err error) {
	head, err := b.Peek(len(magicZstd))
	if err != nil {
		return nil, nil, fmt.Errorf("read the archive: %w", unexpected(err))
	}
	switch {
	case strings.HasPrefix(string(head), magicGzip):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, nil, fmt.Errorf("read the archive: %w", err)
		}
		return z, func() {}, nil
	case string(head) == magicZstd:
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, nil, fmt.Errorf("read the archive: %w", err)
		}
		return z, z.Close, nil
	}
	return b, func() {}, nil
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

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	if err := u.count(); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader { // git archive writes one; it names no file
		return nil
	}
	name, err := u.name(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.wrap(h.Name, u.ownFolder(name))
	case tar.TypeReg, tar.TypeGNUSparse:
		mode := fs.FileMode(modeFile)
		if h.Mode&0o100 != 0 {
			mode = modeExec
		}
		return u.file(name, h.Size, mode, r)
	case tar.TypeSymlink:
		return u.link(name, h.Linkname)
	}
	return fmt.Errorf("the archive holds %.200q of type %q: only files, folders and symbolic links are taken", h.Name, string(h.Typeflag))
}

// count notes one more file, folder or link.
func (u *unpacker) count() error {
	if u.files++; u.files > u.limits.Files {
		return &LimitError{"the number of files", int64(u.limits.Files), "files"}
	}
	return nil
}

// name is an entry's path as it may be used: relative, without "..", neither too long nor too deep. Only the root itself may be ".".
func (u *unpacker) name(s string) (string, error) {
	if strings.ContainsRune(s, 0) || s == "" {
		return "", fmt.Errorf("the artifact holds an entry with the bad name %.200q", s)
	}
	if path.IsAbs(s) {
		return "", fmt.Errorf("the artifact holds the absolute path %.200q: refused", s)
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == ".." {
			return "", fmt.Errorf("the artifact holds the path %.200q, which has \"..\": refused", s)
		}
	}
	clean := path.Clean(s)
	if strings.Count(clean, "/") >= u.limits.Depth {
		return "", &LimitError{"the depth of a path", int64(u.limits.Depth), "elements"}
	}
	if len(clean) > maxPath {
		return "", &LimitError{"the length of a path", maxPath, "bytes"}
	}
	return clean, nil
}

// ownFolder makes a folder that the archive names, and so was counted.
func (u *unpacker) ownFolder(name string) error {
	if name == "." {
		return nil
	}
	if err := u.folder(path.Dir(name)); err != nil {
		return err
	}
	err := u.root.Mkdir(name, modeDir)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	return u.folder(name) // an archive may name one twice; a file there is an error
}

// folder makes a folder, and those that it is in, where they are not there. Each is counted: a short archive can name very many by deep paths.
func (u *unpacker) folder(name string) error {
	if name == "." || name == u.folderThere {
		return nil
	}
	info, err := u.root.Lstat(name)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%.200q is no folder", name)
	case err == nil:
		u.folderThere = name
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := u.descend(name); err != nil {
		return err
	}
	u.folderThere = name
	return nil
}

// descend makes a folder and those that it is in, from the top down and each from the one above it: from the root, a deep path would cost the square of its depth.
func (u *unpacker) descend(name string) error {
	at, err := u.root.OpenRoot(".")
	for part := range strings.SplitSeq(name, "/") {
		if err != nil {
			return err
		}
		if err = at.Mkdir(part, modeDir); err == nil {
			err = u.count()
		} else if errors.Is(err, fs.ErrExist) {
			err = isFolder(at, part)
		}
		var below *os.Root
		if err == nil {
			below, err = at.OpenRoot(part)
		}
		_ = at.Close() // nothing is written through it
		at = below
	}
	if err == nil {
		_ = at.Close()
	}
	return err
}

// isFolder refuses to go on through a link.
func isFolder(at *os.Root, name string) error {
	info, err := at.Lstat(name)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%.200q is no folder", name)
	}
	return err
}

// file writes a file of a size, which must be all there.
func (u *unpacker) file(name string, size int64, mode fs.FileMode, r io.Reader) error {
	if size > u.limits.Unpacked-u.bytes {
		return &LimitError{"the unpacked size", u.limits.Unpacked, "bytes"}
	}
	if err := u.folder(path.Dir(name)); err != nil {
		return u.wrap(name, err)
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) { // an appended archive holds a file twice: the last one counts
		if err = u.root.Remove(name); err == nil {
			u.folderThere = "." // it may have been an empty folder
			f, err = u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		}
	}
	if err != nil {
		return u.wrap(name, err)
	}
	n, err := io.Copy(f, io.LimitReader(r, size))
	u.bytes += n
	if n != size && err == nil {
		err = io.ErrUnexpectedEOF
	}
	return u.wrap(name, errors.Join(err, f.Close()))
}

// link is kept for later.
func (u *unpacker) link(name, target string) error {
	if target == "" || path.IsAbs(target) {
		return fmt.Errorf("the archive holds the link %.200q to %.200q: only relative links are taken", name, target)
	}
	if len(target) > maxPath {
		return &LimitError{"the length of a link's target", maxPath, "bytes"}
	}
	if u.linkText += len(name) + len(target); u.linkText > maxLinkText {
		return &LimitError{"the names and targets of all links", maxLinkText, "bytes"}
	}
	u.links = append(u.links, link{name, target})
	return nil
}

// makeLinks makes the links and then looks where each ends, for only then the whole way is there. A text comparison would not do: a link may lead through
// another one.
func (u *unpacker) makeLinks() error {
	for _, l := range u.links {
		if err := u.folder(path.Dir(l.name)); err != nil {
			return u.wrap(l.name, err)
		}
		if err := u.root.Symlink(l.target, l.name); err != nil {
			return u.wrap(l.name, err)
		}
	}
	for _, l := range u.links {
		if _, err := u.root.Stat(l.name); err != nil {
			return fmt.Errorf("the archive holds the link %.200q to %.200q, which does not end inside the archive: refused", l.name, l.target)
		}
	}
	return nil
}

func (u *unpacker) wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("unpack %.200q: %w", name, err)
}

// unexpected turns the end of the input into an error that says that there should have been more.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
