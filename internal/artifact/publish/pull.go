package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/store"
)

// annotationTitle is the file name of a layer that is a file and no archive, as oras pushes them (OCI image spec, annotations.md).
const annotationTitle = "org.opencontainers.image.title"

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

// fetch brings an artifact's first layer, unpacked, into an empty folder.
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
	layer := d.Layers[0]
	if max := limits.WithDefaults().Compressed; layer.Size > max {
		return Pulled{}, &store.LimitError{What: "the compressed size", Max: max, Unit: "bytes"}
	}
	blob, err := os.CreateTemp("", "towline-layer-*")
	if err != nil {
		return Pulled{}, err
	}
	defer func() {
		_ = blob.Close()
		_ = os.Remove(blob.Name())
	}()
	if err := r.Blob(ctx, layer, io.MultiWriter(blob, &meter{tell: tell, total: layer.Size})); err != nil {
		return Pulled{}, err
	}
	if _, err := blob.Seek(0, io.SeekStart); err != nil {
		return Pulled{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Pulled{}, err
	}
	defer func() { _ = root.Close() }()
	out := Pulled{Digest: digest, Annotations: d.Annotations}
	if title := layer.Annotations[annotationTitle]; title != "" && plainFile(title, layer) {
		return out, copyTo(root, title, blob)
	}
	return out, store.Unpack(blob, root, limits)
}

// plainFile reports whether a layer with a title is a manifest as it is, not an archive.
func plainFile(title string, layer v1.Descriptor) bool {
	if strings.Contains(string(layer.MediaType), "tar") {
		return false
	}
	return slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(title))
}

func copyTo(root *os.Root, name string, r io.Reader) error {
	if path.Base(name) != name {
		return fmt.Errorf("the artifact's file is named %q: only a plain file name is taken", name)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// merge moves everything from the staging folder, which is a child of to, to its place. It first looks at all of it, so that a conflict changes nothing.
func merge(from, to *os.Root, staging string, force bool) (files int, err error) {
	entries, err := entriesOf(from)
	if err != nil {
		return 0, err
	}
	var moves, conflicts []string
	for _, e := range entries {
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

func conflictError(names []string) error {
	more := ""
	if n := len(names) - shownConflicts; n > 0 {
		names, more = names[:shownConflicts], fmt.Sprintf("\n  and %d more", n)
	}
	return fmt.Errorf("these files are in the output folder already, with another content; nothing was changed (--force replaces them):\n  %s%s",
		strings.Join(names, "\n  "), more)
}

func exists(root *os.Root, name string) bool {
	_, err := root.Lstat(name)
	return err == nil
}
