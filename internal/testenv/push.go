package testenv

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Media types of the artifacts that are pushed.
const (
	MediaFluxConfig     = "application/vnd.cncf.flux.config.v1+json"
	MediaFluxContent    = "application/vnd.cncf.flux.content.v1.tar+gzip"
	MediaHelmConfig     = "application/vnd.cncf.helm.config.v1+json"
	MediaHelmChart      = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	MediaHelmProvenance = "application/vnd.cncf.helm.chart.provenance.v1.prov"
	emptyConfig         = "{}"
	manifestType        = types.OCIManifestSchema1
	indexType           = types.OCIImageIndex
	contentTypeOctets   = "application/octet-stream"
	headerContentType   = "Content-Type"
)

// Layer is one layer of an artifact to push.
type Layer struct {
	MediaType   string
	Data        []byte
	Annotations map[string]string
}

// PushFiles pushes files (path → content) as flux push artifact would and returns the manifest's digest. The same files and annotations have the same digest.
func (r *Registry) PushFiles(repo, tag string, files map[string]string, annotations map[string]string) string {
	return r.PushLayers(repo, tag, MediaFluxConfig, []byte(emptyConfig), annotations, Layer{MediaType: MediaFluxContent, Data: TarGz(files)})
}

// PushChart pushes a chart archive as helm push would, with a provenance layer behind it where one is given, and returns the manifest's digest.
func (r *Registry) PushChart(repo, tag string, chart []byte, provenance ...[]byte) string {
	config, err := chartMetadata(chart)
	if err != nil {
		r.fail(err)
	}
	layers := []Layer{{MediaType: MediaHelmChart, Data: chart}}
	for _, p := range provenance {
		layers = append(layers, Layer{MediaType: MediaHelmProvenance, Data: p})
	}
	return r.PushLayers(repo, tag, MediaHelmConfig, config, nil, layers...)
}

// PushLayers pushes an artifact of any media types and returns the manifest's digest.
func (r *Registry) PushLayers(repo, tag, configType string, config []byte, annotations map[string]string, layers ...Layer) string {
	m := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     manifestType,
		Config:        r.pushBlob(repo, configType, config),
		Layers:        []v1.Descriptor{},
		Annotations:   annotations,
	}
	for _, l := range layers {
		d := r.pushBlob(repo, l.MediaType, l.Data)
		d.Annotations = l.Annotations
		m.Layers = append(m.Layers, d)
	}
	return r.PushManifest(repo, tag, string(manifestType), mustJSON(m))
}

// PushIndex pushes an index over manifests that are there already: platform (os/arch[/variant]) → digest.
func (r *Registry) PushIndex(repo, tag string, platforms map[string]string) string {
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: indexType}
	names := make([]string, 0, len(platforms))
	for p := range platforms {
		names = append(names, p)
	}
	slices.Sort(names)
	for _, p := range names {
		platform, err := v1.ParsePlatform(p)
		if err != nil {
			r.fail(fmt.Errorf("index %s:%s: %w", repo, tag, err))
		}
		hash, err := v1.NewHash(platforms[p])
		if err != nil {
			r.fail(fmt.Errorf("index %s:%s: %w", repo, tag, err))
		}
		size := len(r.do(http.MethodGet, "/v2/"+repo+"/manifests/"+platforms[p], "", nil, http.StatusOK).body)
		index.Manifests = append(index.Manifests, v1.Descriptor{
			MediaType: manifestType, Digest: hash, Size: int64(size), Platform: platform,
		})
	}
	return r.PushManifest(repo, tag, string(indexType), mustJSON(index))
}

// PushManifest puts a manifest as it is under a tag or digest and returns its digest.
func (r *Registry) PushManifest(repo, ref, mediaType string, manifest []byte) string {
	r.do(http.MethodPut, "/v2/"+repo+"/manifests/"+ref, mediaType, manifest, http.StatusCreated)
	return digestOf(manifest)
}

// Tag makes a second tag point to what the first (or a digest) names.
func (r *Registry) Tag(repo, from, to string) {
	res := r.do(http.MethodGet, "/v2/"+repo+"/manifests/"+from, "", nil, http.StatusOK)
	r.PushManifest(repo, to, res.header.Get(headerContentType), res.body)
}

// Delete takes a tag or digest away.
func (r *Registry) Delete(repo, ref string) {
	r.do(http.MethodDelete, "/v2/"+repo+"/manifests/"+ref, "", nil, http.StatusAccepted)
}

// Manifest is the manifest that a tag or digest names, as it is stored.
func (r *Registry) Manifest(repo, ref string) []byte {
	return r.do(http.MethodGet, "/v2/"+repo+"/manifests/"+ref, "", nil, http.StatusOK).body
}

func (r *Registry) pushBlob(repo, mediaType string, data []byte) v1.Descriptor {
	digest := digestOf(data)
	r.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+url.QueryEscape(digest), contentTypeOctets, data, http.StatusCreated)
	hash, err := v1.NewHash(digest)
	if err != nil {
		r.fail(err)
	}
	return v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: hash, Size: int64(len(data))}
}

// do sends a request to the real registry, past the log, the faults and the credentials.
func (r *Registry) do(method, path, contentType string, body []byte, want int) *recorded {
	req, err := http.NewRequest(method, "http://"+r.host+path, bytes.NewReader(body)) //nolint:noctx // answered in this process
	if err != nil {
		r.fail(err)
		return nil
	}
	req.Header.Set(headerContentType, contentType)
	res := r.record(req)
	if res.status != want {
		r.fail(fmt.Errorf("registry: %s %s: status %d: %s", method, path, res.status, res.body))
	}
	return res
}

// page answers a tag list in pages, with the Link header of the distribution spec; the wrapped registry has none.
func (r *Registry) page(w http.ResponseWriter, req *http.Request, size int) {
	n := size
	if asked, err := strconv.Atoi(req.URL.Query().Get("n")); err == nil {
		n = min(asked, size)
	}
	all := req.Clone(req.Context())
	all.URL.RawQuery = ""
	res := r.record(all)
	var list struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	if res.status != http.StatusOK || json.Unmarshal(res.body, &list) != nil {
		res.writeTo(w)
		return
	}
	last := req.URL.Query().Get("last")
	list.Tags = slices.DeleteFunc(list.Tags, func(tag string) bool { return tag <= last })
	if len(list.Tags) > n {
		list.Tags = list.Tags[:n]
		next := url.Values{"n": {strconv.Itoa(n)}, "last": {list.Tags[n-1]}}
		res.header.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, req.URL.Path, next.Encode()))
	}
	res.body = mustJSON(list)
	res.header.Set("Content-Length", strconv.Itoa(len(res.body)))
	res.writeTo(w)
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // manifests are marshalable
	}
	return b
}
