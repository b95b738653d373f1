package build

import (
	"fmt"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/towline/towline/internal/deploy"
)

// manifestsFile is what manifests from elsewhere are called while they are patched.
const manifestsFile = "manifests.yaml"

// Patch applies patches and images to rendered manifests, documents of YAML, and returns them in the same order. It reads nothing else. Errors quote no value.
func Patch(manifests []byte, r deploy.KustomizeRenderer) ([]byte, error) {
	file, err := withChanges(map[string]any{
		"apiVersion": types.KustomizationVersion, "kind": types.KustomizationKind, "resources": []string{manifestsFile},
	}, r.Patches, r.Images)
	if err != nil {
		return nil, err
	}
	fs := filesys.MakeFsInMemory()
	for name, content := range map[string][]byte{"kustomization.yaml": file, manifestsFile: manifests} {
		if err := fs.WriteFile("/"+name, content); err != nil {
			return nil, fmt.Errorf("hand the manifests to kustomize: %w", err)
		}
	}
	resources, err := run(fs, "/", false)
	if err != nil {
		return nil, discreet(err)
	}
	out, err := resources.AsYaml()
	if err != nil {
		return nil, fmt.Errorf("write the patched manifests: %w", discreet(err))
	}
	return out, nil
}
