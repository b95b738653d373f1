package build

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"sigs.k8s.io/kustomize/api/types"
)

// components are the folders of the spec's components below the artifact's root, checked, in the order of the spec.
func (b *build) components(start string) ([]string, error) {
	var folders []string
	for _, c := range b.spec.Components {
		at := path.Join(start, c)
		if path.IsAbs(c) || !local(at) {
			return nil, fmt.Errorf("components: %s leaves the artifact: give a folder in it, relative to the spec's path", c)
		}
		folder, err := b.view.canonical(at)
		if errors.Is(err, fs.ErrNotExist) {
			if b.spec.IgnoreMissingComponents {
				continue
			}
			return nil, fmt.Errorf("components: %s is not in the artifact: there is no %s", c, at)
		}
		if err != nil {
			return nil, fmt.Errorf("components: %s: %w", c, err)
		}
		if err := b.check.component(c, folder); err != nil {
			return nil, err
		}
		folders = append(folders, folder)
	}
	return folders, nil
}

// component checks the folder of a component of the spec and all that it refers to.
func (c *checker) component(name, folder string) error {
	info, err := c.view.root.Stat(folder)
	if err != nil {
		return fmt.Errorf("components: %s: %w", name, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("components: %s is no component: %s is a file", name, folder)
	}
	file, err := c.view.kustomizationFile(folder)
	if err != nil {
		return err
	}
	if file == "" {
		return fmt.Errorf("components: %s is no component: %s has no kustomization.yaml", name, folder)
	}
	content, err := c.view.plain(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	var k types.Kustomization
	if err := k.Unmarshal(content); err != nil {
		return fmt.Errorf("%s: %w", file, discreet(err))
	}
	if k.Kind != types.ComponentKind {
		return fmt.Errorf("components: %s is no component: %s has the kind %s, not %s", name, file, kindOf(k.Kind), types.ComponentKind)
	}
	return c.kustomization(folder, false)
}

// kindOf is the kind that kustomize takes a kustomization file for.
func kindOf(kind string) string {
	if kind == "" {
		return types.KustomizationKind
	}
	return kind
}

// without drops folders that are components from what was found: kustomize takes a component for nothing else.
func (f found) without(components []string) found {
	component := func(p string) bool { return slices.Contains(components, p) }
	f.folders = slices.DeleteFunc(f.folders, component)
	f.entries = slices.DeleteFunc(f.entries, component)
	return f
}
