package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/renameio/v2"

	"github.com/towline/towline/internal/artifact/oci"
)

// annotationRef holds a manifest's tag in an image layout (OCI image spec, annotations.md).
const annotationRef = "org.opencontainers.image.ref.name"

// maxSaved bounds how many manifests one artifact and its signatures may have: an index with every platform and some signatures has dozens.
const maxSaved = 512

// maxSavedBlob bounds a blob, in bytes: what is larger is no artifact that an agent takes.
const maxSavedBlob = 1 << 30

// SavedFrom is where artifacts are saved from: a Reader with signatures.
type SavedFrom interface {
	Reader
	Referrers(ctx context.Context, digest string) ([]v1.Descriptor, error)
}

// Saved says what was saved.
type Saved struct {
	Digest string
	// Signatures is how many manifests were saved that refer to the artifact: signatures of Cosign and Notation, and whatever else was attached.
	Signatures int
}

// Save copies an artifact with all its platforms and signatures into an OCI image layout, which is made where it is missing. What is in the layout stays, but for the
// tag, which moves. Blobs that are there are not pulled again. The index is replaced last and at once: an interrupted copy leaves the layout as it was, with blobs that
// nobody names.
func Save(ctx context.Context, r SavedFrom, ref Ref, dir string, tell Progress) (Saved, error) {
	digest, err := resolve(ctx, r, ref)
	if err != nil {
		return Saved{}, err
	}
	if err := mayBeLayout(dir); err != nil {
		return Saved{}, err
	}
	s := &saver{from: r, dir: dir, meter: meter{tell: tell}, seen: map[string]bool{}}
	if err := os.MkdirAll(filepath.Join(dir, "blobs"), 0o755); err != nil {
		return Saved{}, fmt.Errorf("make the layout: %w", err)
	}
	artifact, err := s.manifest(ctx, digest)
	if err != nil {
		return Saved{}, err
	}
	tag := ref.Tag
	if tag == "" && ref.Digest == "" {
		tag = ref.orLatest().Tag
	}
	add := []v1.Descriptor{named(artifact, tag)}
	attached, err := s.attached(ctx, digest)
	if err != nil {
		return Saved{}, fmt.Errorf("signatures of %s: %w", digest, err)
	}
	if err := s.writeIndex(append(add, attached...)); err != nil {
		return Saved{}, err
	}
	return Saved{Digest: digest, Signatures: len(attached)}, nil
}

// mayBeLayout refuses a folder that is full of something else, such as one of manifests: a layout's files are not to be among them.
func mayBeLayout(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the layout: %w", err)
	}
	if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return slices.Contains(layoutNames, e.Name()) }) {
		return fmt.Errorf("%s is no OCI image layout, and not empty: name a layout, or a folder that is empty or not there yet", dir)
	}
	return nil
}

// layoutNames are in every layout, the last one also in one whose first copy broke off.
var layoutNames = []string{"oci-layout", "index.json", "blobs"}

// named is a descriptor with a tag.
func named(d v1.Descriptor, tag string) v1.Descriptor {
	if tag != "" {
		d.Annotations = map[string]string{annotationRef: tag}
	}
	return d
}

// saver copies into one layout.
type saver struct {
	from  SavedFrom
	dir   string
	meter meter
	seen  map[string]bool // manifests, by digest
}

