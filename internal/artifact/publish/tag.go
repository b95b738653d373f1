package publish

import (
	"context"
	"fmt"
)

// Repository is what can be read and written; *oci.Repository is one.
type Repository interface {
	Reader
	Writer
}

// Tag makes each of the tags point to what the reference names now, in this order, and returns its digest. No content moves. A failure names the tag; the tags
// before it are set.
func Tag(ctx context.Context, r Repository, ref Ref, tags []string) (string, error) {
	digest, err := resolve(ctx, r, ref)
	if err != nil {
		return "", err
	}
	raw, err := r.Manifest(ctx, digest)
	if err != nil {
		return "", err
	}
	d, err := parse(raw)
	if err != nil {
		return "", err
	}
	for _, tag := range tags {
		if err := r.PutManifest(ctx, d.MediaType, raw, tag); err != nil {
			return "", fmt.Errorf("tag %s: %w", tag, err)
		}
	}
	return digest, nil
}
