// Package publish puts folders and files into a registry as artifacts, and reads, tags, lists and compares what is there. Flux and towline read each other's.
package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/artifact/layout"
	"github.com/towline/towline/internal/artifact/store"
)

// The annotations that say where an artifact comes from (OCI image spec, annotations.md).
const (
	AnnotationCreated  = layout.AnnotationCreated
	AnnotationSource   = "org.opencontainers.image.source"
	AnnotationRevision = "org.opencontainers.image.revision"
)

// Reader is what reading needs of a repository. What is not there is an oci.ErrNotFound; what is returned has the digest that was asked for.
type Reader interface {
	Digest(ctx context.Context, tag string) (string, error)
	Tags(ctx context.Context) ([]string, error)
	Manifest(ctx context.Context, digest string) ([]byte, error)
	Blob(ctx context.Context, want v1.Descriptor, w io.Writer) error
}

// Writer is what publishing needs of a repository.
type Writer interface {
	// PutBlob sends nothing where the blob is there already. open may be called more than once.
	PutBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error
	// PutManifest is idempotent. The reference is a tag or the digest.
	PutManifest(ctx context.Context, mediaType string, raw []byte, reference string) error
}

// Progress hears of a layer on its way: how many of its bytes have passed. It is called often, and after
// a failure perhaps once more; nil hears nothing.
type Progress func(done, total int64)

// meter counts what passes.
type meter struct {
	tell        Progress
	done, total int64
}

func (m *meter) Write(p []byte) (int, error) {
	m.done += int64(len(p))
	if m.tell != nil {
		m.tell(m.done, m.total)
	}
	return len(p), nil
}

// document is a manifest or an index.
type document struct {
	MediaType   string            `json:"mediaType"`
	Config      v1.Descriptor     `json:"config"`
	Layers      []v1.Descriptor   `json:"layers"`
	Manifests   []v1.Descriptor   `json:"manifests"`
	Annotations map[string]string `json:"annotations"`
}

func (d *document) isIndex() bool { return d.Layers == nil && d.Manifests != nil }

// parse reads a manifest or an index, and knows the media type of one that does not say it: the OCI ones may leave it out.
func parse(raw []byte) (*document, error) {
	d := &document{}
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, errors.New("the registry's manifest is not JSON: is this a registry?")
	}
	if d.MediaType == "" {
		d.MediaType = string(types.OCIManifestSchema1)
		if d.isIndex() {
			d.MediaType = string(types.OCIImageIndex)
		}
	}
	return d, nil
}

// resolve is the digest that a reference means; without tag and digest that of the tag latest.
func resolve(ctx context.Context, r Reader, ref Ref) (string, error) {
	if ref.Digest != "" {
		return ref.Digest, nil
	}
	return r.Digest(ctx, ref.orLatest().Tag)
}

// manifest reads the manifest with the digest. An index leads to where it would lead the agent on this machine.
func manifest(ctx context.Context, r Reader, digest string) (*document, error) {
	raw, err := r.Manifest(ctx, digest)
	if err != nil {
		return nil, err
	}
	d, err := parse(raw)
	if err != nil || !d.isIndex() {
		return d, err
	}
	child, err := choosePlatform(d.Manifests)
	if err != nil {
		return nil, err
	}
	if raw, err = r.Manifest(ctx, child); err != nil {
		return nil, err
	}
	if d, err = parse(raw); err == nil && d.isIndex() {
		return nil, errors.New("the artifact is an index of indexes: that is not supported")
	}
	return d, err
}

// choosePlatform picks the manifest that the agent would take on this machine.
func choosePlatform(all []v1.Descriptor) (string, error) {
	child, ok, err := store.ForPlatform(all, "")
	if err != nil || ok {
		return child.Digest.String(), err
	}
	there := ""
	for _, d := range store.WithoutAttestations(all) {
		if d.Platform != nil {
			there += fmt.Sprintf("\n  %s@%s", d.Platform, d.Digest)
		}
	}
	return "", fmt.Errorf("the artifact is an index with several manifests, none of them for linux/%s: name one by its digest%s", runtime.GOARCH, there)
}
