package artifact

import (
	"errors"
	"fmt"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/deploy"
)

// selectorHash is how many hex digits of the selector's hash tell entries of one artifact apart.
const selectorHash = 12

// selector is a LayerSelector with its defaults.
type selector struct {
	mediaType string // "": the first layer
	copy      bool
}

func newSelector(l *deploy.LayerSelector) selector {
	if l == nil {
		return selector{}
	}
	return selector{mediaType: l.MediaType, copy: l.Operation == deploy.OperationCopy}
}

// hash names the selector among those of one digest. The architecture is in it, for an index leads to another layer on another machine.
func (s selector) hash() string {
	return deploy.HashOf([]any{s.mediaType, s.copy, runtime.GOARCH})[:selectorHash]
}

// choose takes the first layer, or the first with exactly the media type.
func (s selector) choose(layers []v1.Descriptor) (v1.Descriptor, error) {
	if len(layers) == 0 {
		return v1.Descriptor{}, errors.New("the artifact has no layers")
	}
	there := make([]string, len(layers))
	for i, l := range layers {
		if s.mediaType == "" || string(l.MediaType) == s.mediaType {
			return l, nil
		}
		there[i] = string(l.MediaType)
	}
	return v1.Descriptor{}, fmt.Errorf("the artifact has no layer of media type %s: it has %s; check layerSelector.mediaType", s.mediaType, list(there))
}