// manifest saves a manifest and all that it names, children of an index included.
func (s *saver) manifest(ctx context.Context, digest string) (v1.Descriptor, error) {
	raw, err := s.from.Manifest(ctx, digest)
	if err != nil {
		return v1.Descriptor{}, err
	}
	var m struct {
		MediaType    types.MediaType `json:"mediaType"`
		ArtifactType string          `json:"artifactType"`
		Config       *v1.Descriptor  `json:"config"`
		Layers       []v1.Descriptor `json:"layers"`
		Manifests    []v1.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return v1.Descriptor{}, fmt.Errorf("manifest %s: %w", digest, err)
	}
	hash, err := v1.NewHash(digest)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: m.MediaType, Digest: hash, Size: int64(len(raw)), ArtifactType: m.ArtifactType}
	if d.MediaType == "" { // the field is optional in the OCI image spec
		if d.MediaType = types.OCIManifestSchema1; m.Manifests != nil {
			d.MediaType = types.OCIImageIndex
		}
	}
	if s.seen[digest] {
		return d, nil
	}
	if s.seen[digest] = true; len(s.seen) > maxSaved {
		return v1.Descriptor{}, fmt.Errorf("the artifact has more than %d manifests", maxSaved)
	}
	for _, child := range m.Manifests {
		if _, err := s.manifest(ctx, child.Digest.String()); err != nil {
			return v1.Descriptor{}, err
		}
	}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append([]v1.Descriptor{*m.Config}, blobs...)
	}
	for _, b := range blobs {
		if err := s.blob(ctx, b); err != nil {
			return v1.Descriptor{}, err
		}
	}
	return d, s.write(hash, func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
}

func (s *saver) blob(ctx context.Context, d v1.Descriptor) error {
	if d.Size > maxSavedBlob {
		return fmt.Errorf("blob %s has %d bytes: more than %d are not saved", d.Digest, d.Size, maxSavedBlob)
	}
	if info, err := os.Stat(s.path(d.Digest)); err == nil && info.Size() == d.Size {
		return nil
	}
	return s.write(d.Digest, func(w io.Writer) error { return s.from.Blob(ctx, d, io.MultiWriter(w, &s.meter)) })
}

func (s *saver) path(h v1.Hash) string { return filepath.Join(s.dir, "blobs", h.Algorithm, h.Hex) }

// write puts a blob to its place when it is whole.
func (s *saver) write(h v1.Hash, fill func(io.Writer) error) error {
	path := s.path(h)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	defer func() { _ = f.Cleanup() }() // nothing, once it is replaced
	if err := fill(f); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	return nil
}

// attached saves what refers to a digest: referrers, and the signature that Cosign 2 leaves under a tag.
func (s *saver) attached(ctx context.Context, digest string) ([]v1.Descriptor, error) {
	referrers, err := s.from.Referrers(ctx, digest)
	if err != nil {
		return nil, err
	}
	var out []v1.Descriptor
	for _, r := range referrers {
		d, err := s.manifest(ctx, r.Digest.String())
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	hash, err := v1.NewHash(digest)
	if err != nil {
		return nil, err
	}
	tag := hash.Algorithm + "-" + hash.Hex + ".sig"
	signature, err := s.from.Digest(ctx, tag)
	if errors.Is(err, oci.ErrNotFound) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	d, err := s.manifest(ctx, signature)
	return append(out, named(d, tag)), err
}

// writeIndex adds descriptors to the layout's index. A tag that is in there moves; what has none is there once.
func (s *saver) writeIndex(add []v1.Descriptor) error {
	path := filepath.Join(s.dir, "index.json")
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		layout := []byte(`{"imageLayoutVersion":"1.0.0"}`)
		if err := renameio.WriteFile(filepath.Join(s.dir, "oci-layout"), layout, 0o644); err != nil {
			return fmt.Errorf("write the layout: %w", err)
		}
	case err != nil:
		return fmt.Errorf("read the layout: %w", err)
	default:
		if err := json.Unmarshal(raw, &index); err != nil {
			return fmt.Errorf("read the layout: index.json: %w", err)
		}
	}
	for _, d := range add {
		index.Manifests = slices.DeleteFunc(index.Manifests, func(old v1.Descriptor) bool {
			if tag := d.Annotations[annotationRef]; tag != "" {
				return old.Annotations[annotationRef] == tag
			}
			return old.Annotations[annotationRef] == "" && old.Digest == d.Digest
		})
		index.Manifests = append(index.Manifests, d)
	}
	raw, err = json.MarshalIndent(index, "", "  ")
	if err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	if err := renameio.WriteFile(path, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	return nil
}
