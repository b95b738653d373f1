package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Route is how to reach a registry and everything it sends us to: token services, places where blobs lie. The zero Route trusts the system's certificates and takes
// the proxy from the environment.
type Route struct {
	// CA is PEM certificates that are trusted besides the system's.
	CA []byte
	// Cert and Key are PEM: what to show where a client certificate is asked for. Both or none.
	Cert, Key []byte
	// Proxy beats the environment; it may hold a user and a password.
	Proxy *url.URL
}

// Repository is one repository at one registry. Safe for concurrent use; what is behind it (connections, logins) belongs to the Client.
type Repository struct {
	client *Client
	access Access
}

// Repository is the place that an Access names. No request is made.
func (c *Client) Repository(a Access) *Repository { return &Repository{client: c, access: a} }

// Digest is what a tag points to now. One HEAD; for a registry that refuses HEAD or does not send the digest, one GET.
func (r *Repository) Digest(ctx context.Context, tag string) (string, error) {
	return r.client.Digest(ctx, r.access, tag)
}

// Tags lists every tag, page by page.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	return r.client.Tags(ctx, r.access)
}

// Manifest is the manifest or index with the digest, as the registry stores it. The bytes have that digest.
func (r *Repository) Manifest(ctx context.Context, digest string) ([]byte, error) {
	return r.client.Manifest(ctx, r.access, digest)
}

// Blob writes the blob to w. The error says when what was written has another digest or size; what is in w is then worthless.
func (r *Repository) Blob(ctx context.Context, want v1.Descriptor, w io.Writer) error {
	return r.client.Blob(ctx, r.access, want, w)
}

// Referrers lists what names the digest as its subject: by the referrers API, and where there is none by the referrers tag.
func (r *Repository) Referrers(ctx context.Context, digest string) ([]v1.Descriptor, error) {
	var out []v1.Descriptor
	err := r.client.do(ctx, r.access, func(ctx context.Context, s *session) error {
		index, err := remote.Referrers(r.access.Repo.Digest(digest), s.options(ctx)...)
		if err != nil {
			return err
		}
		m, err := index.IndexManifest()
		if err != nil {
			return err
		}
		out = m.Manifests
		return nil
	})
	return out, err
}

// PutBlob uploads a blob, unless it is there already. open may be called more than once.
func (r *Repository) PutBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	return r.client.do(ctx, r.access, func(ctx context.Context, s *session) error {
		layer, err := partial.CompressedToLayer(&upload{d, open})
		if err != nil {
			return err
		}
		return remote.WriteLayer(r.access.Repo, layer, s.options(ctx)...)
	})
}

// PutManifest stores a manifest under a tag or its digest.
func (r *Repository) PutManifest(ctx context.Context, mediaType string, raw []byte, reference string) error {
	var ref name.Reference = r.access.Repo.Tag(reference)
	if h, err := v1.NewHash(reference); err == nil {
		got, _, err := v1.SHA256(bytes.NewReader(raw))
		if err != nil || got != h {
			return errors.Join(err, fmt.Errorf("the manifest does not have the digest %s", h))
		}
		ref = r.access.Repo.Digest(reference)
	}
	return r.client.do(ctx, r.access, func(ctx context.Context, s *session) error {
		return remote.Put(ref, manifest{mediaType, raw}, s.options(ctx)...)
	})
}

type upload struct {
	d    v1.Descriptor
	open func() (io.ReadCloser, error)
}

func (u *upload) Digest() (v1.Hash, error)             { return u.d.Digest, nil }
func (u *upload) Size() (int64, error)                 { return u.d.Size, nil }
func (u *upload) MediaType() (types.MediaType, error)  { return u.d.MediaType, nil }
func (u *upload) Compressed() (io.ReadCloser, error)   { return u.open() }
func (m manifest) RawManifest() ([]byte, error)        { return m.raw, nil }
func (m manifest) MediaType() (types.MediaType, error) { return types.MediaType(m.mediaType), nil }

type manifest struct {
	mediaType string
	raw       []byte
}

var _ http.RoundTripper = (*gate)(nil)
