package artifact

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/store"
	"github.com/towline/towline/internal/deploy"
)

// selectorHash is how many hex digits of the selector's hash tell entries of one artifact apart.
const selectorHash = 12

// selector says what of an artifact is kept.
type selector struct {
	mediaType string // "": the first layer
	copy      bool
	any       bool // nothing was said of layers: plain files may be taken together
	platform  string
	ignore    *string
}

func newSelector(s deploy.SourceSpec) selector {
	sel := selector{any: s.LayerSelector == nil, platform: s.Platform, ignore: s.Ignore}
	if l := s.LayerSelector; l != nil {
		sel.mediaType, sel.copy = l.MediaType, l.Operation == deploy.OperationCopy
	}
	return sel
}

// hash names the selector among those of one digest. The architecture is in it, for an index leads to another layer on another machine.
func (s selector) hash() string {
	return deploy.HashOf([]any{s.mediaType, s.copy, s.any, s.platform, s.ignore, runtime.GOARCH})[:selectorHash]
}

// choose takes the first layer, or the first with exactly the media type. Where nothing was said and the layers are plain files, one each, it takes all of them.
func (s selector) choose(layers []v1.Descriptor) ([]v1.Descriptor, error) {
	if len(layers) == 0 {
		return nil, errors.New("the artifact has no layers")
	}
	if s.any {
		return store.DefaultLayers(layers), nil
	}
	there := make([]string, len(layers))
	for i, l := range layers {
		if s.mediaType == "" || string(l.MediaType) == s.mediaType {
			return layers[i : i+1], nil
		}
		there[i] = string(l.MediaType)
	}
	return nil, fmt.Errorf("the artifact has no layer of media type %s: it has %s; check layerSelector.mediaType", s.mediaType, list(there))
}

// choosePlatform picks from an index, as store.ForPlatform does.
func (s selector) choosePlatform(all []v1.Descriptor) (v1.Descriptor, error) {
	d, ok, err := store.ForPlatform(all, s.platform)
	if err != nil || ok {
		return d, err
	}
	want := s.platform
	if want == "" {
		want = strings.Join(slices.Compact([]string{"linux/" + runtime.GOARCH, "linux/amd64"}), " or ")
	}
	var there []string
	for _, m := range store.WithoutAttestations(all) {
		if m.Platform == nil {
			there = append(there, "no platform")
		} else {
			there = append(there, m.Platform.String())
		}
	}
	return d, fmt.Errorf("the artifact is an index without %s: it has %s", want, list(there))
}

func list(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}
