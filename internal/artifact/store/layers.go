package store

import (
	"io"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// DefaultLayers are those that make an artifact's tree where nobody chose: the first one, or all where each is a plain file.
func DefaultLayers(layers []v1.Descriptor) []v1.Descriptor {
	if slices.ContainsFunc(layers, func(l v1.Descriptor) bool { return !plainFile(l) }) {
		return layers[:1]
	}
	return layers
}

// plainFile reports whether a layer is a file with a name, as oras pushes them, and not an archive.
func plainFile(l v1.Descriptor) bool {
	return l.Annotations[titleAnnotation] != "" && l.Annotations[unpackAnnotation] == "" && !strings.Contains(string(l.MediaType), "tar")
}

// UnpackLayers puts layers into one tree below root, which must be empty, as Cache.Put does. What open returns is checked by nobody; it is closed.
func UnpackLayers(root *os.Root, layers []v1.Descriptor, open func(v1.Descriptor) (io.ReadCloser, error), limits Limits) error {
	u := newUnpacker(root, limits)
	for _, l := range layers {
		r, err := open(l)
		if err != nil {
			return err
		}
		err = u.layer(r, l)
		_ = r.Close() // only read
		if err != nil {
			return err
		}
	}
	return u.makeLinks()
}
