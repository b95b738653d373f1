package build

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/kio"

	"github.com/towline/towline/internal/deploy"
)

const (
	// maxWork bounds what kustomize reads in a build, in bytes: a few folders that list two others each, which list two others each, would keep it busy for years.
	maxWork = 256 << 20
	// folderWork is what it takes to enter a folder, as bytes.
	folderWork = 16 << 10
)

// checker looks at all that kustomize is going to read before it does: kustomize would fetch what looks like an address, and its errors neither name files
// well nor keep content to themselves.
type checker struct {
	view *view
	// work are the folders that were checked, with how many bytes kustomize reads to build each: it builds a folder anew for each that lists it.
	work map[string]int64
	// customSchema: one of the kustomization files brings an OpenAPI schema, which kustomize keeps in a variable of the process.
	customSchema bool
}

// generated checks what a generated kustomization lists and returns the objects of the files. With oneNamespace, objects that differ only by namespace collide.
func (c *checker) generated(f found, oneNamespace bool) ([]*unstructured.Unstructured, error) {
	ids := make(map[deploy.ObjectID]string)
	var objects []*unstructured.Unstructured
	for _, file := range f.files {
		found, err := c.manifest(file)
		if err != nil {
			return nil, err
		}
		if err := claim(ids, found, file, oneNamespace); err != nil {
			return nil, err
		}
		objects = append(objects, found...)
	}
	for _, folder := range f.folders {
		if err := c.kustomization(folder, false); err != nil {
			return nil, err
		}
		if err := c.add("", "the path", c.work[folder]); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// claim notes which file an id comes from; a second one is an error that names both.
func claim(ids map[deploy.ObjectID]string, objects []*unstructured.Unstructured, file string, oneNamespace bool) error {
	for _, o := range objects {
		id := deploy.IDOf(o)
		key := id
		if oneNamespace {
			key.Namespace = ""
		}
		if before, ok := ids[key]; ok {
			if before == file {
				return fmt.Errorf("%s is in %s twice: remove one of them", id, file)
			}
			return fmt.Errorf("%s is in %s and in %s: remove one of them", id, before, file)
		}
		ids[key] = file
	}
	return nil
}

func (c *checker) manifest(file string) ([]*unstructured.Unstructured, error) {
	content, err := c.view.content(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if err := c.view.decrypt.unopened(file, content); err != nil {
		return nil, err
	}
	return decode(file, content)
}

// kustomization checks the kustomization file of a folder and all that it refers to. With plugin, what it lists configures plugins instead of being objects.
func (c *checker) kustomization(dir string, plugin bool) error {
	if _, ok := c.work[dir]; ok {
		return nil
	}
	c.work[dir] = folderWork
	file, err := c.view.kustomizationFile(dir)
	if err != nil {
		return err
	}
	if file == "" {
		return fmt.Errorf("%s is listed but has no kustomization.yaml: add one, or list its files", dir)
	}
	content, err := c.view.plain(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	var k types.Kustomization
	if err := k.Unmarshal(content); err != nil {
		return fmt.Errorf("%s: %w", file, discreet(err))
	}
	k.FixKustomization()
	if wrong := k.EnforceFields(); len(wrong) > 0 {
		return fmt.Errorf("%s: %s", file, strings.Join(wrong, "; "))
	}
	if len(k.HelmCharts) > 0 || len(k.HelmChartInflationGenerator) > 0 || k.HelmGlobals != nil {
		return fmt.Errorf("%s: charts are not inflated here: use a helmRelease", file)
	}
	c.customSchema = c.customSchema || len(k.OpenAPI) > 0
	if err := addresses(file, content); err != nil {
		return err
	}
	return c.references(dir, file, &k, plugin)
}

// references follows what a kustomization file lists.
func (c *checker) references(dir, file string, k *types.Kustomization, plugin bool) error {
	if err := c.named(dir, file, k); err != nil {
		return err
	}
	ids := make(map[deploy.ObjectID]string)
	for _, r := range k.Resources {
		if err := c.entry(dir, file, "resources", r, plugin, ids); err != nil {
			return err
		}
	}
	for _, r := range k.Components {
		if err := c.entry(dir, file, "components", r, plugin, ids); err != nil {
			return err
		}
	}
	for field, list := range map[string][]string{"generators": k.Generators, "transformers": k.Transformers, "validators": k.Validators} {
		for _, r := range list {
			if strings.Contains(r, "\n") {
				if err := addresses(file, []byte(r)); err != nil {
					return err
				}
				continue
			}
			if err := c.entry(dir, file, field, r, true, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry checks one path that a kustomization file lists.
func (c *checker) entry(dir, file, field, ref string, plugin bool, ids map[deploy.ObjectID]string) error {
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
	info, err := c.view.root.Stat(at)
	if err != nil {
		return fmt.Errorf("%s: %s: %s: %w", file, field, ref, err)
	}
	if info.IsDir() {
		if err := c.kustomization(at, plugin); err != nil {
			return err
		}
		return c.add(dir, file, c.work[at])
	}
	if err := c.add(dir, file, info.Size()); err != nil {
		return err
	}
	if plugin {
		content, err := c.view.content(at)
		if err != nil {
			return fmt.Errorf("read %s: %w", at, err)
		}
		return addresses(at, content)
	}
	found, err := c.manifest(at)
	if err != nil {
		return err
	}
	return claim(ids, found, at, false)
}

// add notes work that building a folder takes.
func (c *checker) add(dir, file string, work int64) error {
	if c.work[dir] += work; c.work[dir] > maxWork {
		return fmt.Errorf("%s lists folders that list others, and so on, so that kustomize would read more than %d MiB: list each folder once", file, maxWork>>20)
	}
	return nil
}

// The fields whose entries kustomize reads: folderKeys may name repositories to clone, fileKeys files to fetch.
var (
	folderKeys = []string{"resources", "bases", "components", "generators", "transformers", "validators"}
	fileKeys   = []string{
		"path", "paths", "file", "files", "env", "envs", "crds", "configurations", "patches", "patchesStrategicMerge", "valuesFile", "additionalValuesFiles",
	}
)

// addresses refuses a kustomization file, or the configuration of a plugin, that refers to something on the network.
func addresses(file string, content []byte) error {
	nodes, err := kio.FromBytes(content)
	if err != nil {
		return fmt.Errorf("%s is not YAML: %w", file, discreet(err))
	}
	for _, n := range nodes {
		var tree any
		if n.IsNilOrEmpty() {
			continue
		}
		if err := n.YNode().Decode(&tree); err != nil {
			return fmt.Errorf("%s: %w", file, discreet(err))
		}
		if key, ref := remote(tree, ""); ref != "" {
			return fmt.Errorf("%s: %s: %s is not in the artifact, and nothing is fetched from elsewhere: put it into the artifact", file, key, ref)
		}
	}
	return nil
}

// remote finds the first entry below a field that kustomize would fetch.
func remote(tree any, key string) (string, string) {
	switch v := tree.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if found, ref := remote(v[k], k); ref != "" {
				return found, ref
			}
		}
	case []any:
		for _, e := range v {
			if found, ref := remote(e, key); ref != "" {
				return found, ref
			}
		}
	case string:
		if strings.Contains(v, "\n") {
			return "", "" // inline content
		}
		ref := strings.TrimSpace(v)
		if _, file, ok := strings.Cut(ref, "="); ok && slices.Contains(fileKeys, key) {
			ref = file // key=path
		}
		if (slices.Contains(folderKeys, key) && repository.MatchString(ref)) || (slices.Contains(fileKeys, key) && fetched.MatchString(ref)) {
			return key, ref
		}
	}
	return "", ""
}

var (
	// fetched is what kustomize reads over HTTP.
	fetched = regexp.MustCompile(`(?i)^https?:`)
	// repository is what kustomize fetches or clones: its parser of addresses takes more forms than git, these patterns take all of them.
	repository = regexp.MustCompile(`(?i)^(https?:|ssh:|file:|git::|[a-z][a-z0-9-]*@|github\.com[/:])|://`)
)
