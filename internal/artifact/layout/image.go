package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The files of an image layout (image-spec, image-layout.md), and the one that shows an archive of docker save.
const (
	markerFile = "oci-layout"
	indexFile  = "index.json"
	blobFolder = "blobs"
	dockerFile = "manifest.json"
)

// layoutVersion is the only one that there is.
const layoutVersion = "1.0.0"

// Open opens an OCI image layout: a folder or a tar that is not compressed. It is read in place, each time anew, so that what was copied onto it is seen.
func Open(path string) (*Layout, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open the image layout: %w", err)
	}
	i := &image{path: path, medium: folder(path)}
	if !info.IsDir() {
		i.medium = &tarball{path: path, now: time.Now}
	}
	from, _, err := i.open()
	if err != nil {
		return nil, err
	}
	return &Layout{from: i}, from.Close()
}

// image reads an OCI image layout.
type image struct {
	path   string
	medium medium
}

// open begins one call: it reads the index.
func (i *image) open() (files, *v1.IndexManifest, error) {
	from, err := i.medium.open()
	if err != nil {
		return nil, nil, fmt.Errorf("open the image layout: %w", err)
	}
	index, err := readIndex(from)
	if err != nil {
		_ = from.Close() // only read
		return nil, nil, fmt.Errorf("open the image layout %s: %w", i.path, err)
	}
	return from, index, nil
}

func readIndex(from files) (*v1.IndexManifest, error) {
	marker, present, err := read(from, markerFile, maxMarker)
	if err != nil {
		return nil, err
	}
	if !present {
		if _, docker, _ := read(from, dockerFile, maxManifest); docker {
			return nil, errors.New("it is an archive of docker save: make an image layout of it, such as with skopeo copy docker-archive:FILE oci-archive:FILE")
		}
		return nil, fmt.Errorf("it is none, it has no file %s: %w", markerFile, fs.ErrNotExist)
	}
	var version struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(marker, &version); err != nil {
		return nil, fmt.Errorf("%s: %w", markerFile, err)
	}
	if version.Version != layoutVersion {
		return nil, fmt.Errorf("%s: it has the version %q, and only %s is known", markerFile, version.Version, layoutVersion)
	}
	raw, present, err := read(from, indexFile, maxManifest)
	if err != nil {
		return nil, err
	}
	if !present {
		return nil, fmt.Errorf("it has no %s: %w", indexFile, fs.ErrNotExist)
	}
	index := &v1.IndexManifest{}
	if err := json.Unmarshal(raw, index); err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	return index, nil
}

// Manifest is the manifest or index with the digest.
func (i *image) Manifest(ctx context.Context, digest string) ([]byte, error) {
	from, _, err := i.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = from.Close() }() // only read
	return manifest(ctx, from, digest)
}

// manifest reads a manifest and checks it against its digest.
func manifest(ctx context.Context, from files, digest string) ([]byte, error) {
	r, err := blob(from, digest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // only read
	raw, err := readAll(&patient{ctx, r}, "manifest "+digest, maxManifest)
	if err != nil {
		return nil, err
	}
	if got := digestOf(raw); got != digest {
		return nil, fmt.Errorf("manifest %s has the digest %s: the medium is damaged, or somebody changed it", digest, got)
	}
	return raw, nil
}

// blob opens a blob. One that is not there is missing although the layout is there: no fs.ErrNotExist.
func blob(from files, digest string) (io.ReadCloser, error) {
	sum, err := hexOf(digest)
	if err != nil {
		return nil, err
	}
	r, err := from.file(blobFolder + "/" + algorithm + "/" + sum)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing("the image layout lacks %s: it was not copied completely", digest)
	}
	return r, err
}

// Blob writes the blob to w.
func (i *image) Blob(ctx context.Context, want v1.Descriptor, w io.Writer) error {
	from, _, err := i.open()
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read
	r, err := blob(from, want.Digest.String())
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read
	return copyChecked(ctx, w, r, want)
}
