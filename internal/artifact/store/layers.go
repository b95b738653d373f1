package store

import (
	"fmt"
	"io"
	"os"
	"runtime"
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

// ForPlatform is the one of an index's manifests that is for the platform (os/arch[/variant]). Where none was asked for, it is the one for Linux on this machine's
// architecture, else for Linux on amd64, else the only one there is. Attestations are passed over. False: there is none;
// the error is for a platform that cannot be read.
func ForPlatform(all []v1.Descriptor, platform string) (v1.Descriptor, bool, error) {
	all = WithoutAttestations(all)
	want := []string{"linux/" + runtime.GOARCH, "linux/amd64"}
	if platform != "" {
		want = []string{platform}
	}
	for _, w := range want {
		p, err := v1.ParsePlatform(w)
		if err != nil {
			return v1.Descriptor{}, false, fmt.Errorf("platform %q: %w", w, err)
		}
		for _, d := range all {
			if d.Platform != nil && d.Platform.Satisfies(*p) {
				return d, true, nil
			}
		}
	}
	if len(all) == 1 && platform == "" {
		return all[0], true, nil
	}
	return v1.Descriptor{}, false, nil
}

// WithoutAttestations leaves out of an index's manifests those for no platform (unknown/unknown).
func WithoutAttestations(all []v1.Descriptor) []v1.Descriptor {
	return slices.DeleteFunc(slices.Clone(all), func(d v1.Descriptor) bool {
		return d.Platform != nil && (d.Platform.OS == "unknown" || d.Platform.Architecture == "unknown")
	})
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
