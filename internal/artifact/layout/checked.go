package layout

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/oci"
)

// Bounds of what is read into memory.
const (
	maxManifest = 4 << 20 // bytes of a manifest or index, as registries have it
	maxMarker   = 4 << 10 // bytes of the file oci-layout, which needs thirty
)

// algorithm is the only one of digests here: all tools that write layouts use it.
const algorithm = "sha256"

// hexOf is the hex part of a digest, once it is known to be one.
func hexOf(digest string) (string, error) {
	sum, found := strings.CutPrefix(digest, algorithm+":")
	if !found || len(sum) != hex.EncodedLen(sha256.Size) || strings.Trim(sum, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is no sha256 digest", digest)
	}
	return sum, nil
}

// digestOf is the digest of bytes at hand.
func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return algorithm + ":" + hex.EncodeToString(sum[:])
}

// copyChecked copies a blob and compares it with what it should be. A cancelled context ends it.
func copyChecked(ctx context.Context, w io.Writer, r io.Reader, want v1.Descriptor) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(&patient{ctx, r}, want.Size+1))
	switch got := algorithm + ":" + hex.EncodeToString(sum.Sum(nil)); {
	case err != nil:
		return fmt.Errorf("read blob %s: %w", want.Digest, err)
	case n > want.Size:
		return fmt.Errorf("blob %s is larger than the %d bytes that its manifest says", want.Digest, want.Size)
	case n < want.Size:
		return fmt.Errorf("blob %s has %d bytes and not the %d that its manifest says", want.Digest, n, want.Size)
	case got != want.Digest.String():
		return fmt.Errorf("blob %s has the digest %s: the medium is damaged, or somebody changed it", want.Digest, got)
	}
	return nil
}

// patient ends reading when the context does.
type patient struct {
	ctx context.Context // of the one call that reads
	r   io.Reader
}

func (p *patient) Read(b []byte) (int, error) {
	if p.ctx.Err() != nil {
		return 0, context.Cause(p.ctx)
	}
	return p.r.Read(b)
}

// readAll reads what must not be larger than max bytes.
func readAll(r io.Reader, what string, max int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, max+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if n > max {
		return nil, fmt.Errorf("%s is larger than %d bytes", what, max)
	}
	return b.Bytes(), nil
}

// missing is an oci.ErrNotFound in words.
func missing(format string, args ...any) error {
	return fmt.Errorf("%w: %s", oci.ErrNotFound, fmt.Sprintf(format, args...))
}
