package build

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
)

// named checks the files with patches and replacements that a kustomization file names. Kustomize would stop at them too, but its error quotes the whole patch and is
// cut before it comes to the reason.
func (c *checker) named(dir, file string, k *types.Kustomization) error {
	for _, p := range slices.Concat(k.Patches, k.PatchesJson6902) { //nolint:staticcheck // deprecated, and what people still have
		if err := c.file(dir, file, "patches", p.Path); err != nil {
			return err
		}
	}
	for _, p := range k.PatchesStrategicMerge { //nolint:staticcheck // as above
		if strings.ContainsAny(string(p), ":{\n") {
			continue // the patch itself
		}
		if err := c.file(dir, file, "patchesStrategicMerge", string(p)); err != nil {
			return err
		}
	}
	for _, r := range k.Replacements {
		if err := c.file(dir, file, "replacements", r.Path); err != nil {
			return err
		}
	}
	return nil
}

// file checks that a file which a kustomization file names is in the artifact.
func (c *checker) file(dir, file, field, ref string) error {
	if ref == "" {
		return nil
	}
	at := path.Join(dir, ref)
	if path.IsAbs(ref) || !local(at) {
		return fmt.Errorf("%s: %s: %s is outside of the artifact: put what you need into the artifact", file, field, ref)
	}
	at, err := c.view.canonical(at)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %s: %s is not in the artifact", file, field, ref)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %s: %w", file, field, ref, err)
	}
	if _, err := c.view.content(at); errors.Is(err, errAliases) || errors.Is(err, errCircle) {
		return fmt.Errorf("read %s: %w", at, err)
	}
	return nil
}
