package layout

import (
	"bytes"
	"encoding/json"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The media types of an artifact of plain files, as Flux has them.
const (
	ConfigMediaType = types.MediaType("application/vnd.cncf.flux.config.v1+json")
	LayerMediaType  = types.MediaType("application/vnd.cncf.flux.content.v1.tar+gzip")
)

// AnnotationCreated says when an artifact was made (OCI image spec, annotations.md); NoTime is what an artifact says that is made reproducibly, as with Flux.
const (
	AnnotationCreated = "org.opencontainers.image.created"
	NoTime            = "1970-01-01T00:00:00Z"
)

// emptyConfig is the content of every config: what there is to say about an artifact is said by the manifest's annotations.
const emptyConfig = "{}"

// ManifestOf makes the manifest of an artifact of plain files, and the config that it names. Equal input makes equal bytes. The layer's media type is set where it has none.
func ManifestOf(layer v1.Descriptor, annotations map[string]string) (raw, config []byte) {
	config = []byte(emptyConfig)
	sum, _, err := v1.SHA256(bytes.NewReader(config))
	if err == nil {
		if layer.MediaType == "" {
			layer.MediaType = LayerMediaType
		}
		raw, err = json.Marshal(v1.Manifest{
			SchemaVersion: 2,
			MediaType:     types.OCIManifestSchema1,
			Config:        v1.Descriptor{MediaType: ConfigMediaType, Size: int64(len(config)), Digest: sum},
			Layers:        []v1.Descriptor{layer},
			Annotations:   annotations,
		})
	}
	if err != nil {
		panic(err) // reading a slice and encoding strings, numbers and maps of strings cannot fail
	}
	return raw, config
}
