// Package pack makes the layer of an artifact from files: a tar+gzip whose bytes depend on names and contents only.
package pack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/towline/towline/internal/artifact/ignore"
)

// level of compression: fixed, since every level makes other bytes. Best, for a layer is packed once and pulled often.
const level = gzip.BestCompression

// Modes of what is packed: those of the disk depend on the umask of whoever cloned the tree.
const (
	modeFile = 0o644
	modeExec = 0o755
)

// maxFile is how large a file that comes from a pipe may be, in bytes: its size must be known before it is written, so it is held in memory.
const maxFile = 32 << 20

// Write packs the files and symbolic links of a tree that the matcher does not ignore (a nil one ignores nothing), in the order of their names. Times, owners and
// other modes than executable are left out, and so are folders as such: with git, empty ones do not exist. A link that does not end at something that is packed,
// and anything that is no file, folder or link, is an error that names it. Contents are streamed.
func Write(w io.Writer, fsys fs.FS, m *ignore.Matcher) error {
	return archive(w, func(tw *tar.Writer) error {
		return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return fmt.Errorf("pack: %w", err)
			}
			if m.Match(name, d.IsDir()) {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			switch d.Type() {
			case fs.ModeDir:
				return nil
			case 0:
				err = file(tw, fsys, name)
			case fs.ModeSymlink:
				err = link(tw, fsys, name, m)
			default:
				err = fmt.Errorf("it is a %s: only files, folders and symbolic links can be packed", d.Type())
			}
			if err != nil {
				return fmt.Errorf("pack %s: %w", name, err)
			}
			return nil
		})
	})
}

// File packs a single file of that name, such as manifests from standard input.
func File(w io.Writer, name string, r io.Reader) error {
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("pack: %q is no name of a file inside an artifact", name)
	}
	content, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	if len(content) > maxFile {
		return fmt.Errorf("pack %s: it is larger than %d bytes: pack a folder instead", name, maxFile)
	}
	return archive(w, func(tw *tar.Writer) error {
		return entry(tw, &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: modeFile}, bytes.NewReader(content))
	})
}

// Compress makes a tar+gzip from a tar, with the same compression as Write.
func Compress(w io.Writer, r io.Reader) error {
	z, err := gzip.NewWriterLevel(w, level)
	if err != nil {
		return err
	}
	_, err = io.Copy(z, r)
	return errors.Join(err, z.Close())
}

// archive wraps what fill writes in tar and gzip. Both headers keep their zero values.
func archive(w io.Writer, fill func(*tar.Writer) error) error {
	z, err := gzip.NewWriterLevel(w, level)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(z)
	if err := fill(tw); err != nil {
		return err // what is in w is worthless
	}
	return errors.Join(tw.Close(), z.Close())
}

func file(tw *tar.Writer, fsys fs.FS, name string) error {
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it changed while it was packed: try again")
	}
	mode := int64(modeFile)
	if info.Mode()&0o100 != 0 {
		mode = modeExec
	}
	return entry(tw, &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: mode}, f)
}

// entry writes one file, whose content must be as long as its header says.
func entry(tw *tar.Writer, h *tar.Header, r io.Reader) error {
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(tw, io.LimitReader(r, h.Size))
	if err == nil && n == h.Size {
		var more [1]byte
		if k, _ := io.ReadFull(r, more[:]); k == 0 {
			return nil
		}
	}
	if err == nil {
		err = errors.New("it changed while it was packed: try again")
	}
	return err
}
