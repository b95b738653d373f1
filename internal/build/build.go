// Package build turns a folder of an artifact into the objects that a kustomization target wants: kustomize, confined to the artifact.
package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
)

// Options of a Builder; none is required.
type Options struct {
	// Read gives the data of a ConfigMap or Secret, which substitution and decryption ask for. It is called by several builds at once. What is not there is an error
	// that apierrors.IsNotFound knows.
	Read func(ctx context.Context, kind, namespace, name string) (map[string][]byte, error)
}

// Builder builds. The zero value is ready: it fails only for targets that need Read. Safe for concurrent use.
type Builder struct {
	read func(ctx context.Context, kind, namespace, name string) (map[string][]byte, error)
}

// New makes a Builder.
func New(o Options) *Builder { return &Builder{read: o.Read} }

// Build renders the target's path of the artifact that is unpacked in dir. It reads nothing outside of dir, writes nothing and asks no network. The objects come
// in the order in which the files name them, the same in every run; none at all is no error. Those with fields that were filled from secrets, other than the data of
// Secrets, are annotated with deploy.AnnotationSecretFields. Errors name the file below the artifact's root.
func (r Builder) Build(ctx context.Context, t deploy.Target, dir string) ([]*unstructured.Unstructured, error) {
	spec := t.Kustomization
	if spec == nil {
		return nil, fmt.Errorf("%s is not a kustomization: there is nothing to build", t.Name)
	}
	v, err := openView(dir)
	if err != nil {
		return nil, err
	}
	defer v.close()
	start, err := v.start(spec.Path)
	if err != nil {
		return nil, err
	}
	if v.decrypt, err = r.decryption(ctx, t); err != nil {
		return nil, err
	}
	b := &build{view: v, spec: spec, check: checker{view: v, work: make(map[string]int64)}}
	objects, err := b.objects(ctx, start)
	if err != nil {
		return nil, err
	}
	if err := v.decrypt.secrets(objects); err != nil {
		return nil, err
	}
	into := make(filled)
	if err := b.encrypted(ctx, start, objects, into); err != nil {
		return nil, err
	}
	names := idsOf(objects) // before substitution: an error must not show what a variable holds
	if err := r.substitute(ctx, objects, spec.PostBuild, t.Name.Namespace, into); err != nil {
		return nil, err
	}
	if err := unique(objects, names); err != nil {
		return nil, err
	}
	annotate(objects, spec.CommonMetadata)
	into.annotate()
	return objects, nil
}

// build is one call of Build.
type build struct {
	view  *view
	spec  *deploy.KustomizationSpec
	check checker
}

// objects renders the folder: with its own kustomization file if it has one, else all that lies below it.
func (b *build) objects(ctx context.Context, start string) ([]*unstructured.Unstructured, error) {
	components, err := b.components(start)
	if err != nil {
		return nil, err
	}
	file, err := b.view.kustomizationFile(start)
	if err != nil {
		return nil, err
	}
	if file != "" {
		if err := b.check.kustomization(start, false); err != nil {
			return nil, err
		}
		return b.kustomize(ctx, []string{start}, components)
	}
	found, err := b.view.list(ctx, start)
	if err != nil {
		return nil, err
	}
	found = found.without(components)
	plain, err := b.check.generated(found, b.spec.TargetNamespace != "")
	if err != nil {
		return nil, err
	}
	if len(found.files)+len(found.folders)+len(components) == 0 {
		return nil, nil
	}
	if len(found.folders)+len(components) == 0 && !transforms(b.spec) {
		return plain, nil // kustomize would give the same, ten times slower
	}
	return b.kustomize(ctx, found.entries, components)
}

// transforms reports whether the spec changes objects in a way that is kustomize's business.
func transforms(s *deploy.KustomizationSpec) bool {
	return s.TargetNamespace != "" || s.NamePrefix != "" || s.NameSuffix != "" || len(s.Patches) > 0 || len(s.Images) > 0
}

// start is the folder of the artifact that spec.path names.
func (v *view) start(p string) (string, error) {
	clean := path.Clean(strings.TrimPrefix(p, "/"))
	if p == "" {
		clean = "."
	}
	if !local(clean) {
		return "", fmt.Errorf("path %q leaves the artifact: give a path below its root", p)
	}
	at, err := v.canonical(clean)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("path %q is not in the artifact: its root has %s", p, v.roots())
	case err != nil:
		return "", fmt.Errorf("path %q: %w", p, err)
	}
	info, err := v.root.Stat(at)
	if err != nil {
		return "", fmt.Errorf("path %q: %w", p, err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("path %q is a file: give the folder that it is in", p)
	}
	return at, nil
}

