package artifact

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/artifact/store"
	"github.com/towline/towline/internal/deploy"
)

// fetched is an artifact that is in the cache.
type fetched struct{ entry *store.Entry }

// Fetch returns the artifact with the pin's digest, from the cache if it is there and intact, else from the registry. The folder of the revision stays as it is
// until Prune. Callers that want the same artifact at once share one pull.
func (s *Store) Fetch(ctx context.Context, src deploy.Source, pin deploy.Pin) (deploy.Revision, error) {
	a, err := s.access(src)
	if err != nil {
		return deploy.Revision{}, fmt.Errorf("fetch %s: %w", src.Name, err)
	}
	if _, err := v1.NewHash(pin.Digest); err != nil { // it becomes a part of a path
		return deploy.Revision{}, fmt.Errorf("fetch %s: %w", a.Repo, err)
	}
	cache, err := s.open()
	if err != nil {
		return deploy.Revision{}, err
	}
	sel := newSelector(src.Spec.LayerSelector)
	entry := store.EntryName(pin.Digest, sel.hash())
	// A pull is shared only among those who come with the same credentials: one source's refusal is not another's.
	key := fmt.Sprintf("%s|%s|%s|%t", entry, a.Repo, a.Owner, a.Insecure)
	got, err := s.flights.do(ctx, key, func(ctx context.Context) (*fetched, error) {
		s.checks <- struct{}{}
		e, damage, err := cache.Get(entry)
		<-s.checks
		if damage != nil {
			s.opts.Log.Warn("cached artifact was damaged", zap.String("entry", damage.Entry), zap.Bool("repaired", damage.Repaired), zap.Error(damage.Err))
		}
		if e == nil && err == nil {
			e, err = s.pull(ctx, cache, a, pin, sel, entry)
		}
		return &fetched{e}, err
	})
	if err != nil {
		return deploy.Revision{}, fmt.Errorf("fetch %s@%s: %w", a.Repo, pin.Digest, hint(err, a))
	}
	return deploy.Revision{
		Source:      src.Name,
		Ref:         pin.Ref,
		Digest:      pin.Digest,
		Dir:         got.entry.Dir,
		File:        got.entry.File,
		Annotations: maps.Clone(got.entry.Annotations),
		Seen:        time.Now(),
	}, nil
}

// pull brings an artifact from the registry into the cache. Each step is checked against the digest that the step before it named.
func (s *Store) pull(ctx context.Context, cache *store.Cache, a oci.Access, pin deploy.Pin, sel selector, entry string) (*store.Entry, error) {
	release, err := s.slot(ctx, a.Repo.RegistryStr())
	if err != nil {
		return nil, err
	}
	defer release()
	digest := pin.Digest
	m, raw, err := s.manifest(ctx, a, digest)
	if err != nil {
		return nil, err
	}
	annotations := m.Annotations
	if m.isIndex() {
		child, err := choosePlatform(m.Manifests)
		if err != nil {
			return nil, err
		}
		digest = child.Digest.String()
		if m, raw, err = s.manifest(ctx, a, digest); err != nil {
			return nil, fmt.Errorf("manifest for %s: %w", child.Platform, err)
		}
		if m.isIndex() {
			return nil, fmt.Errorf("the artifact is an index of indexes: that is not supported")
		}
		annotations = merge(annotations, m.Annotations)
	}
	layer, err := sel.choose(m.Layers)
	if err != nil {
		return nil, err
	}
	return cache.Put(entry, store.Item{
		Digest: pin.Digest, ManifestDigest: digest, Manifest: raw, Annotations: annotations, Layer: layer, Copy: sel.copy,
		Pull: func(w io.Writer) error { return s.client.Blob(ctx, a, layer, w) },
	})
}

// document is a manifest or an index.
type document struct {
	Layers      []v1.Descriptor   `json:"layers"`
	Manifests   []v1.Descriptor   `json:"manifests"`
	Annotations map[string]string `json:"annotations"`
}

func (d *document) isIndex() bool { return d.Layers == nil && d.Manifests != nil }

func (s *Store) manifest(ctx context.Context, a oci.Access, digest string) (*document, []byte, error) {
	raw, err := s.client.Manifest(ctx, a, digest)
	if err != nil {
		return nil, nil, err
	}
	d := &document{}
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, nil, fmt.Errorf("the manifest is not JSON: %w", err)
	}
	if d.Layers == nil && d.Manifests == nil {
		return nil, nil, fmt.Errorf("the manifest is neither an OCI image manifest nor an index")
	}
	return d, raw, nil
}

// choosePlatform picks from an index: Linux on this machine's architecture, then Linux on amd64, then the only one there is. Manifests for no platform
// (unknown/unknown: attestations) are passed over.
func choosePlatform(all []v1.Descriptor) (v1.Descriptor, error) {
	all = slices.DeleteFunc(slices.Clone(all), func(d v1.Descriptor) bool {
		return d.Platform != nil && (d.Platform.OS == "unknown" || d.Platform.Architecture == "unknown")
	})
	for _, arch := range []string{runtime.GOARCH, "amd64"} {
		for _, d := range all {
			if d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == arch {
				return d, nil
			}
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	there := make([]string, len(all))
	for i, d := range all {
		if there[i] = "no platform"; d.Platform != nil {
			there[i] = d.Platform.String()
		}
	}
	return v1.Descriptor{}, fmt.Errorf("the artifact is an index without linux/%s or linux/amd64: it has %s", runtime.GOARCH, list(there))
}

// merge is both maps; the second wins.
func merge(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	if out == nil {
		return b
	}
	maps.Copy(out, b)
	return out
}

func list(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}
