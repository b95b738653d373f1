package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/artifact/layout"
)

// Push sends an artifact and gives it the tag. What the registry has already is not sent again. The tag is set last: whatever fails before, or is interrupted,
// leaves nothing that anybody would pull.
func (a *Artifact) Push(ctx context.Context, w Writer, tag string, tell Progress) error {
	config := v1.Descriptor{
		MediaType: layout.ConfigMediaType,
		Digest:    v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(a.config))},
		Size:      int64(len(a.config)),
	}
	err := w.PutBlob(ctx, config, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(a.config)), nil })
	if err != nil {
		return err
	}
	err = w.PutBlob(ctx, a.Layer, func() (io.ReadCloser, error) {
		f, err := os.Open(a.file)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.TeeReader(f, &meter{tell: tell, total: a.Layer.Size}), f}, nil
	})
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return w.PutManifest(ctx, string(types.OCIManifestSchema1), a.manifest, tag)
}