// maxRoots bounds how many entries of the root an error lists.
const maxRoots = 8

// roots lists what lies in the artifact's root, for the error of somebody who looked for something else.
func (v *view) roots() string {
	entries, err := fs.ReadDir(v.root.FS(), ".")
	if err != nil || len(entries) == 0 {
		return "nothing"
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			name += "/"
		}
		names = append(names, name)
	}
	if len(names) > maxRoots {
		names = append(names[:maxRoots], "…")
	}
	return strings.Join(names, ", ")
}

// local reports whether a cleaned slash path stays below where it starts.
func local(p string) bool { return fs.ValidPath(p) }

// annotate sets the common metadata on every object, on the object alone: selectors and templates are none of its business.
func annotate(objects []*unstructured.Unstructured, common *deploy.CommonMetadata) {
	if common == nil {
		return
	}
	for _, o := range objects {
		if len(common.Labels) > 0 {
			labels := o.GetLabels()
			if labels == nil {
				labels = make(map[string]string, len(common.Labels))
			}
			maps.Copy(labels, common.Labels)
			o.SetLabels(labels)
		}
		if len(common.Annotations) > 0 {
			annotations := o.GetAnnotations()
			if annotations == nil {
				annotations = make(map[string]string, len(common.Annotations))
			}
			maps.Copy(annotations, common.Annotations)
			o.SetAnnotations(annotations)
		}
	}
}

// idsOf are the ids of the objects, with their versions.
func idsOf(objects []*unstructured.Unstructured) []string {
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = fmt.Sprintf("%s (%s)", deploy.IDOf(o), o.GetAPIVersion())
	}
	return names
}

// unique refuses two objects with one id; kustomize tells them apart by version, the cluster does not. Names are what errors call them.
func unique(objects []*unstructured.Unstructured, names []string) error {
	before := make(map[deploy.ObjectID]int, len(objects))
	for i, o := range objects {
		id := deploy.IDOf(o)
		if first, ok := before[id]; ok {
			return fmt.Errorf("one object is there twice, as %s and as %s: remove one of them", names[first], names[i])
		}
		before[id] = i
	}
	return nil
}

// openView opens an artifact's folder for reading.
func openView(dir string) (*view, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the unpacked artifact: %w", err)
	}
	return newView(root, dir)
}

// found is what lies below a folder without a kustomization file, in the order of its names.
type found struct {
	files   []string // manifests
	folders []string // with a kustomization file of their own
	entries []string // both
}

// list walks a folder. A folder below with a kustomization file of its own is taken as one and not entered.
func (v *view) list(ctx context.Context, dir string) (found, error) {
	var f found
	err := fs.WalkDir(v.root.FS(), dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.IsDir() {
			return f.folder(v, dir, p)
		}
		if !manifest(p) {
			return f.link(v, p, e)
		}
		f.files = append(f.files, p)
		f.entries = append(f.entries, p)
		return nil
	})
	if err != nil {
		return found{}, fmt.Errorf("list %s: %w", dir, err)
	}
	return f, nil
}

func (f *found) folder(v *view, top, p string) error {
	if p == top {
		return nil
	}
	file, err := v.kustomizationFile(p)
	if err != nil || file == "" {
		return err
	}
	f.folders = append(f.folders, p)
	f.entries = append(f.entries, p)
	return fs.SkipDir
}

// link refuses links to folders: to follow them may never end, and to skip them would look like a dropped folder, whose objects are pruned.
func (f *found) link(v *view, p string, e fs.DirEntry) error {
	if e.Type()&fs.ModeSymlink == 0 {
		return nil
	}
	info, err := v.root.Stat(p)
	if err == nil && info.IsDir() {
		return fmt.Errorf("%s is a link to a folder: list it in a kustomization.yaml, or give the folder itself", p)
	}
	return nil
}

// manifest reports whether a file is read where no kustomization file lists it.
func manifest(p string) bool {
	return slices.Contains([]string{".yaml", ".yml"}, path.Ext(p))
}
