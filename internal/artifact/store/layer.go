package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The annotations that oras puts on layers: the name of the file or folder that was pushed, and whether it was a folder, which is then a tar+gzip.
const (
	titleAnnotation  = "org.opencontainers.image.title"
	unpackAnnotation = "io.deis.oras.content.unpack"
)

// headLen is how much of a layer is looked at to tell what it is, in bytes: a tar header. magicTar is at magicTarAt there (POSIX and GNU alike).
const (
	headLen    = 512
	magicTar   = "ustar"
	magicTarAt = 257
)

// blobFile puts a layer that is on disk into the tree.
func (u *unpacker) blobFile(path string, l v1.Descriptor) error {
	f, err := openFile(path)
	if err != nil {
		return fmt.Errorf("read the artifact cache: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	return u.layer(f, l)
}

// layer puts a layer into the tree: an archive's files, or, if it is none and has a title, the one file that it is. Media types say nothing here: oras calls every
// file a tar.
func (u *unpacker) layer(r io.Reader, l v1.Descriptor) error {
	b := bufio.NewReader(r)
	head, err := b.Peek(headLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the layer: %w", err)
	}
	title := l.Annotations[titleAnnotation]
	sure := isArchive(string(head)) || l.Annotations[unpackAnnotation] == "true" || strings.HasSuffix(title, ".tar")
	switch {
	case sure:
		return u.archive(b)
	case title != "":
		return u.plain(title, l.Size, b)
	}
	if err := u.archive(b); err != nil { // a tar from before there was a magic, or nothing that can be used
		return fmt.Errorf("the layer of type %.200q seems to be no tar, tar+gzip or tar+zstd archive, and has no annotation %s that would make it a file: %w",
			l.MediaType, titleAnnotation, err)
	}
	return nil
}

func isArchive(head string) bool {
	return strings.HasPrefix(head, magicGzip) || strings.HasPrefix(head, magicZstd) ||
		len(head) > magicTarAt && strings.HasPrefix(head[magicTarAt:], magicTar)
}

// plain writes a layer as the file that its title names.
func (u *unpacker) plain(title string, size int64, r io.Reader) error {
	name, err := u.name(title)
	if err != nil {
		return err
	}
	if name == "." || strings.HasSuffix(title, "/") {
		return fmt.Errorf("the artifact holds a file with the title %.200q, which names a folder: refused", title)
	}
	if err := u.count(); err != nil {
		return err
	}
	return u.file(name, size, modeFile, r)
}
