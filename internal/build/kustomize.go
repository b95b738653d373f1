package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/towline/towline/internal/deploy"
)

// kustomize builds the entries with the components and the spec's own changes on top.
func (b *build) kustomize(ctx context.Context, entries, components []string) ([]*unstructured.Unstructured, error) {
	overlay, err := overlay(b.spec, entries, components)
	if err != nil {
		return nil, err
	}
	b.view.overlay = overlay
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	resources, err := run(b.view, b.view.overlayDir, b.check.customSchema)
	if failed := b.view.decrypt.failed; failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, fmt.Errorf("kustomize: %w", discreet(err))
	}
	objects := make([]*unstructured.Unstructured, 0, resources.Size())
	for _, r := range resources.Resources() {
		raw, err := r.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("kustomize: convert %s: %w", r.CurId(), discreet(err))
		}
		o, err := fromJSON(raw)
		if err != nil {
			return nil, fmt.Errorf("kustomize: %w", err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// overlay is the kustomization file that stands on top of what the artifact has: it is JSON, which is YAML too.
func overlay(s *deploy.KustomizationSpec, entries, components []string) ([]byte, error) {
	k := map[string]any{"apiVersion": types.KustomizationVersion, "kind": types.KustomizationKind}
	k["resources"] = fromOverlay(entries)
	if len(components) > 0 {
		k["components"] = fromOverlay(components)
	}
	for key, value := range map[string]string{"namespace": s.TargetNamespace, "namePrefix": s.NamePrefix, "nameSuffix": s.NameSuffix} {
		if value != "" {
			k[key] = value
		}
	}
	return withChanges(k, s.Patches, s.Images)
}

// withChanges adds patches and images to a kustomization file and writes it as JSON.
func withChanges(k map[string]any, patches []deploy.Patch, images []deploy.Image) ([]byte, error) {
	patches = slices.Clone(patches)
	for i, p := range patches {
		var content any
		if err := yaml.Unmarshal([]byte(p.Patch), &content); err != nil {
			return nil, fmt.Errorf("patches[%d].patch is not YAML: %w", i, discreet(err))
		}
		if _, list := content.([]any); list { // kustomize takes what begins with [ for JSON
			if text, err := json.Marshal(content); err == nil {
				patches[i].Patch = string(text)
			}
		}
	}
	if len(patches) > 0 {
		k["patches"] = patches
	}
	if len(images) > 0 {
		k["images"] = images
	}
	b, err := json.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("generate a kustomization: %w", err)
	}
	return b, nil
}

// fromOverlay are paths of the artifact as seen from the overlay's folder.
func fromOverlay(paths []string) []string {
	seen := make([]string, len(paths))
	for i, p := range paths {
		seen[i] = path.Join("..", artifactDir, p)
	}
	return seen
}

// schema guards kustomize's OpenAPI schema, which it keeps in variables of the process: builds that only read it run side by side, one that brings a schema of
// its own runs alone and leaves the built-in one behind. The variables are filled before the first reader, because kustomize fills them without a lock.
var schema struct {
	sync.RWMutex
	filled bool
}

// fill parses the built-in schema. The caller holds the lock for writing.
func fill() {
	openapi.SchemaForResourceType(yaml.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"})
	schema.filled = true
}

// run is kustomize itself, in a folder of a file system.
func run(v filesys.FileSystem, dir string, customSchema bool) (resmap.ResMap, error) {
	if customSchema {
		schema.Lock()
		defer schema.Unlock()
		openapi.ResetOpenAPI()
		defer fill()
		defer openapi.ResetOpenAPI()
		return safely(v, dir)
	}
	schema.Lock()
	if !schema.filled {
		fill()
	}
	schema.Unlock()
	schema.RLock()
	defer schema.RUnlock()
	return safely(v, dir)
}

// safely turns kustomize's panics, for instance over a schema that is none, into errors.
func safely(v filesys.FileSystem, dir string) (m resmap.ResMap, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("it failed on something that it cannot read: check patches and the openapi field")
		}
	}()
	// The file system is the artifact and nothing else, so that the restriction to the kustomization's own folder, which would forbid ../shared.yaml, is not needed.
	opts := &krusty.Options{Reorder: krusty.ReorderOptionNone, LoadRestrictions: types.LoadRestrictionsNone, PluginConfig: types.DisabledPluginConfig()}
	return krusty.MakeKustomizer(opts).Run(v, dir)
}
