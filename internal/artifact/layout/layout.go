// Package layout reads artifacts that are on disk as if they were in a registry: an OCI image layout (a folder or a tar), or plain files. Everything it hands out was
// checked against its digest.
package layout

import (
	"context"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// content is what both kinds of Layout do.
type content interface {
	Digest(ctx context.Context, tag string) (string, error)
	Tags(ctx context.Context) ([]string, error)
	Manifest(ctx context.Context, digest string) ([]byte, error)
	Blob(ctx context.Context, want v1.Descriptor, w io.Writer) error
	Referrers(ctx context.Context, digest string) ([]v1.Descriptor, error)
}

// Layout is one place on disk that holds artifacts. Nothing stays open between calls, so that a stick can be unmounted at any time; a place that has vanished is an
// error that wraps fs.ErrNotExist, one that merely lacks what was asked for is an oci.ErrNotFound. It may be used by several goroutines.
type Layout struct{ from content }

// Digest is what the tag points to now. An error lists the tags that there are.
func (l *Layout) Digest(ctx context.Context, tag string) (string, error) {
	return l.from.Digest(ctx, tag)
}

// Tags lists every tag, sorted.
func (l *Layout) Tags(ctx context.Context) ([]string, error) { return l.from.Tags(ctx) }

// Manifest is the manifest or index with the digest, as it is stored.
func (l *Layout) Manifest(ctx context.Context, digest string) ([]byte, error) {
	return l.from.Manifest(ctx, digest)
}

// Blob writes the blob to w. The error says when what was written has another digest or size; what is in w is then worthless.
func (l *Layout) Blob(ctx context.Context, want v1.Descriptor, w io.Writer) error {
	return l.from.Blob(ctx, want, w)
}

// Referrers are the manifests that name the digest as their subject: signatures and the like. None is no error.
func (l *Layout) Referrers(ctx context.Context, digest string) ([]v1.Descriptor, error) {
	return l.from.Referrers(ctx, digest)
}

// Close ends the use of the layout.
func (l *Layout) Close() error { return nil }
