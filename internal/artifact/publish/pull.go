package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/store"
)

// stagingPattern names the folder that an artifact is unpacked in before any of it is put to its place.
const stagingPattern = ".towline-pull-*"

// shownConflicts is how many files an error lists.
const shownConflicts = 10

// Pulled says what was pulled.
type Pulled struct {
	Digest string
	Files  int
	// Annotations of the manifest.
	Annotations map[string]string
}

// PullOptions say how to pull.
type PullOptions struct {
	// Force replaces files that differ.
	Force bool
	// Limits of the unpacked artifact; zero fields are those that the agent has.
	Limits   store.Limits
	Progress Progress
}

// Pull unpacks an artifact into a folder, which is made where it is missing. Files that are there and not in the artifact stay; one that is there with another
// content is an error, and then nothing is changed, unless Force is set. Every byte was checked against its digest before anything is written.
func Pull(ctx context.Context, r Reader, ref Ref, dir string, opts PullOptions) (Pulled, error) {
	_, serr := os.Lstat(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Pulled{}, fmt.Errorf("make the output folder: %w", err)
	}
	out, err := pullInto(ctx, r, ref, dir, opts)
	if err != nil && errors.Is(serr, fs.ErrNotExist) {
		_ = os.Remove(dir) // ours, and empty
	}
	return out, err
}

func pullInto(ctx context.Context, r Reader, ref Ref, dir string, opts PullOptions) (Pulled, error) {
	staging, err := os.MkdirTemp(dir, stagingPattern)
	if err != nil {
		return Pulled{}, fmt.Errorf("write the output folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(staging) }() // empty by then, or not wanted
	out, err := fetch(ctx, r, ref, staging, opts.Limits, opts.Progress)
	if err != nil {
		return Pulled{}, err
	}
	to, err := os.OpenRoot(dir)
	if err != nil {
		return Pulled{}, fmt.Errorf("write the output folder: %w", err)
	}
	defer func() { _ = to.Close() }()
	from, err := to.OpenRoot(path.Base(staging))
	if err != nil {
		return Pulled{}, fmt.Errorf("write the output folder: %w", err)
	}
	defer func() { _ = from.Close() }()
	out.Files, err = merge(from, to, path.Base(staging), opts.Force)
	return out, err
}

// fetch brings what the agent would take of an artifact, unpacked, into an empty folder: its first layer, or all where they are plain files.
func fetch(ctx context.Context, r Reader, ref Ref, dir string, limits store.Limits, tell Progress) (Pulled, error) {
	digest, err := resolve(ctx, r, ref)
	if err != nil {
		return Pulled{}, err
	}
	d, err := manifest(ctx, r, digest)
	if err != nil {
		return Pulled{}, err
	}
	if len(d.Layers) == 0 {
		return Pulled{}, errors.New("the artifact has no layers: there is nothing to unpack")
	}
	layers := store.DefaultLayers(d.Layers)
	count := &meter{tell: tell}
	for _, l := range layers {
		count.total += l.Size
	}
	if most := limits.WithDefaults().Compressed; count.total > most {
		return Pulled{}, &store.LimitError{What: "the compressed size", Max: most, Unit: "bytes"}
	}
	blobs, err := os.MkdirTemp("", "towline-layers-*")
	if err != nil {
		return Pulled{}, err
	}
	defer func() { _ = os.RemoveAll(blobs) }()
	for _, l := range layers {
		if err := saveBlob(ctx, r, l, blobPath(blobs, l), count); err != nil {
			return Pulled{}, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Pulled{}, err
	}
	defer func() { _ = root.Close() }()
	open := func(l v1.Descriptor) (io.ReadCloser, error) { return os.Open(blobPath(blobs, l)) }
	return Pulled{Digest: digest, Annotations: d.Annotations}, store.UnpackLayers(root, layers, open, limits)
}

// blobPath is where a layer waits to be unpacked.
func blobPath(dir string, l v1.Descriptor) string { return filepath.Join(dir, l.Digest.Hex) }

// saveBlob writes a layer into a file.
func saveBlob(ctx context.Context, r Reader, l v1.Descriptor, path string, count *meter) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(r.Blob(ctx, l, io.MultiWriter(f, count)), f.Close())
}

// merge moves everything from the staging folder, which is a child of to, to its place. It first looks at all of it, so that a conflict changes nothing.
func merge(from, to *os.Root, staging string, force bool) (files int, err error) {
	entries, err := entriesOf(from)
	if err != nil {
		return 0, err
	}
	var moves, conflicts []string
	for _, e := range entries {
		if err := inTheWay(to, e); err != nil {
			return 0, err
		}
		same, err := sameEntry(from, to, e)
		switch {
		case err != nil:
			return 0, err
		case e.dir:
		case same:
			files++
		case !force && exists(to, e.name):
			conflicts = append(conflicts, e.name)
		default:
			moves = append(moves, e.name)
		}
	}
	if len(conflicts) > 0 {
		return 0, conflictError(conflicts)
	}
	for _, name := range moves {
		if err := to.MkdirAll(path.Dir(name), 0o755); err != nil {
			return files, fmt.Errorf("write the output folder: %w", err)
		}
		if err := to.Rename(path.Join(staging, name), name); err != nil {
			return files, fmt.Errorf("write the output folder: %w", err)
		}
		files++
	}
	for _, e := range entries {
		if e.dir {
			if err := to.MkdirAll(e.name, 0o755); err != nil {
				return files, fmt.Errorf("write the output folder: %w", err)
			}
		}
	}
	return files, nil
}

// inTheWay finds a folder where a file is to be, or the other way round: nothing is replaced there, forced or not.
func inTheWay(to *os.Root, e entry) error {
	there, err := to.Lstat(e.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read the output folder: %w", err)
	case there.IsDir() == e.dir:
		return nil
	case e.dir:
		return fmt.Errorf("%q is a folder in the artifact and a file in the output folder: move it away; nothing was changed", e.name)
	}
	return fmt.Errorf("%q is a file in the artifact and a folder in the output folder: move it away; nothing was changed", e.name)
}

func conflictError(names []string) error {
	more := ""
	if n := len(names) - shownConflicts; n > 0 {
		names, more = names[:shownConflicts], fmt.Sprintf("\n  and %d more", n)
	}
	names = slices.Clone(names)
	for i, name := range names {
		if strings.ContainsFunc(name, unicode.IsControl) { // whoever made the artifact must not write lines of their own into the list
			names[i] = strconv.Quote(name)
		}
	}
	return fmt.Errorf("these files are in the output folder already, with another content; nothing was changed (--force replaces them):\n  %s%s",
		strings.Join(names, "\n  "), more)
}

func exists(root *os.Root, name string) bool {
	_, err := root.Lstat(name)
	return err == nil
}
